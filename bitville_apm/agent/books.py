"""One journal's books: what has entered, what was given out, what became of it. Pure: no files, no clock.

    settled ── in the sender's hand ── waiting (in memory, on disk)
           given                   taken

Each forwardable record is in exactly one of these places, or in one of the totals. Two things do not come in order:

* A loss is noticed while reading on, before what lies in front of it is settled. It is counted once it is passed.
* Segments are dropped while records of theirs are in the sender's hand. The rest of them is dropped; those in hand
  stay there, and become what the collector answers. Until then they are durably noted as dropped: a crash would find
  them neither on disk nor answered for. (The collector may have stored such a batch all the same.)
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from bitville_apm.agent.segment import Place, Record
from bitville_apm.agent.totals import NONE, Count, Totals


@attrs.define(eq=False)
class Books:
    """Places and counts of one journal.

    `entered` is what ever has. `passed` is what of that is given out, lost or dropped, up to the place `taken`;
    `given` is the place of the last record given out, `acked` that up to which all is settled. `totals` say what
    became of what has left.
    """

    acked: Place = (0, 0)
    taken: Place = (0, 0)
    given: Place = (0, 0)
    entered: Count = NONE
    passed: Count = NONE
    totals: Totals = attrs.field(factory=Totals)
    _losses: list[tuple[Place, Count]] = attrs.Factory(list)
    _gone: tuple[Count, str] | None = None

    @property
    def pending(self) -> Count:
        """What became nothing yet, in the sender's hand included."""
        return self.entered - self.totals.all

    @property
    def waiting(self) -> Count:
        """What nobody has taken yet."""
        return self.entered.beyond(self.passed)

    @property
    def missed(self) -> Count:
        """Losses that are not counted yet."""
        return sum((count for _, count in self._losses), NONE)

    @property
    def in_hand(self) -> bool:
        """Whether something was given out that is not settled."""
        return self.given > self.acked or self._gone is not None

    @property
    def durable(self) -> Totals:
        """The totals as they belong beside `acked` on disk: their sum is what had entered up to there."""
        if self._gone is None:
            return self.totals
        entered, why = self._gone
        return self.totals + Totals(**{why: entered.beyond(self.totals.all)})

    def give(self, record: Record) -> None:
        """A record goes into the sender's hand."""
        self.given = self.taken = record.place
        self.passed = record.through

    def came_to(self, place: Place, passed: Count, losses: Iterable[tuple[Place, Count]] = ()) -> None:
        """Reading has passed everything up to `place`; these were missing."""
        self._losses += losses
        self.taken, self.passed = place, passed

    def settle(self, through: Place, became: Totals) -> None:
        """The sender's records up to `through` became this."""
        self.totals += became
        if through >= self.given:
            self._gone = None
            through = max(through, self.taken)
        self._move(through)

    def move_on(self) -> None:
        """With nothing in hand all that was passed is settled: records of this host only, and losses."""
        if not self.in_hand:
            self._move(self.taken)

    def drop(self, through: Place, entered: Count, why: str) -> Count:
        """Nothing up to `through` is left on disk, by which `entered` had entered; gives back what that cost."""
        dropped = entered.beyond(self.passed)
        if self.in_hand:
            self._gone = entered, why
        self.totals += Totals(**{why: dropped})
        self.passed += dropped
        self.taken = max(self.taken, through)
        self._move(through)
        return dropped

    def _move(self, place: Place) -> None:
        self.acked = max(self.acked, place)
        while self._losses and self._losses[0][0] <= self.acked:
            self.totals += Totals(corrupt=self._losses.pop(0)[1])
