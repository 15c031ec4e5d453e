"""Fault rows 6, 7, 9 and the breaker's part of 15: a collector in trouble, and items in trouble.

The judge is the sender's own tally. Real agents everywhere; a real collector where what it stores matters.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from tests.agent import rig
from tests.faults.tools.clients import Client, together
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.faults.tools.judge import Watch, balanced, stored_once, told, waits
from tests.faults.tools.proxy import Fault, Proxy
from tests.whole.way import Way, running

SICK: tuple[tuple[int, dict[str, str]], ...] = ((500, {}), (503, {}), (429, {"Retry-After": "1"}))


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    """A real collector, a real agent."""
    with running(tmp_path) as whole:
        yield whole


def breaker(agent: rig.Agent) -> dict[str, Any]:
    """The agent's breaker, as health shows it."""
    return agent.health()["stats"]["circuit_breaker"]  # type: ignore[no-any-return]


def left_open(agent: rig.Agent, seconds_ago: float) -> None:
    """The state that an agent leaves whose breaker opened a while ago."""
    now = time.time()
    state = agent.state / "circuit-breaker-state" / "central_listener.state"
    state.parent.mkdir(parents=True, exist_ok=True)
    kept = {"state": "open", "failure_count": 5, "last_failure_time": now, "opened_at": now - seconds_ago}
    state.write_text(json.dumps(kept))


# --- Row 6: answers that mean "not now" ---------------------------------------------------------------------


def test_what_is_refused_for_now_comes_later_in_order(tmp_path: Path, collector: rig.Collector) -> None:
    """Row 6, DAEMON-08, DAEMON-10: after 500, 503 and 429 with Retry-After the same records come again, in order,
    none dropped, and not before the collector wants them.
    """
    answers = iter(SICK)
    at: list[float] = []

    def sick(items: list[dict[str, Any]]) -> Any:
        at.append(time.monotonic())
        return next(((status, headers, b"{}") for status, headers in answers), None)

    collector.behaviour = sick
    with rig.running(rig.Agent(tmp_path / "a", collector.url)) as agent:
        sender = rig.Sender(agent, pause=0.002, begin=False)
        sender.start()
        rig.wait_until(lambda: len(at) > len(SICK) and len(sender.acked) > 300)
        sender.finish()
        rig.wait_until(lambda: agent.ledger()["pending"] == 0)
        assert set(collector.order) == sender.acked
        places = [collector.items[id_]["seq"] for id_ in collector.order]
        assert places == sorted(places)
        assert max(collector.copies.values()) == 1
        assert at[3] - at[2] >= 1.0, "Retry-After"
        assert breaker(agent)["state"] == "closed"
        assert agent.text().count("sending failed") == len(SICK)
        balanced(agent)


def test_an_open_breaker_sends_one_probe_of_one_item(tmp_path: Path, collector: rig.Collector) -> None:
    """Row 6, COMM-04, DAEMON-09: while it is open nothing but a single item is risked, also across a SIGKILL; the
    first probe that is taken lets everything through, in order.
    """
    collector.behaviour = lambda items: (503, {}, b"")
    agent = rig.Agent(tmp_path / "a", collector.url)
    left_open(agent, limits.BREAKER_RETRY_S - 1)
    with rig.running(agent):
        ids = [str(uuid.uuid4()) for _ in range(200)]
        agent.send(*map(rig.end_line, ids))
        rig.wait_until(lambda: collector.batches, 5)
        time.sleep(1.5)
        assert collector.batches == [1]
        assert breaker(agent)["state"] == "open"
        agent.kill()
        left_open(agent, limits.BREAKER_RETRY_S - 1)
        collector.behaviour = lambda items: None
        agent.start()
        rig.wait_until(lambda: len(collector.order) == len(ids))
        # The probe is the first record, or a frame where a window ended meanwhile: frames go first.
        assert collector.batches[:3] in ([1, 1, 199], [1, 200])
        assert collector.frames or len(collector.batches) == 3
        assert collector.order == ids
        assert breaker(agent)["state"] == "closed"
        balanced(agent)


@pytest.mark.full
def test_a_collector_that_is_ill_for_minutes(tmp_path: Path, collector: rig.Collector) -> None:
    """Row 6 in full: five failures, then one item a minute; all delivered within 75 s of its recovery."""
    answers = itertools.cycle(SICK)
    tried: list[tuple[float, int]] = []

    def sick(items: list[dict[str, Any]]) -> Any:
        tried.append((time.monotonic(), len(items)))
        status, headers = next(answers)
        return status, headers, b"{}"

    with rig.running(rig.Agent(tmp_path / "a", collector.url)) as agent:
        sender = rig.Sender(agent, pause=0.01, begin=False)
        sender.start()
        rig.wait_until(lambda: len(collector.items) > 100)
        well = len(collector.batches)
        collector.behaviour = sick
        began = time.monotonic()
        while time.monotonic() - began < 200:
            time.sleep(5)
            say(f"row 6: {time.monotonic() - began:.0f} of 200 s ill, {len(collector.batches) - well} tried")
        collector.behaviour = lambda items: None
        recovered = time.monotonic()
        backlog = agent.ledger()["pending"]
        sender.finish()
        rig.wait_until(lambda: agent.ledger()["pending"] == 0, 120)
        took = time.monotonic() - recovered
        probes = tried[limits.BREAKER_FAILURES :]
        say(f"row 6: {len(sender.acked)} sent, {backlog} waited, {len(probes)} probes, delivered after {took:.1f} s")
        assert [n for _, n in probes] == [1] * len(probes)
        assert 2 <= len(probes) <= 4
        assert all(b - a >= 59 for (a, _), (b, _) in itertools.pairwise(tried[limits.BREAKER_FAILURES - 1 :]))
        assert took <= 75
        places = [collector.items[id_]["seq"] for id_ in collector.order]
        assert set(collector.order) == sender.acked
        assert places == sorted(places)
        balanced(agent)


def test_a_refused_key_stops_only_its_own_pipeline(tmp_path: Path, collector: rig.Collector) -> None:
    """design.md 4: a section with a key of its own has its own journal and sender; while its key is refused, the
    others deliver, and its own records wait.
    """
    revoked = "bv_other_secret"

    def refuse(items: list[dict[str, Any]]) -> Any:
        ours = collector.headers[-1]["authorization"] == f"Bearer {revoked}"
        return (403, {}, b'{"message":"revoked"}') if ours else None

    collector.behaviour = refuse
    other = tmp_path / "a" / "run" / "other.sock"
    section = f"[php other]\nsocket = {other}\ngroup =\nkey = {revoked}\n"
    with rig.running(rig.Agent(tmp_path / "a", collector.url, more=section)) as agent:
        ids = [str(uuid.uuid4()) for _ in range(20)]
        for id_ in ids[::2]:
            assert agent.send(rig.end_line(id_)) == b"+"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(other))
                client.sendall(rig.end_line(ids[ids.index(id_) + 1]) + b"\n")
                assert client.recv(1) == b"+"

        def became() -> list[tuple[int, int]]:
            ledger = agent.health()["stats"]["ledger"]
            return sorted((numbers["stored"], numbers["pending"]) for numbers in ledger.values())

        rig.wait_until(lambda: became() == [(0, 10), (10, 0)] and agent.health()["status"] == "failing")
        assert set(collector.items) == set(ids[::2])
        assert set(agent.health()["stats"]["circuit_breaker"]["by_pipeline"].values()) == {"closed"}
        balanced(agent)


# --- Row 7: no answer at all --------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", counts("7 seconds"))
@pytest.mark.parametrize("how", ["hangs", "resets"])
def test_a_collector_that_does_not_answer_is_noticed_by_nobody_else(tmp_path: Path, how: str, seconds: int) -> None:
    """Row 7, I1, I3, I5: while a collector hangs or resets its connections, clients are acknowledged as ever, health
    answers, and in the end every record is stored once.
    """
    way = Way(tmp_path)
    way.agent.kill()
    assert way.collector.process is not None
    proxy = Proxy(way.collector.port)
    agent = rig.Agent(tmp_path / "b", proxy.url, flush_seconds=1.0, key=way.agent.key)
    try:
        if how == "resets":
            proxy.plan = lambda n: Fault(cut_up=n % 3 * 1000, reset=True)
        else:
            way.collector.process.send_signal(signal.SIGSTOP)
        agent.start()
        clients = [Client(agent.socket, agent.spool, f"client{n}", n, short=0.0) for n in range(2)]
        for client in clients:
            client.start()
        with Watch(agent) as watch:
            time.sleep(seconds)
            rig.wait_until(lambda: agent.health()["status"] == "degraded", 10, "the first failure")
        tally = together(clients)
        way.collector.process.send_signal(signal.SIGCONT)
        proxy.plan = lambda n: Fault()
        watch.judge()
        waits(tally.took, share=0.9)  # the rest is what a busy machine takes: an agent that waits would hold up all
        assert (tally.refused, tally.late) == (0, 0)
        rig.wait_until(lambda: agent.ledger()["pending"] == 0, 120, "everything delivered")
        stored_once(tally, (item["id"] for item in way.stored()))
        assert how == "hangs" or proxy.cuts
        balanced(agent)
        say(f"row 7, {how}: {len(tally.whole)} records; health {told(watch.took)}; acks {told(tally.took)}")
    finally:
        agent.clean_up()
        proxy.close()
        way.end()


# --- Row 9: poison ------------------------------------------------------------------------------------------


def poison() -> Iterator[tuple[str, bytes]]:
    """Lines that nobody can store, and the byte that answers each: `-` refused here, `+` left to the collector."""

    def like(id_: str, **more: Any) -> dict[str, Any]:
        return json.loads(rig.end_line(id_)) | more  # type: ignore[no-any-return]

    def broken(text: str, by: str) -> bytes:
        return json.dumps(like(str(uuid.uuid4()), context={"x": text})).replace(f'"{text}"', by).encode()

    while True:
        yield "-", json.dumps({"t": "end", "v": 2, "id": str(uuid.uuid4()), "ms": "soon"}).encode()
        yield "-", broken("deep", "[" * 5000 + "]" * 5000)
        yield "-", broken("large", str(2**63))
        yield "-", broken("nan", "NaN")
        yield "-", b"\xff\xfe not JSON at all"
        yield "+", json.dumps(like(str(uuid.uuid4()), at=time.time() + 86_400)).encode()


@pytest.mark.parametrize(("items", "giants"), [(400, 1), pytest.param(10_000, 20, marks=pytest.mark.full)])
def test_poison_goes_to_quarantine_and_delays_nobody(way: Way, items: int, giants: int) -> None:
    """Row 9, LIST-04: of many items every tenth is poison. The good ones are stored once, none later than 10 s after
    its ack; the poison is in quarantine with its reason; the breaker never counts a failure. A lone surrogate is no
    poison: it is repaired.
    """
    luck = chance(9)
    bad = poison()
    answers = ""
    expected = ""
    good: list[str] = []
    poisoned = 0
    progress = Progress(9, items, "items")
    slow: list[float] = []
    sampler = threading.Thread(target=lambda: None)
    for n in range(items):
        if luck.random() < 0.1:
            byte, line = next(bad)
            poisoned += 1
        else:
            good.append(str(uuid.uuid4()))
            byte, line = "+", rig.end_line(good[-1], context={"x": "half a pair @"})
            line = line.replace(b"@", rb"\ud83d") if n % 3 == 0 else line
        answers += way.agent.send(line).decode()
        expected += byte
        if line is not None and byte == "+" and good and not sampler.is_alive() and n % 20 == 0:
            sampler = threading.Thread(target=_until_stored, args=(way, good[-1], slow), daemon=True)
            sampler.start()
        if n % 500 == 0:
            progress.at(n, poisoned=poisoned)
        if n % max(1, items // giants) == 0:
            answers += way.agent.send(rig.end_line(size=limits.LINE_BYTES + 1000), seconds=30).decode()
            expected += "-"
            poisoned += 1
    progress.at(items, poisoned=poisoned)
    rig.wait_until(way.delivered, 60, "everything delivered")
    sampler.join(15)
    stored = [item["id"] for item in way.stored()]
    assert sorted(stored) == sorted(good)
    assert answers == expected
    ledger = way.agent.ledger()
    assert ledger["invalid"] + ledger["quarantined"] == poisoned
    kept = [json.loads(path.read_text()) for path in (way.agent.state / "quarantine" / "default").iterdir()]
    assert len(kept) == min(poisoned, limits.QUARANTINE_FILES)
    assert {one["reason"] for one in kept} >= {"invalid", "clock"}
    assert slow
    assert max(slow) <= 10, f"stored after {max(slow):.1f} s"
    (seen,) = way.collector.ask("GET", "/ready", key=way.read_key).json["agents"]
    assert (seen["stored"], seen["rejected"]) == (len(good), ledger["quarantined"])
    assert (seen["records"], seen["missing"]) == (len(good), 0), "the collector's own count"
    assert "breaker" not in way.agent.text()
    assert "sending failed" not in way.agent.text()
    balanced(way.agent)
    say(f"row 9: {len(good)} stored, {poisoned} quarantined, sampled delays {told([s * 1000 for s in slow])}")


def _until_stored(way: Way, id_: str, took: list[float]) -> None:
    began = time.monotonic()
    while way.collector.ask("GET", f"/api/requests/{id_}", key=way.read_key).status != 200:
        if time.monotonic() - began > 30:
            break
        time.sleep(0.02)
    took.append(time.monotonic() - began)


# --- Row 15: the breaker's state ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["rubbish", "a directory"])
def test_a_breaker_state_that_cannot_be_read_is_closed(tmp_path: Path, collector: rig.Collector, what: str) -> None:
    """Row 15, DAEMON-09: whatever stands where the state should be, the agent starts, closed, and delivers."""
    agent = rig.Agent(tmp_path / "a", collector.url)
    state = agent.state / "circuit-breaker-state" / "central_listener.state"
    state.parent.mkdir(parents=True)
    if what == "a directory":
        state.mkdir()
    else:
        state.write_bytes(b'{"state":"open","failure_count":5,"opened_at":1e999\x00' + b"\xff" * 100)
    with rig.running(agent):
        assert breaker(agent)["state"] == "closed"
        with contextlib.suppress(ConnectionError):
            agent.send(rig.end_line())
        rig.wait_until(lambda: len(collector.items) == 1)
        balanced(agent)
