"""Which records may be in the journal without their sender knowing: it will put them into its spool as well.

An ack counts as read when the connection ended cleanly after it; until then the id is remembered, for 15 minutes
at most. What a crash forgets is made up from the journal itself: at start, the ids of its last 15 minutes. Those are
let go 15 minutes after the spool that was there is imported: a busy worker may be late with its file, and what is
taken twice is counted twice, since frames do not know ids.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left

import attrs

from bitville_apm import limits
from bitville_apm.agent.segment import packed_id


def first_half(id_: str) -> int:
    """The first 8 bytes of an id, by which ids from before the start are known: they are random enough."""
    return int.from_bytes(packed_id(id_)[:8], "big")


@attrs.define(eq=False)
class UnreadAcks:
    """Ids, canonical; time is monotonic seconds. `before` are ids from before the start, packed and sorted."""

    before: array[int] = attrs.field(factory=lambda: array("Q"))
    _until: dict[bytes, float] = attrs.Factory(dict)
    _before_until: float = math.inf

    def __len__(self) -> int:
        return len(self._until)

    def add(self, id_: str, now: float) -> None:
        """Journalled, and its sender has not been seen to know."""
        packed = packed_id(id_)
        self._until.pop(packed, None)
        self._until[packed] = now + limits.UNREAD_ACK_S
        for oldest, until in list(self._until.items())[:2]:
            if until > now and len(self._until) <= limits.UNREAD_ACKS:
                break
            del self._until[oldest]

    def read(self, id_: str) -> None:
        """Its sender has read the ack: it will not come again."""
        self._until.pop(packed_id(id_), None)

    def knows(self, id_: str, now: float) -> bool:
        """Whether the journal has this record already, although its sender may not know."""
        if self._until.get(packed_id(id_), 0.0) > now:
            return True
        if now >= self._before_until:
            self.before = array("Q")
        if not self.before:
            return False
        first = first_half(id_)
        at = bisect_left(self.before, first)
        return at < len(self.before) and self.before[at] == first

    def spool_imported(self, now: float) -> None:
        """The spool found at start is imported."""
        self._before_until = now + limits.UNREAD_ACK_S
