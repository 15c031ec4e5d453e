"""The agent's journal, as the reactor's thread sees it: append before ack, then read in order, then settle.

What waits to be written is in `appends.py`, what waits to be sent in `backlog.py`; the files are `disk.py`'s. The
sender is given nothing that a power cut could still take back (`fsync = never` takes "written" for that).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.appends import Appends, NotWritten, Waiting
from bitville_apm.agent.backlog import Backlog
from bitville_apm.agent.books import Books
from bitville_apm.agent.disk import Appended, Disk
from bitville_apm.agent.once import Once
from bitville_apm.agent.reader import Read
from bitville_apm.agent.segment import Entry, Place, Record
from bitville_apm.agent.steps import ClockSteps
from bitville_apm.agent.totals import NONE, Count, Totals
from bitville_apm.agent.worker import Run
from bitville_apm.repeated import Repeated

_log = Logger()


@attrs.define(eq=False)
class Journal:
    """One pipeline's journal. `now` is unix seconds, `clock` monotonic.

    `on_durable` is called whenever there may be more to send, `on_open` once with the recent ids (`unread.py`).
    `covered_through` is the last place that a durable frame counts, `newest` the last record that was there at start.
    """

    disk: Disk
    run: Run
    clock: IReactorTime
    now: Callable[[], float]
    on_durable: Callable[[], None] = lambda: None
    on_open: Callable[[array[int]], None] = lambda ids: None
    journal_id: bytes = b""
    replayed: int = 0
    segments: int = 0
    opened: bool = False
    covered_through: Place = (0, 0)
    newest: Record | None = None
    entered_before: Count = NONE
    appends: Appends = attrs.field(init=False)
    backlog: Backlog = attrs.Factory(Backlog)
    _opening: Once = attrs.field(init=False)
    _reading: DeferredLock = attrs.Factory(DeferredLock)
    _syncing: DeferredLock = attrs.Factory(DeferredLock)
    _failures: dict[str, str] = attrs.Factory(dict)
    _durable: Place = (0, 0)
    _bounds_at: float = 0.0
    _steps: ClockSteps = attrs.Factory(ClockSteps)
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    def __attrs_post_init__(self) -> None:
        self.appends = Appends(self.clock, self._write)
        self._opening = Once(self._open)

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open what is there. A disk that cannot be read or written now is tried again and again."""
        try:
            await self._opened()
        except OSError as error:
            self._failed("open", error)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self.clock
        self._loop.start(limits.FSYNC_INTERVAL_S, now=False)

    async def stop(self) -> None:
        """Finish writing, make it durable, and close."""
        while self.appends.in_hand:
            await deferLater(self.clock, 0.02)
        if self._loop is not None:
            self._loop.stop()
        try:
            await self.sync()
            await self.run(self.disk.close)
        except OSError as error:
            _log.error("journal: the last fsync failed: {error}", error=error)

    async def ready(self) -> None:
        """Wait until it is open. Raises `NotWritten` while the disk does not let it."""
        try:
            await self._opened()
        except OSError as error:
            self._failed("open", error)
            raise NotWritten(self.failing) from None

    async def _opened(self) -> None:
        if not self.opened:
            await self._opening()  # each line that comes while a slow disk is opened waits there: thousands

    async def _open(self) -> None:
        found = await self.run(self.disk.open)
        self.opened = True
        self._failures.pop("open", None)
        self.journal_id = found.journal_id
        self.on_open(found.recent)
        books = Books(found.acked, found.acked, entered=found.entered, passed=found.totals.all, totals=found.totals)
        self._durable = (found.run, 0)
        self.backlog = Backlog(books, self._durable, found.behind_bytes)
        self.covered_through, self.newest = found.covered, found.newest
        self.entered_before = found.entered
        self.replayed = self.backlog.disk_count
        self.segments = self.disk.segments
        if self.replayed:
            _log.info("{n} replayed from disk", n=self.replayed)

    # --- writing --------------------------------------------------------------------------------------------

    @property
    def next_place(self) -> Place:
        """The place of the next entry, while nothing waits to be written."""
        return self.written[0], self.written[1] + 1

    def append(self, entry: Entry) -> Deferred[Place]:
        """Journal one entry: fires with its place when it is written (under `fsync = always`: durable).

        In the order of calls. Fails with `NotWritten` when the disk did not take it; then nothing of it is left there.
        """
        return self.appends.add([entry], group=False)

    def append_together(self, entries: Sequence[Entry]) -> Deferred[Place]:
        """Journal entries of which all count or none, whatever happens: fires with the place of the last.

        It fires when they are durable, whatever the policy. As `append` otherwise.
        """
        return self.appends.add(entries, group=True)

    async def _write(self, batch: Sequence[Waiting]) -> None:
        segments, durable = self.segments, self._durable
        await self.appends.answer(batch, self._append, lambda: self.failing)
        if self._durable > durable:
            self.on_durable()
        if self.segments > segments:
            await self._keep_bounds()

    async def _append(self, entries: Sequence[Entry], group: bool) -> list[Place]:
        """Their places, as far as they were written."""
        try:
            await self._opened()
            write = self.disk.append_group if group else self.disk.append
            appended: Appended = await self.run(write, entries)
        except Exception as error:  # noqa: BLE001  # whatever it is, the senders keep what they have
            if not isinstance(error, OSError):
                _log.failure("journal: append failed")
            self._failed("append", error)
            return []
        self.segments = self.disk.segments
        if appended.error is None:
            self._failures.pop("append", None)
        else:
            self._failed("append", appended.error)
        run, first = appended.first
        for sequence, entry in enumerate(entries[: appended.done], first):
            self.backlog.hold(Record(run, sequence, entry, self.books.entered))
        self._durable = max(self._durable, appended.durable)
        return [(run, sequence) for sequence in range(first, first + appended.done)]

    def _tick(self) -> None:
        if not self.opened:
            if self._opening.in_hand:
                return
            Deferred.fromCoroutine(self._opened()).addErrback(lambda f: self._failed("open", f.value))
            return
        if self._durable < self.written and not self._syncing.locked:
            Deferred.fromCoroutine(self.sync()).addErrback(lambda f: self._failed("fsync", f.value))
        if self.clock.seconds() >= self._bounds_at:
            self._bounds_at = self.clock.seconds() + limits.JOURNAL_LOOK_S
            wall = self._steps.trusted(self.now(), self.clock.seconds())
            checking = Deferred.fromCoroutine(self._keep_bounds(wall))
            checking.addErrback(lambda failure: _log.failure("journal: bounds", failure=failure))

    async def sync(self) -> None:
        """Make durable what is written. Raises `OSError`."""
        if self.opened and self._durable < self.written:
            through: Place = await self._syncing.run(self.run, self.disk.sync)
            self._failures.pop("fsync", None)
            self._durable = max(self._durable, through)
            self.on_durable()

    @property
    def failing(self) -> str:
        """What the disk refuses at present; empty when all is well."""
        return "; ".join(self._failures.values())

    def _failed(self, what: str, error: BaseException | None) -> None:
        self._failures[what] = f"{what}: {error}"
        n = self._repeated.due(what, self.clock.seconds())
        if n:
            _log.error("journal: {what} failed {n} times: {error}", what=what, n=n, error=error)

    # --- reading --------------------------------------------------------------------------------------------

    @property
    def written(self) -> Place:
        """The last place there is."""
        return self.backlog.written

    @property
    def books(self) -> Books:
        """What entered it, and what became of that."""
        return self.backlog.books

    def has_batch(self) -> bool:
        """Whether a full batch waits, so that it need not wait for the next flush."""
        return self.backlog.has_batch(self._durable)

    async def take(self, items: int, most_bytes: int) -> list[Record]:
        """The next records to be forwarded, each given out once: up to `items` and `most_bytes`, or one larger.

        Raises `OSError` when they cannot be read; they stay to be taken.
        """
        await self._opened()
        return await self._reading.run(lambda: Deferred.fromCoroutine(self._take(items, most_bytes)))

    async def _take(self, items: int, most_bytes: int) -> list[Record]:
        backlog = self.backlog
        taken = backlog.take(items, most_bytes, self._durable)
        if not taken and backlog.must_read(self._durable):
            books = backlog.books
            read: Read = await self.run(self.disk.read, books.taken, books.passed, items, most_bytes)
            taken = read.records
            backlog.give_read(read)
            if read.losses:
                lost = sum(count.records for _, count in read.losses)
                _log.error("journal: {n} damaged records skipped", n=lost)
        backlog.catch_up()
        return taken

    async def read_back(self, after: Place, items: int, most_bytes: int) -> Read:
        """The next written records of any kind behind a place, given out or not, up to `items` and `most_bytes`.

        Raises `OSError`.
        """
        await self._opened()
        return await self.run(self.disk.read_back, after, items, most_bytes)

    # --- letting go -----------------------------------------------------------------------------------------

    def settle(self, through: Place, became: Totals) -> Deferred[None]:
        """What was taken, up to the record at `through`, became this. A cursor that cannot be written comes later."""
        self.books.settle(through, became)
        return self._write_cursor()

    def covered(self, place: Place) -> Deferred[None]:
        """A durable frame counts every record up to this place. As `settle`."""
        self.covered_through = max(self.covered_through, place)
        self.books.move_on()
        return self._write_cursor(place)

    def _write_cursor(self, covered: Place = (0, 0)) -> Deferred[None]:
        def written(_: None) -> None:
            self._failures.pop("cursor", None)
            self.segments = self.disk.segments

        def failed(failure: Failure) -> None:
            failure.trap(OSError)
            self._failed("cursor", failure.value)

        done = self.run(self.disk.settle, self.books.acked, self.books.durable, covered)
        done.addCallbacks(written, failed)
        return done

    async def _keep_bounds(self, wall: float | None = None) -> None:
        """Drop the oldest segments while there is too much; what is too old only at the time `wall`, unix seconds."""
        try:
            await self._opened()
            await self._reading.run(lambda: Deferred.fromCoroutine(self._drop(wall)))
            self._failures.pop("bounds", None)
        except OSError as error:
            self._failed("bounds", error)

    async def _drop(self, wall: float | None) -> None:
        excess = await self.run(self.disk.excess, None if wall is None else int(wall * 1000))
        if excess is None:
            return
        dropped = self.backlog.drop(excess.through, excess.entered, excess.why)
        n = self._repeated.due(excess.why, self.clock.seconds(), dropped.records)
        if n:
            why = excess.why.removeprefix("dropped_")
            _log.warn("journal full ({why}), dropped {n}", why=why, n=n)
        await self._write_cursor(excess.through)
