"""From when to when rolls are asked. Pure."""

from __future__ import annotations

import math

import attrs

from bitville_apm import limits
from bitville_apm.web.parameters import wrong

_MINUTE = 60
_HOUR = 3600


@attrs.frozen
class Range:
    """From when to when, unix seconds; `widened` where whole hours are all that is kept for so long a time."""

    start: float
    end: float
    widened: bool = False

    @property
    def step_s(self) -> int:
        """How long a row of a series is: an hour where the range is longer than minutes are asked for."""
        return _HOUR if self.end - self.start > limits.MINUTES_WINDOW_S else _MINUTE


def range_of(start: float | None, end: float | None, now: float, default_s: float = _HOUR) -> Range:
    """The range that rolls can answer: whole minutes, beyond six hours whole hours; without a start, `default_s` long.

    Raises `HttpProblem` for a range that ends before it begins.
    """
    if end is None:
        end = math.ceil(now / _MINUTE) * _MINUTE if start is None or start < now else start + _HOUR
    if start is None:
        start = max(0.0, end - default_s)
    if end <= start:
        raise wrong("to", "not after from")
    step = _MINUTE
    asked = Range(math.floor(start / step) * step, math.ceil(end / step) * step)
    if asked.end - asked.start <= limits.MINUTES_WINDOW_S:
        return asked
    step = _HOUR
    return Range(math.floor(start / step) * step, math.ceil(end / step) * step, widened=True)
