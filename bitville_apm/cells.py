"""What one request adds to a frame or a roll: per dimension and value, additive columns (wire.md 6).

A histogram counts durations in buckets that grow by a tenth: bucket i holds (1.1^(i-1), 1.1^i] microseconds and
is read back as its geometric middle, so that a percentile is wrong by 5 % at most and histograms add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from bitville_apm import limits
from bitville_apm.profile import Profile
from bitville_apm.records import Frame
from bitville_apm.requests import Request, network

OTHER = "~other"
GROWTH = math.log(1.1)

SUMS = (
    "requests",
    "executions",
    "wall_us",
    "cpu_us",
    "queue_us",
    "sql_us",
    "blocked_s",
    "waiting_s",
    "errors",
)
"""The columns that add; `max_us` takes the larger, `histogram` adds bucket by bucket."""


class Columns(Struct):
    """The columns of one value. `executions` stays None while nobody counted them."""

    requests: int = 0
    executions: int | None = None
    wall_us: int = 0
    cpu_us: int = 0
    queue_us: int = 0
    sql_us: int = 0
    blocked_s: float = 0.0
    waiting_s: float = 0.0
    max_us: int = 0
    errors: int = 0
    histogram: dict[int, int] = {}

    def add(self, other: Columns) -> None:
        """Add another's columns to these."""
        self.requests += other.requests  # written out: this runs a hundred times a record
        if other.executions is not None:
            self.executions = (self.executions or 0) + other.executions
        self.wall_us += other.wall_us
        self.cpu_us += other.cpu_us
        self.queue_us += other.queue_us
        self.sql_us += other.sql_us
        self.blocked_s += other.blocked_s
        self.waiting_s += other.waiting_s
        self.errors += other.errors
        if other.max_us > self.max_us:
            self.max_us = other.max_us
        if other.histogram:
            self.histogram = added(self.histogram, other.histogram)


Cells = dict[tuple[str, str], Columns]
"""(dimension, value) -> columns."""


def bucket(us: float) -> int:
    """The histogram bucket of a duration in microseconds."""
    return math.ceil(math.log(max(1.0, us)) / GROWTH)


def added(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    """Two histograms as one."""
    both = dict(a)
    for i, count in b.items():
        both[i] = both.get(i, 0) + count
    return both


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The duration in microseconds that `share` (0..1) of the counted ones do not exceed; None when empty."""
    total = sum(histogram.values())
    if total == 0:
        return None
    rank, seen = share * total, 0
    for i in sorted(histogram):
        seen += histogram[i]
        if seen >= rank:
            break
    return math.exp((i - 0.5) * GROWTH)


def of_request(request: Request, profile: Profile | None) -> Cells:
    """What one finished request adds, all dimensions it has."""
    us = round(request.ms * 1000)
    whole = Columns(
        requests=1,
        wall_us=us,
        cpu_us=request.cpu_us or 0,
        queue_us=request.queue_us or 0,
        sql_us=round(request.sql_ms * 1000),
        max_us=us,
        errors=int(request.failed),
    )
    cells: Cells = {("endpoint", request.endpoint): _copy(whole, {bucket(us): 1})}
    for dimension, value in (
        ("client", network(request.client)),
        ("agent", request.agent),
        ("release", request.release),
    ):
        if value:
            cells[dimension, value] = _copy(whole, {})
    for use in request.statements:
        mean_us = use.ms * 1000 / max(1, use.n)
        cells["statement", use.statement] = Columns(
            requests=1,
            executions=use.n,
            wall_us=round(use.ms * 1000),
            sql_us=round(use.ms * 1000),
            max_us=round(use.max_ms * 1000),
            errors=use.failed,
            histogram={bucket(mean_us): use.n},
        )
    for call in request.externals:
        call_us = round(call.ms * 1000)
        cells["external", call.target] = Columns(requests=1, executions=call.n, wall_us=call_us, max_us=call_us)
    if profile is not None:
        _add_functions(cells, request, profile)
    return cells


def _copy(whole: Columns, histogram: dict[int, int]) -> Columns:
    mine = Columns(histogram=histogram)
    mine.add(whole)
    return mine


def _add_functions(cells: Cells, request: Request, profile: Profile) -> None:
    """Self time by function; the request's own CPU and queue are spread over them by it."""
    total = max(1, profile.total_us)
    for rank, function in enumerate(profile.functions):
        self_us = function.self_us or 0
        if self_us <= 0:
            continue
        key = ("function", function.name if rank < limits.DIMENSION_CAPS["function"] else OTHER)
        cells.setdefault(key, Columns(requests=1)).add(
            Columns(
                executions=function.calls,
                wall_us=self_us,
                cpu_us=(request.cpu_us or 0) * self_us // total,
                queue_us=(request.queue_us or 0) * self_us // total,
                max_us=self_us,
            )
        )


def of_frame(frame: Frame) -> Iterator[tuple[str, str, Columns]]:
    """The cells of a frame, one by one; unknown dimensions too, unknown columns not."""
    for dimension, table in frame.cells.items():
        for row, value in enumerate(table.values):
            columns = Columns()
            for name, column in table.columns.items():
                if name in Columns.__struct_fields__ and row < len(column) and column[row] is not None:
                    setattr(columns, name, _histogram(column[row]) if name == "histogram" else column[row])
            yield dimension, value, columns


def _histogram(pairs: Iterable[Any]) -> dict[int, int]:
    return {int(i): int(count) for i, count in pairs}
