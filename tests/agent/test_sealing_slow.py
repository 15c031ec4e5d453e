"""Sealing while a thread has work in hand, or more has come than can be folded."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from bitville_apm import limits, reading
from bitville_apm.agent.segment import FRAMED, LOCAL, Entry
from bitville_apm.requests import request_of
from tests.agent.journal_rig import Slow, at_once, result
from tests.agent.sealing_rig import START, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_while_a_frame_is_written_requests_go_on(world: World) -> None:
    """I1: ranking and encoding are a thread's; what comes meanwhile, by a clock set back also in that
    window, is in the next frame.
    """
    slow = world.sealing.run = Slow()
    world.request()
    world.turn(12)
    world.ahead = -8.0
    ((_, _, (epoch, *_)),) = slow.handed
    for _ in range(3):
        world.request()
    world.turn(3)
    assert len(slow.handed) == 1
    assert (epoch.last, epoch.requests, world.sealing.rollup.requests) == ((1, 1), 1, 4)
    slow.work()
    world.sealing.run = at_once
    world.finish()
    assert world.counted == len(world.acked) == 4
    ids = [uuid.uuid5(uuid.UUID(bytes=world.frames.journal_id), f"1-{n}") for n in range(1, len(world.stored) + 1)]
    assert list(world.stored) == list(map(str, ids))


def test_a_large_profile_is_read_elsewhere_and_folded_in_its_turn(world: World) -> None:
    """What comes behind it waits, so that what a frame covers has no gaps; a crash meanwhile costs nothing."""
    edges = {f"main()==>f{n}": {"ct": 1, "wt": n} for n in range(2000)}
    profile = {"kind": "xhprof", "edges": edges}
    slow = world.sealing.run = Slow()
    world.request()
    world.request(profile=profile)
    world.request()
    assert world.sealing.rollup.requests == 1
    world.turn(5)
    assert world.sealing.rollup.epochs[0].last == (1, 1)
    slow.work()
    world.turn()
    assert world.sealing.rollup.epochs[0].last == (1, 3)
    world.request(profile=profile)
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == 4
    assert sum(len(f.cells["function"].values) for f in world.stored.values() if "function" in f.cells) > 100


def test_stopping_waits_for_what_a_thread_has(world: World) -> None:
    """SIGTERM while a profile is read and while a frame is written: nothing is left to be folded again."""
    slow = world.sealing.run = Slow()
    world.request()
    world.turn(12)
    world.request(profile={"kind": "xhprof", "edges": {f"f{n}": {"ct": 1, "wt": n} for n in range(2000)}})
    assert len(slow.handed) == 2
    stopping = Deferred.fromCoroutine(world.sealing.stop())
    while slow.handed:
        slow.work()
        world.turn()
        world.turn()
    result(stopping)
    world.send()
    assert world.counted == len(world.acked) == 2


def test_more_than_can_be_folded_is_read_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is not held in memory: what is left out of the queue comes from the journal, in its order."""
    monkeypatch.setattr(limits, "FOLDS_WAITING", 3)
    monkeypatch.setattr(limits, "BATCH_ITEMS", 4)
    for _ in range(5):
        ids = []
        for _ in range(7):
            id_ = str(uuid.uuid4())
            body = b'{"v":2,"id":"%s","at":1799999999,"ms":1,"request":{"method":"GET","uri":"/"}}' % id_.encode()
            line = reading.read_body("end", body, 0)
            written = world.records.append(Entry("end", id_, int(START * 1000), body, FRAMED | LOCAL))
            written.addCallback(lambda place, line=line: world.sealing.taken(line, request_of(line), 0, place))
            written.addCallback(lambda _: world.sealing.tick())  # reading back begins while some still wait
            ids.append(id_)
        world.clock.advance(0)
        assert world.sealing.waiting <= 3
        world.acked.update(ids)
        world.turn(1)
    world.finish()
    assert world.counted == len(world.acked) == 35


def test_stopping_seals(world: World) -> None:
    """SIGTERM: nothing waits for the end of its window, and nothing is folded again at the next start."""
    world.request()
    world.stop()
    world.send()
    assert world.counted == 1
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == 1
