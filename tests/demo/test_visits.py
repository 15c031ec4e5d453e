"""Visitors, rushes and recorded requests."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bitville_apm import reading
from bitville_apm.demo import recorded, traffic
from bitville_apm.demo.traffic import Traffic, is_rush
from bitville_apm.demo.visits import Visit, Visits
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


def test_a_rush_comes_every_three_minutes() -> None:
    """The first rush is at 90 s, when there is something to compare it with; it lasts 15 s."""
    rushes = [second for second in range(600) if is_rush(second)]
    assert rushes == [start + i for start in (90, 270, 450) for i in range(15)]


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
