"""What came in and what became of it: the sums that must balance (design 4)."""

from __future__ import annotations

import attrs

from bitville_apm.records import Count


@attrs.define
class Ledger:
    """What came in since start: received = journalled + duplicate + invalid + unwritten.

    `unwritten` were not acknowledged: their senders keep them. `died` are records of our own making.
    `unconfirmed` were sent whole once, are received already, and only say that their ack was not seen. `left_out`
    never came: a client's full spool file had no room for them.
    """

    received: int = 0
    journalled: int = 0
    duplicate: int = 0
    invalid: int = 0
    unwritten: int = 0
    died: int = 0
    unconfirmed: int = 0
    left_out: int = 0

    def count(self, counted: Count) -> None:
        """What a client only counted."""
        self.unconfirmed += counted.unconfirmed
        self.left_out += counted.left_out
