"""When garbage is collected: between two turns of the reactor, not whenever some thousand objects were made.

What waits in cycles is little here; what is looked at for it is all that lives, and a report or a batch of records
makes a million objects that no cycle holds.
"""

from __future__ import annotations

import gc

import attrs

from bitville_apm import limits


@attrs.define(eq=False)
class Garbage:
    """Of one process. `runs` counts collections since the start."""

    runs: int = 0

    def start(self) -> None:
        """From here on nothing is collected by itself. What lives by now lives for good, and is not looked at again."""
        gc.freeze()
        gc.disable()

    def stop(self) -> None:
        """As Python does it again."""
        gc.enable()

    def collect(self) -> None:
        """The young generation, an older one each tenth time, all each hundredth time."""
        self.runs += 1
        gc.collect((self.runs % limits.GC_OLDER == 0) + (self.runs % limits.GC_OLDER**2 == 0))
