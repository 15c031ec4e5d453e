"""What one request adds to a frame or a roll: per dimension and value, additive columns (wire.md 6).

A histogram counts durations in buckets that grow by a tenth: bucket i holds (1.1^(i-1), 1.1^i] microseconds and
is read back as its geometric middle, so that a percentile is wrong by 5 % at most and histograms add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from bitville_apm import limits
from bitville_apm.profile import Own, Profile
from bitville_apm.records import Frame
from bitville_apm.requests import Request, network, own_of
from bitville_apm.sqltext import value as value_of

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
            held = self.histogram
            for i, count in other.histogram.items():
                held[i] = held.get(i, 0) + count


Cells = dict[tuple[str, str], Columns]
"""(dimension, value) -> columns."""

Tables = dict[str, dict[str, Columns]]
"""dimension -> value -> columns: what many records are added up in."""


class Looked(Struct):
    """What looks saw of one request: microseconds on a CPU and runnable but without one, seconds blocked and asleep."""

    cpu_us: int = 0
    queue_us: int = 0
    blocked_s: float = 0.0
    waiting_s: float = 0.0


NOT_LOOKED = Looked()


def bucket(us: float) -> int:
    """The histogram bucket of a duration in microseconds."""
    return math.ceil(math.log(us) / GROWTH) if us > 1.0 else 0


def added(a: Mapping[int, int], b: Mapping[int, int]) -> dict[int, int]:
    """Two histograms as one."""
    both = dict(a)
    for i, count in b.items():
        both[i] = both.get(i, 0) + count
    return both


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The duration in microseconds that `share` (0..1) of the counted ones do not exceed; None when empty."""
    return percentiles(histogram, (share,))[0]


def percentiles(histogram: Mapping[int, int], shares: Sequence[float]) -> list[float | None]:
    """The same for several shares, which rise."""
    total = sum(histogram.values())
    if total == 0:
        return [None] * len(shares)
    found: list[float | None] = []
    seen, i = 0, 0
    counted = iter(sorted(histogram))
    for share in shares:
        while not seen or seen < share * total:
            i = next(counted)
            seen += histogram[i]
        found.append(math.exp((i - 0.5) * GROWTH))
    return found


def of_request(request: Request, profile: Profile | None) -> Cells:
    """What one finished request adds, all dimensions it has."""
    tables: Tables = {}
    add_request(tables, request, [] if profile is None else own_of(profile))
    return {(dimension, value): columns for dimension, table in tables.items() for value, columns in table.items()}


def add_request(tables: Tables, request: Request, functions: Sequence[Own], looked: Looked = NOT_LOOKED) -> None:
    """Add one finished request, all dimensions it has.

    `looked` is what looks have added of it already, to whichever frame: it is not added again, and its functions'
    share is left to `add_functions`.
    """
    us = round(request.ms * 1000)
    cpu = max(0, (request.cpu_us or 0) - looked.cpu_us)
    queue = max(0, (request.queue_us or 0) - looked.queue_us)
    sql = round(request.sql_ms * 1000)
    errors = int(request.failed)
    i = bucket(us)
    for dimension, value in (
        ("endpoint", request.endpoint),
        ("client", network(request.client)),
        ("agent", request.agent),
        ("release", request.release),
    ):
        if not value:
            continue
        held = cell(tables, dimension, value)
        held.requests += 1
        held.wall_us += us
        held.cpu_us += cpu
        held.queue_us += queue
        held.sql_us += sql
        held.errors += errors
        if us > held.max_us:
            held.max_us = us
        if dimension == "endpoint":
            held.histogram[i] = held.histogram.get(i, 0) + 1
    known = tables.get("statement", {})
    for use in request.statements:
        use_us = round(use.ms * 1000)
        name = value_of(use.statement)
        held = known.get(name) or cell(tables, "statement", name)
        held.requests += 1
        held.executions = (held.executions or 0) + use.n
        held.wall_us += use_us
        held.sql_us += use_us
        held.errors += use.failed
        longest = round(use.max_ms * 1000)
        if longest > held.max_us:
            held.max_us = longest
        i = bucket(use.ms * 1000 / (use.n or 1))
        held.histogram[i] = held.histogram.get(i, 0) + use.n
    for call in request.externals:
        call_us = round(call.ms * 1000)
        held = cell(tables, "external", call.target)
        held.requests += 1
        held.executions = (held.executions or 0) + call.n
        held.wall_us += call_us
        held.max_us = max(held.max_us, call_us)
    if functions and looked is NOT_LOOKED:
        add_functions(tables, functions, Looked(request.cpu_us or 0, request.queue_us or 0))


def add_functions(tables: Tables, functions: Sequence[Own], spent: Looked, ended: bool = True) -> None:
    """Add self times, and what the request spent, spread over them so that it adds up to it exactly.

    `ended`: count the request, in the window in which it ended and in no other.
    """
    weights = [f.busy_us for f in functions]
    if not any(weights):
        weights = [f.us for f in functions]
    cpu, queue = spread(spent.cpu_us, weights), spread(spent.queue_us, weights)
    blocked = spread(round(spent.blocked_s * 1e6), weights) if spent.blocked_s else None
    waiting = spread(round(spent.waiting_s * 1e6), [f.us for f in functions]) if spent.waiting_s else None
    cap = limits.DIMENSION_CAPS["function"]
    known = tables.get("function", {})
    for rank, function in enumerate(functions):
        name = function.name if rank < cap else OTHER
        held = known.get(name) or cell(tables, "function", name)
        held.wall_us += function.us
        held.cpu_us += cpu[rank]
        held.queue_us += queue[rank]
        if blocked is not None:
            held.blocked_s += blocked[rank] / 1e6
        if waiting is not None:
            held.waiting_s += waiting[rank] / 1e6
        if ended:
            held.requests += rank <= cap
            if function.calls is not None:
                held.executions = (held.executions or 0) + function.calls
            if function.us > held.max_us:
                held.max_us = function.us


def add_looked(held: Columns, part: Looked) -> None:
    """Add what looks saw to a value's columns."""
    held.cpu_us += part.cpu_us
    held.queue_us += part.queue_us
    held.blocked_s += part.blocked_s
    held.waiting_s += part.waiting_s


def cell(tables: Tables, dimension: str, value: str) -> Columns:
    """The columns of one value, made when there are none yet."""
    table = tables.get(dimension)
    if table is None:
        table = tables[dimension] = {}
    held = table.get(value)
    if held is None:
        if len(value) > limits.NAME_CHARACTERS:
            return cell(tables, dimension, value[: limits.NAME_CHARACTERS])
        held = table[value] = Columns()
    return held


def spread(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount in whole parts, in proportion to weights; they add up to it, or are all 0 where no weight is."""
    total = sum(weights)
    if not total or not amount:
        return [0] * len(weights)
    if len(weights) == 1:
        return [amount]
    parts = []
    seen = given = 0
    for weight in weights:
        seen += weight
        upto = amount * seen // total
        parts.append(upto - given)
        given = upto
    return parts


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
