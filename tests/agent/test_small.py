"""The small parts: what is said once a minute, which ids are remembered, when the heart stops beating."""

from __future__ import annotations

import gc
import os
import uuid
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.unread import UnreadAcks, first_half
from bitville_apm.agent.vitals import Vitals
from bitville_apm.repeated import Repeated
from tests.agent.journal_rig import at_once


def test_a_repeated_failure_is_said_once_a_minute_with_its_count() -> None:
    """DAEMON-14: the first at once, then once a minute with all in between; kinds that are over are forgotten."""
    said = Repeated()
    assert [said.due("a", float(t)) for t in range(0, 125, 5)] == [1, *[0] * 11, 12, *[0] * 11, 12]
    assert said.due("b", 121.0, 3) == 3
    assert said.due("c", 1000.0) == 1
    assert set(said._said) == {"c"}


@given(st.lists(st.uuids().map(str), unique=True, max_size=60), st.integers(0, 60))
def test_exactly_the_ids_from_before_are_known(ids: list[str], n: int) -> None:
    """Packed and searched: none forgotten, none invented; all let go together."""
    unread = UnreadAcks(array("Q", sorted(first_half(i) for i in ids[:n])))
    assert [unread.knows(i, 0.0) for i in ids] == [i in ids[:n] for i in ids]
    unread.spool_imported(100.0)
    assert [unread.knows(i, 999.0) for i in ids] == [i in ids[:n] for i in ids]
    assert not any(unread.knows(i, 1000.0) for i in ids)


def test_unread_acks_end_after_fifteen_minutes_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """wire.md 4: remembered for 15 minutes, oldest out first beyond the bound; an ack that was read is no longer."""
    monkeypatch.setattr(limits, "UNREAD_ACKS", 10)
    unread = UnreadAcks()
    ids = [str(uuid.uuid4()) for _ in range(25)]
    for n, id_ in enumerate(ids):
        unread.add(id_, float(n))
        assert len(unread) <= 10
    assert [unread.knows(i, 25.0) for i in ids] == [False] * 15 + [True] * 10
    unread.read(ids[-1])
    assert not unread.knows(ids[-1], 25.0)
    assert unread.knows(ids[-2], 23.0 + limits.UNREAD_ACK_S - 1)
    assert not unread.knows(ids[-2], 23.0 + limits.UNREAD_ACK_S + 1)


def test_the_heart_stops_while_appends_wait_too_long(tmp_path: Path) -> None:
    """design.md 1: no beat while an append has waited over a second; memory is still looked at."""
    clock, stalled = Clock(), [0.0]
    heartbeat = tmp_path / "alive"
    vitals = Vitals(heartbeat, at_once, clock, lambda: stalled[0], lambda: 0)
    vitals.tick()
    os.utime(heartbeat, (1, 1))
    stalled[0] = limits.STALLED_S + 0.1
    vitals.tick()
    assert heartbeat.stat().st_mtime == 1
    assert vitals.memory_mb > 1
    stalled[0] = 0.0
    vitals.tick()
    assert heartbeat.stat().st_mtime > 1


def test_garbage_is_collected_every_hundred_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAEMON-03: the young generation each 100 requests, older ones each tenth and hundredth time, all counted."""
    generations: list[int] = []
    monkeypatch.setattr(gc, "collect", generations.append)
    requests, clock = [0], Clock()
    vitals = Vitals(tmp_path / "alive", at_once, clock, lambda: 0.0, lambda: requests[0])
    for requests[0] in (99, 100, 150, 199, 200, 1000):
        vitals.tick()
    assert vitals.gc_runs == 3
    for _ in range(97):
        requests[0] += 100
        vitals.tick()
    assert (vitals.gc_runs, generations.count(1), generations.count(2)) == (100, 9, 1)
    assert generations[-1] == 2


def test_garbage_is_collected_without_requests_too(tmp_path: Path) -> None:
    """DAEMON-03: a host without PHP must not grow; nothing is collected in the midst of a turn."""
    clock = Clock()
    vitals = Vitals(tmp_path / "alive", at_once, clock, lambda: 0.0, lambda: 0)
    vitals.start()
    try:
        assert not gc.isenabled()
        clock.pump([1.0] * 125)
        assert vitals.gc_runs == 2
    finally:
        vitals.stop()
        gc.unfreeze()
    assert gc.isenabled()
