"""The heaviest values of a dimension, and one value over time: minute or hour rolls of a range, added up over hosts,
projects and days.

What ranks is read of every value, everything else of those that made it into the answer. Whole hours of a short range
come from the rolls of hours too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from bitville_apm import limits
from bitville_apm.cells import SUMS, added, percentiles
from bitville_apm.store.interface import TopRow
from bitville_apm.store.sqlite.blocks import DAY, HOUR, MINUTE, Block
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.ranks import Rank, Sum

T = TypeVar("T")
_CHUNK = 500
"""Names looked up at once."""
_RANKS = "ranks"
_IN_DAY = (
    "SELECT at, {columns} FROM block WHERE project = ? AND dimension = ? AND span = ? AND at >= ? AND at < ?"
    " AND (?6 IS NULL OR host = ?6)"
)
_DAYS_AND_HOURS = (
    "SELECT at, {columns} FROM total WHERE project = ?1 AND dimension = ?2 AND at >= ?4 AND until > at AND until <= ?5"
    " AND (?6 IS NULL OR host = ?6)"
    " UNION ALL SELECT at, {columns} FROM block WHERE project = ?1 AND dimension = ?2 AND span = ?3 AND at >= ?4"
    " AND at < ?5 AND (?6 IS NULL OR host = ?6) AND NOT EXISTS (SELECT 1 FROM total t WHERE t.project = block.project"
    " AND t.dimension = block.dimension AND t.at = block.at / 1440 * 1440 AND t.host = block.host AND t.at >= ?4"
    " AND t.until <= ?5 AND t.until > block.at)"
)
"""Days as far as they are added up and wholly asked for, and all other hours: one question, which sees one commit."""
_CLOSED = (
    "SELECT at, {columns} FROM block WHERE project = ? AND dimension = ? AND day = ? AND at >= ? AND at < ?"
    " AND (?6 IS NULL OR host = ?6)"
)


@attrs.define
class Total:
    """One value's columns over the range."""

    sums: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(SUMS, 0.0))
    counted: bool = False
    max_us: int = 0
    histogram: dict[int, int] = attrs.field(factory=dict)

    def add(self, other: Total) -> None:
        """Add another day's or project's."""
        for name in SUMS:
            self.sums[name] += other.sums[name]
        self.counted = self.counted or other.counted
        self.max_us = max(self.max_us, other.max_us)
        self.histogram = added(self.histogram, other.histogram)

    def row(self, value: str) -> TopRow:
        """As it is answered."""
        sums = self.sums
        p50, p95, p99 = (None if us is None else us / 1000 for us in percentiles(self.histogram, (0.5, 0.95, 0.99)))
        return TopRow(
            value=value,
            requests=int(sums["requests"]),
            executions=int(sums["executions"]) if self.counted else None,
            wall_ms=sums["wall_us"] / 1000,
            cpu_ms=sums["cpu_us"] / 1000,
            queue_ms=sums["queue_us"] / 1000,
            sql_ms=sums["sql_us"] / 1000,
            running_s=(sums["cpu_us"] + sums["queue_us"]) / 1e6,
            blocked_s=sums["blocked_s"],
            waiting_s=sums["waiting_s"],
            max_ms=self.max_us / 1000,
            errors=int(sums["errors"]),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
        )


class Chosen:
    """The columns of some values, added up column by column: an answer over a week reads ten thousand cells of each."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self._sums: dict[str, list[Any]] = {name: [0] * len(values) for name in SUMS}
        self._counted = [False] * len(values)
        self._most = [0] * len(values)
        self._histograms: list[dict[int, int]] = [{} for _ in values]

    def add(self, block: Block) -> bool:
        """Add what a block has of them; whether it has any."""
        found = [(n, row) for n, value in enumerate(self._values) if (row := block.row(value)) is not None]
        for name, column in block.columns.items():
            if name == "max_us":
                for n, row in found:
                    self._most[n] = max(self._most[n], column[row])
                continue
            sums = self._sums[name]
            if name == "executions":
                for n, row in found:
                    if column[row] >= 0:
                        sums[n] += column[row]
                        self._counted[n] = True
                continue
            for n, row in found:
                sums[n] += column[row]
        if block.ends:
            for n, row in found:
                block.count(row, self._histograms[n])
        return bool(found)

    def totals(self) -> list[Total]:
        """In the order of the values."""
        return [
            Total({name: column[n] for name, column in self._sums.items()}, counted, most, histogram)
            for n, (counted, most, histogram) in enumerate(
                zip(self._counted, self._most, self._histograms, strict=True)
            )
        ]


def whole(block: Block) -> Total:
    """All values of a block together."""
    executions = block.columns.get("executions", ())
    sums = {name: sum(block.columns.get(name, ())) for name in SUMS if name != "executions"}
    sums["executions"] = sum(n for n in executions if n > 0)
    histogram: dict[int, int] = {}
    for i, more in zip(block.buckets, block.counts, strict=True):
        histogram[i] = histogram.get(i, 0) + more
    counted = max(executions, default=-1) >= 0
    return Total(sums, counted, max(block.columns.get("max_us", ()), default=0), histogram)


@attrs.frozen(eq=False)
class File:
    """One project in one file that a question is put to: a day's, or `main.db` for a day whose file is gone."""

    db: sqlite3.Connection
    bodies: Bodies
    names: dict[int, str]
    """Names by their numbers: some that are known."""
    project: int
    check: Callable[[], None]
    """Called now and then; raises when the question's time is over."""
    closed: int | None = None
    """The day, in `main.db`."""

    def numbers(self, texts: Iterable[str]) -> dict[str, int]:
        """The numbers of names, of those that are in the file."""
        found: dict[str, int] = {}
        for some in _chunks(list(texts)):
            question = f"SELECT text, id FROM name WHERE text IN ({','.join('?' * len(some))})"  # noqa: S608
            found.update(self.db.execute(question, some))
        return found

    def texts(self, numbers: Iterable[int]) -> Iterator[str]:
        """The names that have some numbers, in their order. Raises `LookupError` where the file lost one."""
        numbers = list(numbers)
        for some in _chunks([number for number in numbers if number not in self.names]):
            question = f"SELECT id, text FROM name WHERE id IN ({','.join('?' * len(some))})"  # noqa: S608
            self.names.update(self.db.execute(question, some))
        return map(self.names.__getitem__, numbers)


def _chunks(items: list[T]) -> Iterator[list[T]]:
    return (items[n : n + _CHUNK] for n in range(0, len(items), _CHUNK))


@attrs.frozen
class Asked:
    """A question for the rolls of one dimension, from one minute up to another, of one host or of all.

    A range of more than `limits.MINUTES_WINDOW_S` is answered from hours, the first and the last one whole.
    """

    dimension: str
    first: int
    behind: int
    host: str | None
    hours: bool
    """Whether hours are all that is asked for."""

    @classmethod
    def of(cls, dimension: str, start: float, end: float, host: str | None) -> Asked:
        """A question between two unix times, widened to whole minutes or hours."""
        hours = end - start > limits.MINUTES_WINDOW_S
        unit = HOUR if hours else MINUTE
        return cls(dimension, int(start // (60 * unit)) * unit, int(-(-end // (60 * unit))) * unit, host, hours)

    @property
    def days(self) -> tuple[int, int]:
        """The first and last day whose file may have something of the range: records come up to six days late."""
        return self.first // 1440, self.behind // 1440 + int(limits.END_BEFORE_RECV_S // 86_400) + 1

    def weights(self, file: File, every: bool = False) -> Iterator[tuple[str, Rank]]:
        """What each value is ranked by: of those that have any load or wall time, or of `every` one."""
        ranks, total = "NULL" if every else _RANKS, Sum()
        for _, ranked, body in self._rows(file, self._spans(), f"{ranks}, CASE WHEN {ranks} IS NULL THEN body END"):
            if ranked is not None:
                total.add(file.bodies.decompress(ranked))
            else:
                total.add_block(Block.of(file.bodies.decompress(body)))
        sums = total.found()
        return zip(file.texts(sums), sums.values(), strict=True)

    def totals(self, file: File, wanted: Iterable[str]) -> Iterator[tuple[str, Total]]:
        """The columns of some values: everything else is not even looked at."""
        numbers = file.numbers(wanted)
        chosen = Chosen(list(numbers.values()))
        for _, block in self._blocks(file, self._spans()):
            chosen.add(block)
        return zip(numbers, chosen.totals(), strict=True)

    def times(self, file: File, value: str | None) -> Iterator[tuple[int, Total]]:
        """One value's columns (of all values for None) by the minute in which each span begins; one may come more
        than once.
        """
        value = value if value is None else value[: limits.NAME_CHARACTERS]
        number = None if value is None else file.numbers([value]).get(value)
        if value is not None and number is None:
            return
        for at, block in self._blocks(file, [(HOUR if self.hours else MINUTE, self.first, self.behind)]):
            if number is None:
                yield at, whole(block)
            elif (chosen := Chosen([number])).add(block):
                yield at, chosen.totals()[0]

    def _spans(self) -> list[tuple[int, int, int]]:
        """Which blocks of a day file cover the range: what they span at most, from where, up to where."""
        first, behind = -(-self.first // HOUR) * HOUR, self.behind // HOUR * HOUR
        if self.hours or first >= behind:
            return [(DAY if self.hours else MINUTE, self.first, self.behind)]
        return [(HOUR, first, behind), (MINUTE, self.first, first), (MINUTE, behind, self.behind)]

    def _blocks(self, file: File, spans: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, Block]]:
        for at, body in self._rows(file, spans, "body"):
            yield at, Block.of(file.bodies.decompress(body))

    def _rows(self, file: File, spans: Sequence[tuple[int, int, int]], columns: str) -> Iterator[tuple[Any, ...]]:
        """`at` and columns of some spans' blocks; of a closed day there are hours only, and those wholly in the range
        count.
        """
        names = file.numbers([self.dimension] if self.host is None else [self.dimension, self.host])
        if self.dimension not in names or (self.host is not None and self.host not in names):
            return
        host = None if self.host is None else names[self.host]
        asked: list[tuple[str, int, int, int]]
        if file.closed is None:
            asked = [
                (_DAYS_AND_HOURS, HOUR, first, behind) if span == DAY else (_IN_DAY, span, first, behind)
                for span, first, behind in spans
            ]
        else:
            asked = [(_CLOSED, file.closed, -(-self.first // HOUR) * HOUR, self.behind // HOUR * HOUR)]
            columns = columns.replace(_RANKS, "NULL")
        for question, which, first, behind in asked:
            if first < behind:
                place = (file.project, names[self.dimension], which, first, behind, host)
                for row in file.db.execute(question.format(columns=columns), place):
                    file.check()
                    yield row


def ranked(weights: Mapping[str, Rank]) -> list[str]:
    """Heaviest first: by task-seconds where anything has some, else by wall time; then by name."""
    return sorted(weights, key=lambda value: (-weights[value][0], -weights[value][1], value))
