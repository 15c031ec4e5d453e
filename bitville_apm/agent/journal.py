"""The agent's journal, as the reactor's thread sees it: append before ack, then read in order, then settle.

What one turn of the reactor gathered is one write. Up to 100 records are held in memory ahead of the sender
(`MEMORY_RECORDS`), the rest is read back from disk; order is the same either way:

    taken ── head in memory ── only on disk ── written
                            └ durable: nobody sends beyond it

The sender is given nothing that a power cut could still take back (`fsync = never` takes "written" for that).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.books import Books
from bitville_apm.agent.disk import Appended, Disk
from bitville_apm.agent.reader import Read
from bitville_apm.agent.repeated import Repeated
from bitville_apm.agent.segment import LOCAL, Entry, Place, Record
from bitville_apm.agent.steps import ClockSteps
from bitville_apm.agent.totals import NONE, Count, Totals
from bitville_apm.agent.worker import Run

_log = Logger()


class NotWritten(Exception):
    """The journal could not take an entry: whoever sent it must keep it."""


@attrs.frozen
class _Waiting:
    """Entries to be written; `group` when all count or none."""

    entries: Sequence[Entry]
    written: Deferred[Place]
    group: bool = False


@attrs.define(eq=False)
class Journal:
    """One pipeline's journal. `now` is unix seconds, `clock` monotonic.

    `on_durable` is called whenever there may be more to send, `on_open` once with the recent ids (`unread.py`).
    `written` is the last place there is, `covered_through` the last that a durable frame counts, `newest` the last
    record that was there at start.
    """

    disk: Disk
    run: Run
    clock: IReactorTime
    now: Callable[[], float]
    on_durable: Callable[[], None] = lambda: None
    on_open: Callable[[array[int]], None] = lambda ids: None
    journal_id: bytes = b""
    replayed: int = 0
    overflows: int = 0
    waiting_bytes: int = 0
    segments: int = 0
    opened: bool = False
    written: Place = (0, 0)
    covered_through: Place = (0, 0)
    newest: Record | None = None
    entered_before: Count = NONE
    _books: Books = attrs.Factory(Books)
    _openers: list[Deferred[None]] | None = None
    """Who waits for it to be opened; None while nobody opens it."""
    _reading: DeferredLock = attrs.Factory(DeferredLock)
    _syncing: DeferredLock = attrs.Factory(DeferredLock)
    _failures: dict[str, str] = attrs.Factory(dict)
    _waiting: list[_Waiting] = attrs.Factory(list)
    _writing_since: float | None = None
    _head: deque[Record] = attrs.Factory(deque)
    _head_bytes: int = 0
    _disk_bytes: int = 0
    _durable: Place = (0, 0)
    _bounds_at: float = 0.0
    _steps: ClockSteps = attrs.Factory(ClockSteps)
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

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
        while self._writing_since is not None:
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
        if self.opened:
            return
        if self._openers is not None:  # each line that comes while a slow disk is opened waits here: thousands
            waits: Deferred[None] = Deferred()
            self._openers.append(waits)
            await waits
            return
        self._openers = []
        try:
            await self._open()
        except Exception as error:
            waiting, self._openers = self._openers, None
            for waits in waiting:
                waits.errback(error)
            raise
        waiting, self._openers = self._openers, None
        for waits in waiting:
            waits.callback(None)

    async def _open(self) -> None:
        found = await self.run(self.disk.open)
        self.opened = True
        self._failures.pop("open", None)
        self.journal_id = found.journal_id
        self.on_open(found.recent)
        self._books = Books(
            found.acked, found.acked, entered=found.entered, passed=found.totals.all, totals=found.totals
        )
        self.covered_through, self.newest = found.covered, found.newest
        self.written = self._durable = (found.run, 0)
        self.entered_before = found.entered
        self._disk_bytes = found.behind_bytes
        self.replayed = self.disk_count
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
        return self._enqueue([entry], group=False)

    def append_together(self, entries: Sequence[Entry]) -> Deferred[Place]:
        """Journal entries of which all count or none, whatever happens: fires with the place of the last.

        It fires when they are durable, whatever the policy. As `append` otherwise.
        """
        return self._enqueue(entries, group=True)

    def _enqueue(self, entries: Sequence[Entry], group: bool) -> Deferred[Place]:
        written: Deferred[Place] = Deferred()
        self._waiting.append(_Waiting(entries, written, group))
        self.waiting_bytes += _size(entries)
        if self._writing_since is None:
            self._writing_since = self.clock.seconds()
            self.clock.callLater(0, self._write)
        return written

    def stalled_for(self, now: float) -> float:
        """Seconds that the write in hand has taken so far; 0 when there is none."""
        return 0.0 if self._writing_since is None else now - self._writing_since

    def _write(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self._writing_since = None
            return
        self._writing_since = self.clock.seconds()
        done = Deferred.fromCoroutine(self._append_all(batch))
        done.addErrback(lambda failure: _log.failure("journal: append failed", failure=failure))
        done.addCallback(lambda _: self._write())

    async def _append_all(self, batch: Sequence[_Waiting]) -> None:
        segments, durable = self.segments, self._durable
        for group, together in groupby(batch, key=lambda waiting: waiting.written if waiting.group else None):
            some = list(together)
            places = await self._append([entry for waiting in some for entry in waiting.entries], group is not None)
            self.waiting_bytes -= sum(_size(waiting.entries) for waiting in some)
            if group is not None and places:
                places = places[-1:]
            for number, waiting in enumerate(some):
                if number < len(places):
                    waiting.written.callback(places[number])
                else:
                    waiting.written.errback(NotWritten(self.failing))
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
            self._hold(Record(run, sequence, entry, self._books.entered))
        self._durable = max(self._durable, appended.durable)
        return [(run, sequence) for sequence in range(first, first + appended.done)]

    def _hold(self, record: Record) -> None:
        """Keep a record in memory for the sender while there is room and none before it is only on disk."""
        ahead = self.disk_count == 0
        room = len(self._head) < limits.MEMORY_RECORDS and self._head_bytes + record.size <= limits.MEMORY_BYTES
        self.written, self._books.entered = record.place, record.through
        if record.entry.flags & LOCAL:
            self._catch_up()
        elif ahead and room:
            self._head.append(record)
            self._head_bytes += record.size
        else:
            self._disk_bytes += record.size
            self.overflows += 1

    def _tick(self) -> None:
        if not self.opened:
            if self._openers is not None:
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
    def memory_count(self) -> int:
        """Records held in memory ahead of the sender."""
        return len(self._head)

    @property
    def disk_count(self) -> int:
        """Records to be forwarded that wait on disk only."""
        return self._books.waiting.records - len(self._head)

    @property
    def entered(self) -> Count:
        """What was ever taken to be forwarded."""
        return self._books.entered

    @property
    def totals(self) -> Totals:
        """What became of that so far."""
        return self._books.totals

    @property
    def pending(self) -> Count:
        """What became nothing yet, in the sender's hand included."""
        return self._books.entered - self._books.totals.all

    @property
    def waiting(self) -> Count:
        """What of that nobody has taken yet."""
        return self._books.waiting

    @property
    def missed(self) -> Count:
        """What reading found to be gone and the cursor has not passed: it will be `corrupt`."""
        return self._books.missed

    def has_batch(self) -> bool:
        """Whether a full batch waits, so that it need not wait for the next flush."""
        full = self._books.waiting.records >= limits.BATCH_ITEMS
        return (full or self._head_bytes + self._disk_bytes >= limits.BATCH_BYTES) and self._books.taken < self._durable

    async def take(self, items: int, most_bytes: int) -> list[Record]:
        """The next records to be forwarded, each given out once: up to `items` and `most_bytes`, or one larger.

        Raises `OSError` when they cannot be read; they stay to be taken.
        """
        await self._opened()
        return await self._reading.run(lambda: Deferred.fromCoroutine(self._take(items, most_bytes)))

    async def _take(self, items: int, most_bytes: int) -> list[Record]:
        books = self._books
        taken: list[Record] = []
        size = 0
        while self._head and self._head[0].place <= self._durable and len(taken) < items:
            if taken and size + self._head[0].size > most_bytes:
                break
            record = self._head.popleft()
            self._head_bytes -= record.size
            size += record.size
            books.give(record)
            taken.append(record)
        if not taken and not self._head and self.disk_count and books.taken < self._durable:
            read: Read = await self.run(self.disk.read, books.taken, books.passed, items, most_bytes)
            taken = read.records
            for record in taken:
                books.give(record)
                self._disk_bytes -= record.size
            books.came_to(read.through, read.entered, read.losses)
            if read.losses:
                lost = sum(count.records for _, count in read.losses)
                _log.error("journal: {n} damaged records skipped", n=lost)
                books.move_on()
        self._catch_up()
        return taken

    def _catch_up(self) -> None:
        """With nothing left to be given out, what was written since is passed: it stays on this host."""
        if not self._books.waiting.records:
            self._books.came_to(self.written, self._books.entered)
            self._disk_bytes = 0

    async def read_back(self, after: Place, items: int, most_bytes: int) -> Read:
        """The next written records of any kind behind a place, given out or not, up to `items` and `most_bytes`.

        Raises `OSError`.
        """
        await self._opened()
        return await self.run(self.disk.read_back, after, items, most_bytes)

    # --- letting go -----------------------------------------------------------------------------------------

    def settle(self, through: Place, became: Totals) -> Deferred[None]:
        """What was taken, up to the record at `through`, became this. A cursor that cannot be written comes later."""
        self._books.settle(through, became)
        return self._write_cursor()

    def covered(self, place: Place) -> Deferred[None]:
        """A durable frame counts every record up to this place. As `settle`."""
        self.covered_through = max(self.covered_through, place)
        self._books.move_on()
        return self._write_cursor(place)

    def _write_cursor(self, covered: Place = (0, 0)) -> Deferred[None]:
        def written(_: None) -> None:
            self._failures.pop("cursor", None)
            self.segments = self.disk.segments

        def failed(failure: Failure) -> None:
            failure.trap(OSError)
            self._failed("cursor", failure.value)

        done = self.run(self.disk.settle, self._books.acked, self._books.durable, covered)
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
        dropped = self._books.drop(excess.through, excess.entered, excess.why)
        while self._head and self._head[0].place <= excess.through:
            self._head_bytes -= self._head.popleft().size
        self._catch_up()
        n = self._repeated.due(excess.why, self.clock.seconds(), dropped.records)
        if n:
            why = excess.why.removeprefix("dropped_")
            _log.warn("journal full ({why}), dropped {n}", why=why, n=n)
        await self._write_cursor(excess.through)


def _size(entries: Iterable[Entry]) -> int:
    return sum(len(entry.body) for entry in entries)
