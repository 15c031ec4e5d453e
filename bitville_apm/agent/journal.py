"""The agent's journal, as the reactor's thread sees it: append before ack, then read in order, then acknowledge.

What one turn of the reactor gathered is one write. Up to 100 records are held in memory ahead of the sender
(`MEMORY_RECORDS`), the rest is read back from disk; order is the same either way:

    taken ── head in memory ── only on disk ── written
                            └ durable: nobody sends beyond it

The sender is given nothing that a power cut could still take back (`fsync = never` takes "written" for that).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.disk import Disk, Found
from bitville_apm.agent.repeated import Repeated
from bitville_apm.agent.segment import Entry, Place, Record
from bitville_apm.agent.worker import Run

_log = Logger()


class NotWritten(Exception):
    """The journal could not take an entry: whoever sent it must keep it."""


@attrs.define(eq=False)
class Journal:
    """One pipeline's journal.

    `on_durable` is called whenever there may be more to send, `on_open` once with the recent ids (`unread.py`).
    """

    disk: Disk
    run: Run
    clock: IReactorTime
    on_durable: Callable[[], None] = lambda: None
    on_open: Callable[[array[int]], None] = lambda ids: None
    journal_id: bytes = b""
    lost: int = 0
    replayed: int = 0
    overflows: int = 0
    waiting_bytes: int = 0
    segments: int = 0
    _open: bool = False
    _opening: DeferredLock = attrs.Factory(DeferredLock)
    _failures: dict[str, str] = attrs.Factory(dict)
    _waiting: list[tuple[Entry, Deferred[None]]] = attrs.Factory(list)
    _writing_since: float | None = None
    _head: deque[Record] = attrs.Factory(deque)
    _head_bytes: int = 0
    _only_disk: int = 0
    _pending_bytes: int = 0
    _taken: Place = (0, 0)
    _durable: Place = (0, 0)
    _written: Place = (0, 0)
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

    async def _opened(self) -> None:
        if not self._open:
            await self._opening.run(lambda: Deferred.fromCoroutine(self._open_once()))

    async def _open_once(self) -> None:
        if self._open:
            return
        found: Found = await self.run(self.disk.open)
        self._open = True
        self._failures.pop("open", None)
        self.journal_id = found.journal_id
        self.on_open(found.recent)
        self._taken, self._written = found.acked, max(found.written, found.acked)
        self._durable = self._written
        self._only_disk = self.replayed = found.pending
        self._pending_bytes = found.pending_bytes
        self.segments = self.disk.segments
        if found.pending:
            _log.info("{n} replayed from disk", n=found.pending)

    # --- writing --------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> Deferred[None]:
        """Journal one entry: fires when it is written (under `fsync = always`: durable).

        Fails with `NotWritten` when the disk did not take it; then nothing of it is left there.
        """
        written: Deferred[None] = Deferred()
        self._waiting.append((entry, written))
        self.waiting_bytes += len(entry.body)
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
        done = Deferred.fromCoroutine(self._append([entry for entry, _ in batch]))
        done.addErrback(self._not_appended)
        done.addCallback(self._appended, batch)
        done.addErrback(lambda failure: _log.failure("journal: a callback failed", failure=failure))
        done.addCallback(lambda _: self._write())

    async def _append(self, entries: Sequence[Entry]) -> int:
        await self._opened()
        first, done, error = await self.run(self.disk.append, entries)
        self.segments = self.disk.segments
        if error is None:
            self._failures.pop("append", None)
        else:
            self._failed("append", error)
        run, sequence = first
        for place, entry in enumerate(entries[:done], sequence):
            self._pending_bytes += len(entry.body)
            self._hold(Record(run, place, entry))
            self._written = (run, place)
        if self.disk.policy != "interval":
            self._durable = self._written
        return done

    def _not_appended(self, failure: Failure) -> int:
        error = failure.value
        if not isinstance(error, OSError):
            _log.failure("journal: append failed", failure=failure)
        self._failed("append", error)
        return 0

    def _appended(self, done: int, batch: Sequence[tuple[Entry, Deferred[None]]]) -> None:
        self.waiting_bytes -= sum(len(entry.body) for entry, _ in batch)
        for _, written in batch[:done]:
            written.callback(None)
        for _, written in batch[done:]:
            written.errback(NotWritten(self.failing))
        if self.disk.policy != "interval":
            self.on_durable()

    def _hold(self, record: Record) -> None:
        """Keep a record in memory for the sender while there is room and none before it is only on disk."""
        room = len(self._head) < limits.MEMORY_RECORDS and self._head_bytes + record.size <= limits.MEMORY_BYTES
        if room and self._written == (self._head[-1].place if self._head else self._taken):
            self._head.append(record)
            self._head_bytes += record.size
        else:
            self._only_disk += 1
            self.overflows += 1

    def _tick(self) -> None:
        if not self._open:
            Deferred.fromCoroutine(self._opened()).addErrback(lambda f: self._failed("open", f.value))
        elif self._durable < self._written:
            Deferred.fromCoroutine(self.sync()).addErrback(lambda f: self._failed("fsync", f.value))

    async def sync(self) -> None:
        """Make durable what is written. Raises `OSError`."""
        if self._open and self._durable < self._written:
            through = await self.run(self.disk.sync)
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
        """Records that wait on disk only."""
        return self._only_disk

    @property
    def pending_bytes(self) -> int:
        """Bytes of all records nobody has taken yet."""
        return self._pending_bytes

    def has_batch(self) -> bool:
        """Whether a full batch waits, so that it need not wait for the next flush."""
        return (
            len(self._head) + self._only_disk >= limits.BATCH_ITEMS or self._pending_bytes >= limits.BATCH_BYTES
        ) and self._taken < self._durable

    async def take(self, items: int, most_bytes: int) -> list[Record]:
        """The next records in order, each given out once: up to `items` and `most_bytes`, or one larger.

        Raises `OSError` when they cannot be read; they stay to be taken.
        """
        await self._opened()
        taken: list[Record] = []
        size = 0
        while self._head and self._head[0].place <= self._durable and len(taken) < items:
            if taken and size + self._head[0].size > most_bytes:
                return taken
            record = self._head.popleft()
            self._head_bytes -= record.size
            size += record.size
            self._pass(record)
            taken.append(record)
        if not self._head and self._taken < self._durable and not taken:
            read = await self.run(self.disk.read, self._taken, self._durable, items, most_bytes)
            self._taken = read.through
            self._only_disk = max(0, self._only_disk - len(read.records))
            for record in read.records:
                self._pending_bytes -= record.size
            taken = read.records
            if read.lost:
                self.lost += read.lost
                _log.error("journal: {n} damaged records skipped", n=read.lost)
            if self._taken == self._written:
                self._only_disk = self._pending_bytes = 0
        return taken

    def _pass(self, record: Record) -> None:
        self._taken = record.place
        self._pending_bytes -= record.size

    def acked(self, record: Record) -> Deferred[None]:
        """A record and all before it have been answered for. A cursor that cannot be written is made up later."""

        def failed(failure: Failure) -> None:
            failure.trap(OSError)
            self._failed("cursor", failure.value)

        done = self.run(self.disk.acked, record.place)
        done.addCallbacks(self._counted, failed)
        return done

    def _counted(self, _: None) -> None:
        self._failures.pop("cursor", None)
        self.segments = self.disk.segments
