"""Frames on their way to disk: folding what the journal took, sealing each window, and starting again after a crash.

What the records' journal takes is folded in its order. A sealed epoch becomes one append to the journal of frames, all
of its parts or none; once that is durable the records' journal is told how far it is *covered*, and may unlink what
is. A crash between the two is made up at the next start: the newest frame names the range it covers. Records behind
that are read back and folded again, each under the time it was received.

    record taken ──▶ folded in its turn ──▶ sealed ──▶ frames durable ──▶ records covered
         └ not in its turn (start, or more than can be folded at once): read back from the journal ┘

What takes milliseconds, a large profile and a frame's ranking and encoding, is done in a thread of its own: clients
wait for the reactor to acknowledge. Meanwhile records go on into the next epoch.
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits, reading, requests
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.eyes import Seen
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.load import Load
from bitville_apm.agent.rollup import Epoch, Rollup, Task
from bitville_apm.agent.segment import FRAMED, Entry, Place, Record
from bitville_apm.agent.worker import Run
from bitville_apm.cells import Columns, Tables
from bitville_apm.checks import Refused
from bitville_apm.interfaces import IRollup
from bitville_apm.profile import Own
from bitville_apm.records import Line
from bitville_apm.repeated import Repeated
from bitville_apm.requests import Request

_log = Logger()


class _Covers(msgspec.Struct, frozen=True):
    """What a start needs of a frame."""

    covers: tuple[int, int, int] | None = None
    final: bool = False


class Folding(msgspec.Struct, frozen=True):
    """A record that waits to be folded, `size` bytes long; `request` is None for one that counts nowhere."""

    place: Place
    received: float
    request: Request | None = None
    message: Any = None
    size: int = 0


@implementer(IRollup)
@attrs.define(eq=False)
class Sealing:
    """One pipeline's frames. `run` is for what only computes; `clock` is monotonic, `now` unix seconds.

    `folded` are the requests added to windows, `sealed` the epochs written. Nobody else appends to `frames`.
    """

    records: Journal
    frames: Journal
    run: Run
    clock: IReactorTime
    now: Callable[[], float]
    rollup: Rollup = attrs.Factory(Rollup)
    folded: int = 0
    sealed: int = 0
    _through: Place = (0, 0)
    _begun: bool = False
    _in_turn: bool = False
    _reading: bool = False
    _soon: bool = False
    _waiting: deque[Folding] = attrs.Factory(deque)
    _folding: DeferredLock = attrs.Factory(DeferredLock)
    _sealing: DeferredLock = attrs.Factory(DeferredLock)
    _stopping: bool = False
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin where the last durable frame ended. Both journals have been started."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.TASKS_LOOK_S, now=True)

    async def stop(self) -> None:
        """Fold what is taken, and seal everything; what cannot be written now is folded again at the next start."""
        self._stopping = True
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        await self._folding.run(self._fold_all)
        await self._sealing.run(self._seal_due, math.inf, math.inf)

    @property
    def waiting(self) -> int:
        """Records that are in no frame's epoch yet, as far as they are known."""
        return len(self._waiting)

    # --- folding --------------------------------------------------------------------------------------------

    def taken(self, line: Line, request: Request, received_ms: int, place: Place) -> None:
        """The journal has taken a request. In the order of its places."""
        self._take(Folding(place, received_ms / 1000, request, line.message, len(line.body)))

    def passed(self, received_ms: int, place: Place) -> None:
        """The journal has taken a record that counts nowhere, in the order of its places too."""
        self._take(Folding(place, received_ms / 1000))

    # --- IRollup: none of it before the windows of the last run are sealed, what comes is the current window's

    def look(self, seen: Seen, tasks: Sequence[Task], counted: Mapping[str, float]) -> None:
        """One look at the processes of this pipeline (`looks.py`); `counted` of the whole host."""
        if self._begun:
            self.rollup.look(seen.now, self.clock.seconds(), seen.elapsed, tasks, counted)
            if seen.unknown:
                self.lost(seen.now, in_flight_unknown=seen.unknown)

    def cell(self, at: float, dimension: str, value: str, **columns: float) -> None:
        """Add columns to one value in the window of `at`."""
        self.cells(at, {dimension: {value: Columns(**columns)}})  # type: ignore[arg-type]

    def cells(self, at: float, tables: Tables) -> None:
        """The same of many."""
        if self._begun:
            now = self.now()
            self.rollup.cells(min(at, now), now, self.clock.seconds(), tables)

    def second(self, now: float, **numbers: float) -> None:
        """What was counted in this second."""
        if self._begun:
            self.rollup.second(now, self.clock.seconds(), numbers)

    def load(self, now: float) -> Load:
        """The `load` of this window, to add to."""
        return self.rollup.load(now, self.clock.seconds()) if self._begun else Load()

    def link(self, at: float, a: tuple[str, str], b: tuple[str, str], task_s: float, executions: int | None) -> None:
        """Two values go together."""
        if self._begun:
            now, steady, key = self.now(), self.clock.seconds(), (*a, *b)
            self.rollup.link(min(at, now), now, steady, key, 0, executions, round(task_s * 1e6))

    def lost(self, now: float, **numbers: float) -> None:
        """What is missing from this window."""
        if self._begun:
            self.rollup.lost(now, self.clock.seconds(), **numbers)

    def _take(self, folding: Folding) -> None:
        last = self._waiting[-1].place if self._waiting else self._through
        run, sequence = folding.place
        follows = folding.place == (last[0], last[1] + 1) or (run > last[0] and sequence == 1)
        if not (self._in_turn and follows) or len(self._waiting) >= limits.FOLDS_WAITING:
            self._in_turn = False  # it is read back when its turn comes
            return
        self._waiting.append(folding)
        self._later()

    def _later(self) -> None:
        if not self._soon and not self._stopping:
            self._soon = True
            self.clock.callLater(0, self._fold_soon)

    def _fold_soon(self) -> None:
        self._soon = False
        if self._waiting and not self._folding.locked:
            self._folding.run(self._fold_all).addErrback(self._failed, "folding")

    def _fold_all(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._fold_waiting())

    async def _fold_waiting(self) -> None:
        """Fold what waits, in its order, for a moment in each turn of the reactor."""
        until = self.clock.seconds() + limits.FOLD_TURN_S
        while self._waiting:
            steady = self.clock.seconds()
            if steady > until:
                await deferLater(self.clock, 0)
                until = self.clock.seconds() + limits.FOLD_TURN_S
            folding = self._waiting.popleft()
            self._through = folding.place
            functions: Sequence[Own] = ()
            if folding.size > limits.FOLD_INLINE_BYTES:
                functions = await self.run(requests.functions_of, folding.message)
                steady = self.clock.seconds()
            elif folding.request is not None:
                functions = requests.functions_of(folding.message)
            if folding.request is None:
                self.rollup.passed(folding.place, folding.received, steady)
            else:
                self.folded += self.rollup.record(folding.request, functions, folding.place, folding.received, steady)

    # --- reading back ---------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Fold from the journal until what it takes next is next in turn."""
        while not self._stopping and self.frames.opened and self.records.opened:
            if self._through == (0, 0):
                await self._begin()
            await self._folding.run(self._fold_all)
            read = await self.records.read_back(self._through, limits.BATCH_ITEMS, limits.BATCH_BYTES)
            if self._stopping:
                return
            self._missed(read.records)
            self._waiting.extend(map(_folding, read.records))
            await self._folding.run(self._fold_all)
            if read.through >= self.records.written:
                self._begun = self._in_turn = not self._waiting
                self._through = max(self._through, read.through)
                return
            if read.through <= self._through and not read.records:
                return  # what is there cannot be read now; the next tick tries again
            self._through = max(self._through, read.through)

    def _missed(self, read: Sequence[Record]) -> None:
        """What is missing between the records of a run was damaged: no frame can count it, and that is said."""
        places = [self._through, *(record.place for record in read)]
        missing = sum(place[1] - before[1] - 1 for before, place in itertools.pairwise(places) if place[0] == before[0])
        if missing:
            self.rollup.lost(self.now(), self.clock.seconds(), corrupt=missing)

    async def _begin(self) -> None:
        """Where the frames that are durable end."""
        covered = self.records.covered_through
        newest = self.frames.newest
        if newest is not None:
            frame = msgspec.json.decode(newest.entry.body, type=_Covers)
            if frame.final and frame.covers is not None and (frame.covers[0], frame.covers[2]) > covered:
                covered = (frame.covers[0], frame.covers[2])
                await self.records.covered(covered)
        self._through = self.rollup.covered = covered

    # --- sealing --------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A second has passed."""
        if self._waiting:
            self._later()
        if not self._in_turn and not self._reading:
            self._reading = True
            reading_back = Deferred.fromCoroutine(self._catch_up())
            reading_back.addErrback(self._failed, "reading back")
            reading_back.addBoth(self._caught_up)
        if not self._sealing.locked:
            sealing = self._sealing.run(self._seal_due, self.now(), self.clock.seconds())
            sealing.addErrback(self._failed, "sealing")

    def _caught_up(self, _: object) -> None:
        self._reading = False

    def _failed(self, failure: Failure, what: str) -> None:
        n = self._repeated.due(what, self.clock.seconds())
        if n and failure.check(OSError, NotWritten):
            _log.error("frames: {what} failed {n} times: {error}", what=what, n=n, error=failure.value)
        elif n:
            _log.failure("frames: {what} failed {n} times", failure, what=what, n=n)

    def _seal_due(self, now: float, steady: float) -> Deferred[None]:
        return Deferred.fromCoroutine(self._seal_all(now, steady))

    async def _seal_all(self, now: float, steady: float) -> None:
        while self.frames.opened and (epoch := self.rollup.due(now, steady)) is not None:
            if not await self._seal(epoch):
                self.rollup.bound()
                return

    async def _seal(self, epoch: Epoch) -> bool:
        """Write an epoch; whether it is durable. One at a time: ids are made of the places its parts will have."""
        run, first = self.frames.next_place
        journal = uuid.UUID(bytes=self.frames.journal_id)
        received_ms = int(self.now() * 1000)
        parts = await self.run(self.rollup.parts, epoch, lambda n: str(uuid.uuid5(journal, f"{run}-{first + n}")))
        entries = [Entry("frame", part.id, received_ms, part.body, FRAMED, part.requests) for part in parts]
        if entries:
            try:
                await self.frames.append_together(entries)
            except NotWritten as error:
                self._failed(Failure(error), "writing")
                return False
            self.sealed += 1
        self.rollup.sealed(epoch, self.now())
        if epoch.last is not None:
            await self.records.covered(epoch.last)
        return True


def _folding(record: Record) -> Folding:
    """A record read back. One that no frame counts, and one that cannot be read, is passed."""
    entry, received = record.entry, record.entry.received_ms / 1000
    if entry.flags & FRAMED and entry.kind in ("end", "died", "v1"):
        try:
            line = msgspec.structs.replace(reading.read_body(entry.kind, entry.body, entry.received_ms), id=entry.id)
        except Refused:
            return Folding(record.place, received)
        return Folding(record.place, received, requests.request_of(line), line.message, len(entry.body))
    return Folding(record.place, received)
