"""The ledger: what does not add up is seen, whatever forgot to count; what adds up survives a SIGKILL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from bitville_apm.agent.outgoing import counted, lost
from bitville_apm.agent.totals import Count, Totals
from bitville_apm.reading import read_line
from tests.agent.forward_rig import ForwardRig
from tests.agent.journal_rig import done, result
from tests.agent.rig import Agent, Collector, Sender, end_line, running, wait_until
from tests.agent.spool_rig import NOW, SpoolRig


@pytest.fixture
def rig(tmp_path: Path) -> SpoolRig:
    """A pipeline whose forwarder is there, and has no collector."""
    rig = SpoolRig(tmp_path)
    rig.pipeline.forward = ForwardRig(tmp_path, "http://127.0.0.1:9").forward
    frames, records = rig.pipeline.forward.journals
    frames.journal, records.journal = rig.pipeline.frames, rig.journal
    done(rig.pipeline.frames.start())
    rig.pipeline.sealing.start()
    rig.clock.advance(0)
    return rig


def take(rig: SpoolRig, *lines: bytes) -> None:
    for line in lines:
        rig.pipeline.take(read_line(line, 0), int(NOW * 1000)).addErrback(lambda _: None)


def test_it_balances_at_every_moment(rig: SpoolRig) -> None:
    """design.md 4: between receiving and writing, with copies, refusals, deaths, and records in the sender's hand."""
    line = end_line()
    balanced = lambda: (rig.pipeline.numbers()["error"], rig.pipeline.numbers()["waiting"])  # noqa: E731
    take(rig, line, line, end_line())
    assert balanced() == (0, 3)
    rig.clock.advance(0)
    assert balanced() == (0, 0)
    take(rig, line)
    result(rig.pipeline.refuse(_refused(), b"{"))
    rig.pipeline.died("0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01", b'{"id":"0c5be2a4","at":1795231300,"ms":5}')
    rig.clock.advance(0)
    numbers = rig.pipeline.numbers()
    assert balanced() == (0, 0)
    assert (numbers["received"], numbers["journalled"], numbers["duplicate"], numbers["invalid"]) == (5, 2, 2, 1)
    assert (numbers["entered"], numbers["died"], numbers["pending"]) == (3, 1, 3)
    outgoing = rig.pipeline.forward.journals[-1]
    outgoing.hand = _taken(rig, 2)
    assert balanced() == (0, 0)
    result(rig.journal.settle(outgoing.hand[0].place, Totals(stored=Count(1, 1))))
    del outgoing.hand[0]
    numbers = rig.pipeline.numbers()
    assert (numbers["stored"], numbers["pending"], numbers["error"]) == (1, 2, 0)


def _refused() -> Any:
    try:
        read_line(b"{", 0)
    except Exception as refused:  # noqa: BLE001  # the very one that a listener would hand on
        return refused


def _taken(rig: SpoolRig, n: int) -> Any:
    return done(rig.journal.take(n, 10**6))


def turn(rig: SpoolRig, seconds: float) -> None:
    for _ in range(int(seconds)):
        rig.clock.advance(1)
        for _ in range(3):
            rig.clock.advance(0)


def test_requests_are_followed_through_frames(rig: SpoolRig) -> None:
    """design.md 4: folded = in windows + in frames, and each frame is stored, lost or pending, counted in requests;
    a request that was called died, and whose record comes after all, is one.
    """
    died = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"
    rig.pipeline.died(died, b'{"id":"%s","at":%d,"ms":5}' % (died.encode(), NOW))
    take(rig, *(end_line() for _ in range(5)), end_line(died))
    turn(rig, 1)
    numbers = rig.pipeline.numbers()
    assert (numbers["folded"], numbers["in_windows"], numbers["in_frames"], numbers["error"]) == (6, 6, 0, 0)
    turn(rig, 15)
    take(rig, end_line())
    turn(rig, 15)
    take(rig, end_line())
    turn(rig, 1)
    numbers = rig.pipeline.numbers()
    assert (numbers["folded"], numbers["in_windows"], numbers["in_frames"], numbers["error"]) == (8, 1, 7, 0)
    frames = rig.pipeline.forward.journals[0]
    frames.hand = done(rig.pipeline.frames.take(10, 10**6))
    assert rig.pipeline.numbers()["error"] == 0
    first, second = frames.hand
    result(rig.pipeline.frames.settle(first.place, lost(first, "expired")))
    result(rig.pipeline.frames.settle(second.place, Totals(stored=counted([second]))))
    frames.hand = []
    numbers = rig.pipeline.numbers()
    assert [numbers[f"framed{of}"] for of in ("", "_lost", "_stored", "_pending")] == [7, 6, 1, 0]
    assert numbers["error"] == 0


def test_a_sealed_part_that_is_lost_is_seen(rig: SpoolRig) -> None:
    """Of the windows that one sealing covers one does not reach the disk: its requests are missing, and it is said."""
    frames = rig.pipeline.frames
    lossy = PartsLost(frames)
    rig.pipeline.sealing.frames = lossy  # type: ignore[assignment]
    take(rig, end_line(at=NOW - 60), end_line(at=NOW - 60), end_line(at=NOW - 1))
    turn(rig, 15)
    assert (frames.books.entered.requests, rig.pipeline.sealing.sealed) == (1, 1)
    assert rig.pipeline.numbers()["error"] == 2
    rig.pipeline.audit()
    assert rig.pipeline.unbalanced == {"folded": 2}


class PartsLost:
    """A journal that takes the last entry of a group only."""

    def __init__(self, journal: Any) -> None:
        self.journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def append_together(self, entries: Any) -> Any:
        return self.journal.append_together(entries[-1:])


@pytest.mark.parametrize("what", ["received", "entered", "forwarded", "folded", "framed"])
def test_each_sum_that_is_wrong_is_seen_and_said_once(rig: SpoolRig, what: str) -> None:
    """What is counted nowhere, or twice: `error` at once, after a minute's look one log line and `degraded`."""
    take(rig, end_line(), end_line())
    rig.clock.advance(0)
    pipeline = rig.pipeline
    if what == "received":
        pipeline.ledger.duplicate += 1
    elif what == "entered":
        pipeline.ledger.journalled += 1
        pipeline.ledger.received += 1
    elif what == "folded":
        pipeline.sealing.folded += 1
    elif what == "framed":
        turn(rig, 15)
        frame = done(pipeline.frames.take(1, 10**6))[0]
        result(pipeline.frames.settle(frame.place, Totals(stored=Count(1, 1))))  # it stands for two
    else:
        _taken(rig, 1)  # taken from the journal, and in nobody's hand
    assert pipeline.numbers()["error"] == 1
    with capturedLogs() as events:
        pipeline.audit()
        pipeline.audit()
    said = [text for text in map(formatEvent, events) if text and "ledger" in text]
    assert len(said) == 1
    assert what in said[0]
    assert list(pipeline.unbalanced) == [what]


def test_it_survives_kills_exactly(tmp_path: Path) -> None:
    """I2: what became of records is as durable as the cursor: after every SIGKILL all that ever entered is accounted
    for, what the collector refused included; and the collector is told the same sums.
    """
    collector = Collector()

    def picky(items: list[dict[str, Any]]) -> Any:
        lines = [line for line, item in enumerate(items, 1) if item["seq"][1] % 7 == 0]
        if not lines:
            return None
        for item in items:
            collector.copies[item["id"]] += 1
        rejected = [{"line": line, "reason": "expired" if line % 2 else "invalid"} for line in lines]
        return 200, {}, json.dumps({"stored": len(items) - len(lines), "rejected": rejected}).encode()

    collector.behaviour = picky
    try:
        with running(Agent(tmp_path / "a", collector.url)) as agent:
            acked: set[str] = set()
            for _ in range(3):
                sender = Sender(agent, begin=False)
                sender.start()
                wait_until(lambda sender=sender: len(sender.acked) > 60)
                agent.kill()
                sender.finish()
                acked |= sender.acked
                agent.start()
                assert agent.ledger()["error"] == 0
            # Until its journal is open, and all that no frame has is folded again, an agent does not know.
            wait_until(lambda: acked <= set(collector.copies) and agent.ledger()["pending"] == 0)
            wait_until(lambda: agent.ledger()["framed"] + agent.ledger()["in_windows"] == len(collector.copies))
            ledger = agent.ledger()
            assert ledger["error"] == 0
            became = ("stored", "duplicate_at_collector", "quarantined", "dropped_expired")
            assert ledger["entered"] == sum(ledger[name] for name in became) == len(collector.copies)
            assert min(ledger["quarantined"], ledger["dropped_expired"]) > 0
            assert ledger["framed"] == ledger["framed_stored"] + ledger["framed_lost"] + ledger["framed_pending"]
            told = [json.loads(headers["bitville-ledger"]) for headers in collector.headers]
            assert [one["stored"] for one in told] == sorted(one["stored"] for one in told)
            assert told[-1].keys() == {"entered", "stored", "duplicate", "quarantined", "dropped", "corrupt"}
    finally:
        collector.close()
