"""What is usual for an endpoint, and how two windows differ (QUERY-05): from rolls, in which every request counts.

Records are kept whole of slow requests only; averages over them would be far too high. Percentiles and the least
duration are read off the histograms of wire.md 6, so they are right within 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from bitville_apm.cells import added, bucket, percentile
from bitville_apm.store.interface import Point, TopRow


@attrs.frozen
class Usual:
    """All requests of one endpoint in some time; durations in ms, None where there was none."""

    count: int
    average: float | None
    longest: float | None
    histogram: Mapping[int, int] = attrs.field(repr=False)

    @classmethod
    def of(cls, points: Iterable[Point]) -> Usual:
        """The sum of a series."""
        points = list(points)
        histogram: dict[int, int] = {}
        for point in points:
            histogram = added(histogram, point.histogram)
        count = sum(point.row.requests for point in points)
        wall_ms = sum(point.row.wall_ms for point in points)
        longest = max((point.row.max_ms for point in points), default=None)
        return cls(count, wall_ms / count if count else None, longest, histogram)

    def percentile(self, share: float) -> float | None:
        """The duration, ms, that `share` of them do not exceed."""
        us = percentile(self.histogram, share)
        return None if us is None else us / 1000

    def share(self, ms: float, slower: bool = False) -> float | None:
        """Percent of them that were at most as slow as `ms`, or that were slower; those of its bucket are as slow."""
        total = sum(self.histogram.values())
        if not total:
            return None
        own = bucket(ms * 1000)
        at_most = sum(count for i, count in self.histogram.items() if i <= own)
        return round(100 * ((total - at_most) if slower else at_most) / total, 2)

    def json(self) -> dict[str, Any]:
        """The numbers of `stats`."""
        return {
            "count": self.count,
            "avg_duration": self.average,
            "min_duration": self.percentile(0),
            "max_duration": self.longest,
            "p50": self.percentile(0.5),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
        }


def difference(a: Sequence[TopRow], b: Sequence[TopRow], seconds_a: float, seconds_b: float) -> list[dict[str, Any]]:
    """Values of one dimension in two windows side by side, those that grew or shrank most first.

    `change` is in load units: task-seconds a second in b less those in a; where nothing has any, in wall seconds.
    """
    before, after = ({row.value: row for row in rows} for rows in (a, b))
    by_load = any(row.running_s or row.blocked_s for row in (*a, *b))

    def pace(row: TopRow | None, seconds: float) -> float:
        if row is None:
            return 0.0
        return (row.running_s + row.blocked_s if by_load else row.wall_ms / 1000) / seconds

    items = [
        {
            "value": value,
            "change": round(pace(after.get(value), seconds_b) - pace(before.get(value), seconds_a), 6),
            "a": msgspec.structs.asdict(before[value]) if value in before else None,
            "b": msgspec.structs.asdict(after[value]) if value in after else None,
        }
        for value in {**before, **after}
    ]
    return sorted(items, key=lambda item: (-abs(item["change"]), item["value"]))
