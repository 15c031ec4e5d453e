"""What one journal's sender has not taken yet: the first of it in memory, the rest on disk. Pure: no files, no clock.

    taken ── head in memory ── on disk ── written
                                    └─ recent: in memory too ─┘

Up to 100 records are held in memory ahead of the sender (`MEMORY_RECORDS`), the rest is read back from disk; order is
the same either way. Of what is on disk the last megabytes are remembered (`RECENT_BYTES`): a sender that keeps up,
however much a second, finds all of it there, and reading a record back costs as much as receiving it did. Nobody sends
beyond what is durable, wherever it is found.
"""

from __future__ import annotations

from collections import deque

import attrs

from bitville_apm import limits
from bitville_apm.agent.books import Books
from bitville_apm.agent.reader import Read
from bitville_apm.agent.segment import LOCAL, Place, Record
from bitville_apm.agent.totals import Count


@attrs.define(eq=False)
class Backlog:
    """The records up to `written`, the last place there is, and the `books` of them.

    `disk_bytes` is what of them is not held for the sender, `overflows` how many ever had no room there.
    """

    books: Books = attrs.Factory(Books)
    written: Place = (0, 0)
    disk_bytes: int = 0
    overflows: int = 0
    _head: deque[Record] = attrs.Factory(deque)
    _head_bytes: int = 0
    _recent: deque[Record] = attrs.Factory(deque)
    _recent_bytes: int = 0

    @property
    def memory_count(self) -> int:
        """Records held in memory ahead of the sender."""
        return len(self._head)

    @property
    def disk_count(self) -> int:
        """Records to be forwarded that wait on disk."""
        return self.books.waiting.records - len(self._head)

    def has_batch(self, durable: Place) -> bool:
        """Whether a full batch waits, and something of it may be sent."""
        full = self.books.waiting.records >= limits.BATCH_ITEMS
        return (full or self._head_bytes + self.disk_bytes >= limits.BATCH_BYTES) and self.books.taken < durable

    def hold(self, record: Record) -> None:
        """One more is written: keep it in memory while there is room and none before it is only on disk."""
        books, size = self.books, record.size
        ahead = books.entered.records - books.passed.records <= len(self._head)
        self.written = record.place
        if record.entry.flags & LOCAL:
            self.catch_up()
            return
        books.entered = record.through
        if ahead and len(self._head) < limits.MEMORY_RECORDS and self._head_bytes + size <= limits.MEMORY_BYTES:
            self._head.append(record)
            self._head_bytes += size
        else:
            self.disk_bytes += size
            self.overflows += 1
            self._recent.append(record)
            self._recent_bytes += size
            while self._recent_bytes > limits.RECENT_BYTES:
                self._recent_bytes -= self._recent.popleft().size

    def take(self, items: int, most_bytes: int, durable: Place) -> list[Record]:
        """Give out what is in memory and durable: up to `items` and `most_bytes`, or one larger."""
        taken: list[Record] = []
        size = 0
        while len(taken) < items:
            record = self._next()
            if record is None or record.place > durable or (taken and size + record.size > most_bytes):
                break
            if self._head:
                self._head.popleft()
                self._head_bytes -= record.size
            else:
                self._recent.popleft()
                self._recent_bytes -= record.size
                self.disk_bytes -= record.size
            size += record.size
            self.books.give(record)
            taken.append(record)
        return taken

    def _next(self) -> Record | None:
        """What comes next, where it is in memory."""
        if self._head:
            return self._head[0]
        recent = self._recent
        while recent and recent[0].place <= self.books.taken:
            self._recent_bytes -= recent.popleft().size
        return recent[0] if recent and recent[0].before == self.books.passed else None

    def must_read(self, durable: Place) -> bool:
        """Whether what comes next is on disk only, and may be sent."""
        return self._next() is None and self.disk_count > 0 and self.books.taken < durable

    def give_read(self, read: Read) -> None:
        """Give out what was read behind the last place taken."""
        for record in read.records:
            self.books.give(record)
            self.disk_bytes -= record.size
        self.books.came_to(read.through, read.entered, read.losses)
        if read.losses:
            self.books.move_on()

    def catch_up(self) -> None:
        """With nothing left to be given out, what was written since is passed: it stays on this host."""
        if not self.books.waiting.records:
            self.books.came_to(self.written, self.books.entered)
            self.disk_bytes = 0

    def drop(self, through: Place, entered: Count, why: str) -> Count:
        """Nothing up to `through` is left on disk, by which `entered` had entered; gives back what that cost."""
        dropped = self.books.drop(through, entered, why)
        while self._head and self._head[0].place <= through:
            self._head_bytes -= self._head.popleft().size
        self.catch_up()
        return dropped
