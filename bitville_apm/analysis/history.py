"""What is usual: the last hour of a host's seconds without its spikes, and their middle and deviation. Pure."""

from __future__ import annotations

import array
import bisect
from collections.abc import Iterator, Sequence

import attrs

from bitville_apm import limits


@attrs.define(eq=False)
class History:
    """The values of the last hour without spikes, one a second, kept in order of time and in order of size.

    In arrays: a collector has three of these for each host, and as objects they would take a megabyte together.
    """

    _at: array.array[float] = attrs.Factory(lambda: array.array("d"))
    _values: array.array[float] = attrs.Factory(lambda: array.array("d"))
    _sorted: array.array[float] = attrs.Factory(lambda: array.array("d"))
    _first: int = 0
    """What stands before it in the first two is forgotten."""

    def add(self, at: float, value: float) -> None:
        """One second more; what is over an hour old is forgotten, and the oldest of more than an hour's seconds."""
        self._at.append(at)
        self._values.append(value)
        bisect.insort(self._sorted, value)
        while self._first < len(self._at) and (
            self._at[self._first] <= at - limits.BASELINE_OLDEST_S or len(self._at) - self._first > limits.BASELINE_S
        ):
            del self._sorted[bisect.bisect_left(self._sorted, self._values[self._first])]
            self._first += 1
        if self._first >= limits.RECENT_S:
            del self._at[: self._first], self._values[: self._first]
            self._first = 0

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def enough(self) -> bool:
        """Whether it tells what is usual: it spans five minutes, a third of whose seconds were looked at."""
        span = self._at[-1] - self._at[self._first] if self._sorted else 0.0
        return span >= limits.HISTORY_LEAST_S - limits.WINDOW_S and len(self._sorted) >= limits.HISTORY_LEAST_S / 3

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self._at[self._first :], self._values[self._first :], strict=True)

    def usual(self) -> tuple[float, float]:
        """m and s of `detect`."""
        values = self._sorted
        n = len(values)
        if not n:
            return 0.0, limits.SIGMA_LEAST
        median = values[n // 2]
        mad = 1.4826 * _spread(values, median)
        # Of counts that are mostly 0 the median distance is 0, too; a tenth of the seconds lies beyond 1.28 deviations.
        tail = (values[min(n - 1, 9 * n // 10)] - median) / 1.2816
        # Counts are skewed: what is above their median as often as below it lies further away.
        usual = values[: max(1, n - n // 20)]
        median = max(median, sum(usual) / len(usual))
        last = self._values[max(self._first, len(self._values) - limits.RECENT_S) :]
        recent = sorted(last[: max(1, len(last) - limits.RECENT_LEFT_OUT_S)])
        middle = max(median, recent[len(recent) // 2]) if len(recent) >= limits.RECENT_LEFT_OUT_S else median
        return middle, max(limits.SIGMA_LEAST, limits.SIGMA_OF_MEDIAN * middle, mad, tail)


def _spread(values: Sequence[float], middle: float) -> float:
    """The median distance of sorted values from `middle`, by halving: no pass over them."""
    n = len(values)
    need = n // 2 + 1
    low, high = 0, n - need  # the `need` nearest lie together: find where they begin
    while low < high:
        i = (low + high) // 2
        if middle - values[i] > values[i + need] - middle:
            low = i + 1
        else:
            high = i
    return max(middle - values[low], values[low + need - 1] - middle)
