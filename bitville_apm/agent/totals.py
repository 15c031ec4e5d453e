"""How many records a journal ever took and what became of each: the numbers that a ledger is checked with.

They are kept beside the cursor's `acked` place, in the same slot and the same write, so that a crash leaves both as
they were together: what is behind that place is pending, what is before it is in one of these. A record of frames
stands for many requests (`Entry.requests`), so each number is told twice, in records and in requests. Records that
are not to be forwarded (`LOCAL`) are in none of them.
"""

from __future__ import annotations

import attrs
from msgspec import Struct


class Count(Struct, frozen=True):
    """Some records, and the requests they stand for (of a frame: what its endpoint cells add up to; else one)."""

    records: int = 0
    requests: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.records + other.records, self.requests + other.requests)

    def __sub__(self, other: Count) -> Count:
        return Count(self.records - other.records, self.requests - other.requests)

    def beyond(self, other: Count) -> Count:
        """What this counts and `other` does not yet; nothing less than nothing."""
        return Count(max(0, self.records - other.records), max(0, self.requests - other.requests))


NONE = Count()


@attrs.frozen
class Totals:
    """What became of forwardable records, ever.

    stored, duplicate: the collector's answer. quarantined: rejected, kept for a person. dropped_expired: the
    collector dropped its day already. dropped_oversize: larger than the collector takes, kept in quarantine too.
    dropped_bytes, dropped_no_space, dropped_age: over a bound of this journal. corrupt: damaged on disk.
    forgotten: gone before the cursor was damaged, delivered as far as anyone can tell.
    """

    stored: Count = NONE
    duplicate: Count = NONE
    quarantined: Count = NONE
    dropped_bytes: Count = NONE
    dropped_no_space: Count = NONE
    dropped_age: Count = NONE
    dropped_oversize: Count = NONE
    dropped_expired: Count = NONE
    corrupt: Count = NONE
    forgotten: Count = NONE

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[Count, ...]:
        """All of them, in the order above."""
        return attrs.astuple(self, recurse=False)

    @property
    def all(self) -> Count:
        """Everything that has left the journal."""
        return sum(self.counts, NONE)
