"""What came in and what became of it: the sums that must balance (design 4).

Equations, each between numbers that are kept in different places, so that a path that forgets to count shows:

    received  = journalled + duplicate + invalid + unwritten + waiting           since this start
    journalled + died + observed - local = what has entered the journal to be forwarded    since this start
    entered   = stored + duplicate + quarantined + dropped + corrupt + pending  since the journal was made
    folded    = in frames + in windows that are not written yet                 since this start
    framed    = stored + lost + pending                                         since the journal was made

The last two count requests, for which frames stand; the others records. What a start folds again is in no frame of
before, and is folded and framed since this start.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.records import Count


@attrs.define
class Ledger:
    """What came in since start.

    `unwritten` were not acknowledged: their senders keep them. `died` and `observed` (what sources saw, not counted by
    frames) are records of our own making. `local` were
    journalled and are not to be forwarded. `unconfirmed` were sent whole once, are received already, and only say
    that their ack was not seen. `left_out` never came: a client's full spool file had no room for them.
    """

    received: int = 0
    journalled: int = 0
    duplicate: int = 0
    invalid: int = 0
    unwritten: int = 0
    died: int = 0
    observed: int = 0
    local: int = 0
    unconfirmed: int = 0
    left_out: int = 0

    def count(self, counted: Count) -> None:
        """What a client only counted."""
        self.unconfirmed += counted.unconfirmed
        self.left_out += counted.left_out

    @property
    def decided(self) -> int:
        """Of what was received, that of which it is known what became."""
        return self.journalled + self.duplicate + self.invalid + self.unwritten

    @property
    def forwardable(self) -> int:
        """What must have entered the journal to be forwarded."""
        return self.journalled + self.died + self.observed - self.local


def unexplained(
    ledger: Ledger, waiting: int, folded: int, in_windows: int, records: Outgoing, frames: Outgoing
) -> Mapping[str, int]:
    """By how much each equation is wrong; empty when all hold.

    `waiting` are received and not decided, `folded` are requests since this start, `in_windows` those of them that no
    frame has. `records` and `frames` are the two journals.
    """
    wrong = {
        "received": ledger.received - ledger.decided - waiting,
        "entered": ledger.forwardable - records.entered_since_start.records,
        "forwarded": records.unexplained.records + frames.unexplained.records,
        "folded": folded - in_windows - frames.entered_since_start.requests,
        "framed": frames.unexplained.requests,
    }
    return {name: by for name, by in wrong.items() if by}
