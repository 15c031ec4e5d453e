"""Visitors, rushes and recorded requests."""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bitville_apm import reading
from bitville_apm.demo import recorded, traffic
from bitville_apm.demo.traffic import Crowd, Traffic
from bitville_apm.demo.visits import CUSTOMERS, PAGES, ROUTES, Visit, Visits
from tests.demo.standin import Standin


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_first_pages_are_visited_most() -> None:
    """Pages and products follow Zipf: the n-th is asked for about 1/n as often as the first; the rare ones too."""
    visits = Visits(random.Random(1))
    seen = [visits.next() for _ in range(20_000)]
    products = Counter(visit.uri for visit in seen if visit.uri.startswith("/product/"))
    assert 1.6 < products["/product/1"] / products["/product/2"] < 2.5
    pages = Counter((visit.method, visit.uri) for visit in seen)
    for page in (("POST", "/checkout"), ("GET", "/recommendations"), ("POST", "/voucher")):
        assert 0.01 < pages[page] / len(seen) < 0.06


def test_the_same_chance_gives_the_same_visits() -> None:
    """A run can be repeated."""
    one, other = Visits(random.Random(7)), Visits(random.Random(7))
    assert [one.next() for _ in range(100)] == [other.next() for _ in range(100)]


def test_every_page_has_its_route() -> None:
    """What a page is called by the shop is known for each, so that a trouble can be told to one endpoint."""
    routes = (Path(traffic.__file__).parent / "shop" / "index.php").read_text()
    assert set(ROUTES) == set(PAGES) - {"missing"}
    for page, route in ROUTES.items():
        assert f"'{route}' =>" in routes
        asked = Visits(random.Random(1)).of(page)
        pattern = route.partition(" ")[2].replace("{id}", r"\d+").replace("{slug}", "[a-z-]+")
        assert re.fullmatch(pattern, asked.uri.partition("?")[0])
        assert asked.method == route.partition(" ")[0]


def test_a_robot_has_one_address() -> None:
    """A crawler reads many pages, all from one network; visitors have one each."""
    visits = Visits(random.Random(1))
    crawled = [visits.crawl() for _ in range(200)]
    assert len({visit.client for visit in crawled}) == 1
    assert len({visit.uri.split("/")[1].partition("?")[0] for visit in crawled}) >= 6
    assert len({visits.next().client.rpartition(".")[0] for _ in range(500)}) == CUSTOMERS


def test_a_crowd_asks_again_and_again() -> None:
    """A crowd of three never has more than three questions open, asks the next as soon as it can, and stops."""
    now, most, lock = [0], [0], threading.Lock()

    def ask(_visit: Visit) -> tuple[int, bytes]:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        return 200, b""

    counts = traffic.Counts()
    crowd = Crowd(ask, lambda: Visits(random.Random(1)).of("home"), 3, counts)
    crowd.start()
    wait_for(lambda: counts.answered > 30)
    crowd.stop()
    answered = counts.answered
    assert (most[0], now[0]) == (3, 0)
    time.sleep(0.05)
    assert counts.answered == answered


def test_traffic_keeps_its_rate() -> None:
    """At 100 visits a second about 100 a second are answered; a visitor does not wait for another."""
    asked: list[Visit] = []

    def ask(visit: Visit) -> tuple[int, bytes]:
        asked.append(visit)
        time.sleep(0.02)
        return 200, b""

    visitors = Traffic(ask, rate=100, chance=random.Random(3))
    visitors.start()
    time.sleep(2)
    visitors.stop()
    assert 60 < len(asked) < 300  # fewer than 200 on a busy machine
    assert visitors.counts.answered == len(asked)


def test_a_shop_that_hangs_piles_nothing_up() -> None:
    """When nobody is answered, further visits are left out and counted; stop() waits for those under way."""
    release = threading.Event()

    def ask(_visit: Visit) -> tuple[int, bytes]:
        release.wait(10)
        raise OSError("away")

    visitors = Traffic(ask, rate=500)
    visitors.start()
    wait_for(lambda: visitors.counts.left_out > 50)
    release.set()
    visitors.stop()
    assert visitors.counts.failed >= traffic.THREADS


def test_a_recorded_request_is_as_fresh_as_a_new_one() -> None:
    """A replayed record has an id of its own and has just ended, took as long as it did, and all is still in it."""
    for line in recorded.lines():
        identity = str(uuid.uuid4())
        read = reading.read_line(recorded.fresh(line, identity, 1_800_000_000.5), 0)
        assert (read.kind, read.id) == ("v1", identity)
        before = reading.read_line(line, 0).message
        after = read.message
        assert after.timing["end_time"] == 1_800_000_000.5
        assert abs(after.timing["start_time"] - (1_800_000_000.5 - before.elapsed_ms / 1000)) < 0.01
        assert (after.xhprof, after.sql, after.request) == (before.xhprof, before.sql, before.request)


def test_records_are_played_to_the_socket(tmp_path: Path) -> None:
    """Each is handed over on a connection of its own and acknowledged; ids never repeat."""
    with Standin(tmp_path / "s") as agent:
        replay = recorded.Replay(str(agent.path), rate=200)
        replay.start()
        wait_for(lambda: replay.counts.answered > 75)
        replay.stop()
        assert replay.counts.failed == 0
        assert replay.counts.answered == len(agent.lines) > 70
        assert len({line["correlation_id"] for line in agent.lines}) == len(agent.lines)


def test_a_missing_agent_does_not_stop_the_replay(tmp_path: Path) -> None:
    """Without an agent a record is counted as failed, and the next is tried."""
    replay = recorded.Replay(str(tmp_path / "nobody"), rate=500)
    replay.start()
    wait_for(lambda: replay.counts.failed > 1)
    replay.stop()
    assert replay.counts.answered == 0
