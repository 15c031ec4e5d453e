"""Whether the wall clock can be believed: nothing is thrown away for its age by a clock that was just changed."""

from __future__ import annotations

import attrs

from bitville_apm import limits


@attrs.define(eq=False)
class ClockSteps:
    """Compares two clocks at each look: unix seconds, and monotonic ones that nobody can set."""

    _wall: float | None = None
    _steady: float = 0.0
    _doubted_until: float = 0.0

    def trusted(self, wall: float, steady: float) -> float | None:
        """The wall clock's time; None for a day after it ran far ahead since the last look."""
        if self._wall is not None and wall - self._wall > steady - self._steady + limits.CLOCK_STEP_S:
            self._doubted_until = steady + limits.CLOCK_DOUBTED_S
        self._wall, self._steady = wall, steady
        return wall if steady >= self._doubted_until else None
