"""Frames through real journals: whatever crashes where, every acknowledged request is in the frames exactly once.

The judge is the sender's own tally. The journals' thread is called in place; a crash leaves everything as it is on disk
and goes on with new objects. What power cuts and SIGKILL do to a real agent is in `tests/whole/test_frames.py`.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail

from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.eyes import Seen
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.segment import FRAMED
from tests.agent.sealing_rig import START, World, never


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_frames_and_nothing_else(world: World) -> None:
    """I1: each request in one frame, under the id that wire.md says; then the records' segments may go."""
    for _ in range(25):
        world.request()
        world.turn(1)
    world.finish()
    assert world.counted == len(world.acked) == 25
    ids = [uuid.uuid5(uuid.UUID(bytes=world.frames.journal_id), f"1-{n}") for n in range(1, len(world.stored) + 1)]
    assert list(world.stored) == list(map(str, ids))
    assert world.records.covered_through == (1, 25)


def test_a_crash_before_sealing(world: World) -> None:
    """The window before a crash is folded again and sealed under its own `at`."""
    for _ in range(5):
        world.request()
    world.turn(2)
    world.crash()
    world.turn(40)
    world.request()
    world.finish()
    assert world.counted == len(world.acked) == 6
    assert [(f.at, f.late) for f in world.stored.values()] == [(START, False), (START + 40, False)]


@pytest.mark.parametrize("what", ["before append", "after append", "before covered"])
def test_a_crash_in_sealing(world: World, what: str) -> None:
    """Before the frame is on disk, after it but before its writer knows, before the records' journal knows."""
    world.request()
    append = world.frames.append_together
    if what == "before append":
        world.frames.append_together = never  # type: ignore[method-assign]
    elif what == "after append":

        def written(entries: Any) -> Deferred[Any]:
            append(entries)
            return Deferred()

        world.frames.append_together = written  # type: ignore[method-assign]
    else:
        world.records.covered = never  # type: ignore[method-assign]
    world.turn(15)
    world.request()
    world.crash()
    world.finish()
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == 2


def test_a_cursor_that_could_not_be_written(world: World) -> None:
    """Frames of looks only, written since, still tell how far the records are covered."""
    world.request()
    world.records.covered = lambda place: Deferred()  # type: ignore[method-assign]
    world.turn(12)
    world.sealing._sealing.release()
    for _ in range(20):
        world.turn(1)
        world.sealing.look(Seen(START + world.clock.seconds(), 1.0), [], {"in_flight": 1.0})
    world.crash()
    world.finish()
    assert [f.covers for f in world.stored.values()][:2] == [(1, 1, 1), (1, 2, 1)]
    assert world.counted == len(world.acked) == 1


def test_an_answer_that_was_lost(world: World) -> None:
    """A frame that is sent again has its id again."""
    world.request()
    world.turn(15)
    world.send(answered=False)
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == 1


def test_a_disk_that_takes_no_frames(world: World) -> None:
    """Frames wait until it does; looks go on, records are folded, nothing is counted twice."""
    append = world.frames.append_together
    world.frames.append_together = lambda entries: fail(NotWritten("full"))  # type: ignore[method-assign]
    for _ in range(40):
        world.request()
        world.turn(1)
    assert world.records.covered_through == (0, 0)
    world.frames.append_together = append  # type: ignore[method-assign]
    world.finish()
    assert world.counted == len(world.acked) == 40
    assert world.sealing.frames.books.pending.records == 0


def test_what_no_frame_counts_is_passed(world: World) -> None:
    """Records of an agent that did not frame are counted by the collector; they are covered like the others."""
    world.request(flags=0)
    world.request()
    world.crash()
    world.finish()
    assert len(world.acked) == 2
    assert world.counted == 1
    assert world.records.covered_through[1] == 2


def test_a_damaged_frame_is_told_in_requests(world: World) -> None:
    """What a bad disk takes is known exactly: stored + corrupt = acknowledged, and the rest is delivered."""
    for _ in range(3):
        for _ in range(4):
            world.request()
        world.turn(12)
    (segment,) = (world.directory / "frames").glob("*.segment")
    data = bytearray(segment.read_bytes())
    at = data.find(b'"covers":[1,5,8]')
    data[at] ^= 1
    segment.write_bytes(bytes(data))
    world.crash()
    world.finish()
    assert world.counted == 8
    assert world.frames.books.totals.corrupt.requests == 4


def test_a_journal_made_anew(world: World) -> None:
    """State that was deleted begins with another id: no frame is taken for one of before."""
    world.request()
    world.finish()
    before = set(world.stored)
    shutil.rmtree(world.directory)
    world.crash()
    world.request()
    world.finish()
    assert world.counted == len(world.acked) == 2
    assert len(set(world.stored) - before) >= 1


def test_a_damaged_record_is_told(world: World) -> None:
    """A record that can no longer be read is in no frame; the frame says that one is missing."""
    for n in range(4):
        world.request(context=f"number {n}")
    (segment,) = world.directory.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[data.find(b"number 2")] ^= 1
    segment.write_bytes(bytes(data))
    world.crash()
    world.finish()
    assert world.counted == 3
    assert sum(f.lost.get("corrupt", 0) for f in world.stored.values()) == 1


steps = st.lists(
    st.sampled_from(
        ["request", "request", "request", "died", "pass", "window", "send", "lost answer", "crash", "stop",
         "crash before append", "crash after append", "crash before covered", "full", "not full"]
    ),
    max_size=20,
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(steps=steps, data=st.data())
def test_exactly_once_whatever_happens(tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: Any) -> None:
    """I1, row 1 and 2 in the small: any order of requests, time, answers lost, crashes at any point, full disks."""
    world = World(tmp_path_factory.mktemp("world"))
    for step in steps:
        append = world.frames.append_together
        if step == "request":
            world.request()
        elif step == "died":
            world.request(flags=FRAMED, at=START - 20)
        elif step in ("pass", "window"):
            world.turn(data.draw(st.integers(1, 3)) if step == "pass" else 12)
        elif step in ("send", "lost answer"):
            world.send(answered=step == "send")
        elif step == "stop":
            world.stop()
            world.crash()
        elif step == "full":
            world.frames.append_together = lambda entries: fail(NotWritten("full"))  # type: ignore[method-assign]
        elif step == "not full":
            world.frames.append_together = Journal.append_together.__get__(world.frames)  # type: ignore[method-assign]
        else:
            if step == "crash before append":
                world.frames.append_together = never  # type: ignore[method-assign]
            elif step == "crash after append":
                world.frames.append_together = lambda entries, append=append: append(entries) and never()  # type: ignore[method-assign,misc]
            elif step == "crash before covered":
                world.records.covered = never  # type: ignore[method-assign]
            if step != "crash":
                world.turn(12)
            world.crash()
        assert world.unexplained == 0
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == world.frames.books.entered.requests
    assert world.unexplained == 0
    covers = sorted(f.covers for f in world.stored.values() if f.final and f.covers and f.covers[1] <= f.covers[2])
    places = [(run, n) for run, first, last in covers for n in range(first, last + 1)]
    assert len(places) == len(set(places)) == len(world.acked)
