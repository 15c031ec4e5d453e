"""What one journal's sender has not taken yet: the first of it in memory, the rest on disk. Pure: no files, no clock.

    taken ── head in memory ── only on disk ── written
                            └ durable: nobody sends beyond it

Up to 100 records are held in memory ahead of the sender (`MEMORY_RECORDS`), the rest is read back from disk; order is
the same either way.
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

    `disk_bytes` is what of them is only on disk, `overflows` how many ever had no room in memory.
    """

    books: Books = attrs.Factory(Books)
    written: Place = (0, 0)
    disk_bytes: int = 0
    overflows: int = 0
    _head: deque[Record] = attrs.Factory(deque)
    _head_bytes: int = 0

    @property
    def memory_count(self) -> int:
        """Records held in memory ahead of the sender."""
        return len(self._head)

    @property
    def disk_count(self) -> int:
        """Records to be forwarded that wait on disk only."""
        return self.books.waiting.records - len(self._head)

    def has_batch(self, durable: Place) -> bool:
        """Whether a full batch waits, and something of it may be sent."""
        full = self.books.waiting.records >= limits.BATCH_ITEMS
        return (full or self._head_bytes + self.disk_bytes >= limits.BATCH_BYTES) and self.books.taken < durable

    def hold(self, record: Record) -> None:
        """One more is written: keep it in memory while there is room and none before it is only on disk."""
        ahead = self.disk_count == 0
        room = len(self._head) < limits.MEMORY_RECORDS and self._head_bytes + record.size <= limits.MEMORY_BYTES
        self.written, self.books.entered = record.place, record.through
        if record.entry.flags & LOCAL:
            self.catch_up()
        elif ahead and room:
            self._head.append(record)
            self._head_bytes += record.size
        else:
            self.disk_bytes += record.size
            self.overflows += 1

    def take(self, items: int, most_bytes: int, durable: Place) -> list[Record]:
        """Give out what is in memory and durable: up to `items` and `most_bytes`, or one larger."""
        taken: list[Record] = []
        size = 0
        while self._head and self._head[0].place <= durable and len(taken) < items:
            if taken and size + self._head[0].size > most_bytes:
                break
            record = self._head.popleft()
            self._head_bytes -= record.size
            size += record.size
            self.books.give(record)
            taken.append(record)
        return taken

    def must_read(self, durable: Place) -> bool:
        """Whether what comes next is on disk only, and may be sent."""
        return not self._head and self.disk_count > 0 and self.books.taken < durable

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
