"""One journal's way out: what the sender has in hand of it, and what became of each record once it is answered for.

A pipeline has two of them, frames and records, and one collector: they take turns at one breaker (`forward.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.segment import Record
from bitville_apm.agent.totals import Count, Totals
from bitville_apm.agent.transmitter import Delivered, Rejected


@attrs.define(eq=False)
class Outgoing:
    """A journal to be sent. `at_once`: nothing in it waits for a full batch or the next flush.

    `hand` is what was taken and is not answered for yet; `most` how many of it make a batch.
    """

    journal: Journal
    at_once: bool = False
    hand: list[Record] = attrs.Factory(list)
    most: int = limits.BATCH_ITEMS

    @property
    def pending(self) -> int:
        """Records that no collector has answered for."""
        return len(self.hand) + self.journal.backlog.memory_count + self.journal.backlog.disk_count

    @property
    def entered_since_start(self) -> Count:
        """What has come to be forwarded since the journal was opened."""
        return self.journal.books.entered - self.journal.entered_before

    @property
    def unexplained(self) -> Count:
        """What has entered, waits nowhere and became nothing: none, unless something is wrong."""
        return self.journal.books.pending - counted(self.hand) - self.journal.books.waiting - self.journal.books.missed

    def sums(self) -> dict[str, int]:
        """What became of this journal's records since it was made, for `/health`."""
        totals = self.journal.books.totals
        return {
            "entered": self.journal.books.entered.records,
            "stored": totals.stored.records,
            "duplicate_at_collector": totals.duplicate.records,
            "quarantined": totals.quarantined.records,
            "dropped_bytes": totals.dropped_bytes.records,
            "dropped_no_space": totals.dropped_no_space.records,
            "dropped_age": totals.dropped_age.records,
            "dropped_oversize": totals.dropped_oversize.records,
            "dropped_expired": totals.dropped_expired.records,
            "corrupt": totals.corrupt.records,
            "forgotten": totals.forgotten.records,
            "pending": self.pending,
        }

    def told(self) -> dict[str, int]:
        """The same, shorter, for the collector (`Bitville-Ledger`, wire.md 5)."""
        sums = self.sums()
        return {
            "entered": sums["entered"],
            "stored": sums["stored"],
            "duplicate": sums["duplicate_at_collector"],
            "quarantined": sums["quarantined"],
            "dropped": sum(n for name, n in sums.items() if name.startswith("dropped_")),
            "corrupt": sums["corrupt"],
        }

    def framed(self) -> dict[str, int]:
        """Of a journal of frames: the requests that they stand for, since it was made, and what became of them."""
        became = self.journal.books.totals
        delivered = became.stored + became.duplicate
        return {
            "framed": self.journal.books.entered.requests,
            "framed_stored": delivered.requests,
            "framed_lost": (became.all - delivered).requests,
            "framed_pending": (counted(self.hand) + self.journal.books.waiting).requests,
        }

    @property
    def is_due(self) -> bool:
        """Whether what is there need not wait for the next flush."""
        return bool(self.hand) or self.journal.has_batch() or (self.at_once and self.pending > 0)

    async def fill(self) -> bool:
        """Take a batch in hand unless there is one; whether there is now. Raises `OSError`."""
        if not self.hand:
            self.hand = await self.journal.take(limits.BATCH_ITEMS, limits.BATCH_BYTES)
        return bool(self.hand)

    async def settle(self, part: Sequence[Record], became: Totals) -> None:
        """The first records in hand are answered for: the cursor moves, with what became of them."""
        del self.hand[: len(part)]
        await self.journal.settle(part[-1].place, became)


def counted(records: Sequence[Record]) -> Count:
    """How many, and the requests they stand for."""
    return Count(len(records), sum(record.entry.requests for record in records))


def became_of(part: Sequence[Record], answer: Delivered) -> tuple[Totals, list[tuple[Record, Rejected]]]:
    """What an answer that counts every record makes of them, and which are to be kept for a person.

    The answer does not say which of the others were known already; the last ones are taken for those. It matters
    to none of the sums that must balance.
    """
    rejected = {why.line: why for why in answer.rejected}
    taken = [record for line, record in enumerate(part, 1) if line not in rejected]
    stored, known = taken[: answer.stored], taken[answer.stored :]
    totals = Totals(stored=counted(stored), duplicate=counted(known))
    kept: list[tuple[Record, Rejected]] = []
    for line, why in sorted(rejected.items()):
        record = part[line - 1]
        totals += lost(record, why.reason)
        if why.reason != "expired":
            kept.append((record, why))
    return totals, kept


def lost(record: Record, reason: str) -> Totals:
    """A record that the collector will never have."""
    one = counted([record])
    if reason == "expired":
        return Totals(dropped_expired=one)
    return Totals(dropped_oversize=one) if reason == "oversize" else Totals(quarantined=one)
