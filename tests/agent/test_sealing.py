"""Frames through real journals: whatever crashes where, every acknowledged request is in the frames exactly once.

The judge is the sender's own tally. The journals' thread is called in place; a crash leaves everything as it is on disk
and goes on with new objects. What power cuts and SIGKILL do to a real agent is in `tests/whole/test_frames.py`.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from bitville_apm import cells, limits, reading
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.eyes import Seen
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.sealing import Sealing
from bitville_apm.agent.segment import FRAMED, LOCAL, SHORT, Entry
from bitville_apm.agent.totals import Totals
from bitville_apm.agent.worker import Run
from bitville_apm.records import Frame
from bitville_apm.requests import request_of
from tests.agent.test_journal import at_once, done, result

START = 1_800_000_000.0


class Patched(Journal):
    """A journal whose methods a test can replace."""


class World:
    """An agent's two journals and its frames; a client that keeps a tally; a collector that knows ids."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.passed = self.ahead = 0.0
        self.acked: set[str] = set()
        self.stored: dict[str, Frame] = {}
        self.run: Run = at_once
        self.open()

    def open(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = self.passed
        self.records = Patched(Disk(self.directory, "never", counted=True), at_once, self.clock, self.now)
        self.frames = Patched(Disk(self.directory / "frames", "never"), at_once, self.clock, self.now)
        done(self.records.start())
        done(self.frames.start())
        self.sealing = Sealing(self.records, self.frames, self.run, self.clock, self.now)
        self.sealing.start()
        self.turn()

    def now(self) -> float:
        return START + self.clock.seconds() + self.ahead

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(int(seconds) or 1):
            self.clock.advance(min(1.0, seconds))
            for _ in range(3):
                self.clock.advance(0)
        self.passed = self.clock.seconds()

    def crash(self) -> None:
        self.open()

    def request(self, flags: int = FRAMED | SHORT | LOCAL, kind: str = "end", **more: Any) -> str:
        """A client sends one; its tally counts it when it is acknowledged."""
        id_ = str(uuid.uuid4())
        received_ms = int(self.now() * 1000)
        body = {"v": 2, "id": id_, "at": received_ms / 1000 - 0.1, "ms": 100, "request": {"method": "GET", "uri": "/"}}
        line = reading.read_body(kind, json.dumps({**body, **more}).encode(), received_ms)
        written = self.records.append(Entry(kind, id_, received_ms, line.body, flags))

        def taken(place: Any) -> None:
            self.acked.add(id_)
            self.sealing.taken(line, request_of(line), received_ms, place)

        written.addCallbacks(taken, lambda failure: failure.trap(NotWritten))
        self.turn()
        return id_

    def send(self, *, answered: bool = True) -> None:
        """Frames go to the collector, which takes each id once; the answer may be lost."""
        while batch := done(self.frames.take(100, limits.BATCH_BYTES)):
            for record in batch:
                assert record.entry.flags & FRAMED
                frame: Frame = reading.read_body("frame", record.entry.body, 0).message
                assert frame.id == record.entry.id
                self.stored.setdefault(frame.id, frame)
            if answered:
                result(self.frames.settle(batch[-1].place, Totals(stored=counted(batch))))

    def stop(self) -> None:
        """As at SIGTERM."""
        stopping = Deferred.fromCoroutine(self.sealing.stop())
        for _ in range(3):
            self.turn()
        result(stopping)

    def finish(self) -> None:
        self.turn(30)
        self.send()

    @property
    def unexplained(self) -> int:
        """design.md 4: requests folded since the start that are neither in windows nor in frames."""
        framed = self.frames.books.entered - self.frames.entered_before
        return self.sealing.folded - self.sealing.rollup.requests - framed.requests

    @property
    def counted(self) -> int:
        """Requests in all frames that the collector has."""
        return sum(c.requests for f in self.stored.values() for d, _, c in cells.of_frame(f) if d == "endpoint")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def never(*_: Any) -> Deferred[Any]:
    """What a crash before the answer looks like."""
    return Deferred()


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


class Slow:
    """A thread that does its work when the test says so."""

    def __init__(self) -> None:
        self.handed: list[tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]] = []

    def __call__(self, function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
        self.handed.append((Deferred(), function, arguments))
        return self.handed[-1][0]

    def work(self) -> None:
        done, function, arguments = self.handed.pop(0)
        done.callback(function(*arguments))


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


def test_what_no_frame_counts_is_passed(world: World) -> None:
    """Records of an agent that did not frame are counted by the collector; they are covered like the others."""
    world.request(flags=0)
    world.request()
    world.crash()
    world.finish()
    assert len(world.acked) == 2
    assert world.counted == 1
    assert world.records.covered_through[1] == 2


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


def test_stopping_seals(world: World) -> None:
    """SIGTERM: nothing waits for the end of its window, and nothing is folded again at the next start."""
    world.request()
    world.stop()
    world.send()
    assert world.counted == 1
    world.crash()
    world.finish()
    assert world.counted == len(world.acked) == 1


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
