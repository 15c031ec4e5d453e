"""The heaviest values of a dimension, and one value over time: minute or hour rolls of a range, added up over hosts,
projects and days."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.cells import SUMS, percentile
from bitville_apm.store.interface import TopRow
from bitville_apm.store.sqlite.rolls import count

_CONDITION = "project = ? AND dimension = ? AND {0} >= ? AND {0} < ? AND (?5 IS NULL OR host = ?5)"
_SUMS = ", ".join(f"total({column})" for column in SUMS)
_LOAD = "total(cpu_us + queue_us) + 1e6 * total(blocked_s)"


@attrs.frozen
class Rolls:
    """One table of rolls, as questions see it."""

    weights: str
    totals: str
    histograms: str
    times: str
    times_histograms: str
    minutes: int
    """How long its rows are."""

    @classmethod
    def of(cls, table: str, unit: str, minutes: int, more: str = "") -> Rolls:
        """The questions for a table with this column of time; `more` conditions have their values from ?6 on."""
        where = _CONDITION.format(unit) + more
        value = 7 if more else 6
        one = f"{where} AND (?{value} IS NULL OR value = ?{value})"
        some = f"{where} AND value IN ({{some}})"
        return cls(
            f"SELECT (SELECT text FROM name WHERE name.id = value), {_LOAD}, total(wall_us) FROM {table}"  # noqa: S608
            f" WHERE {where} GROUP BY value",
            f"SELECT value, {_SUMS}, count(executions), max(max_us) FROM {table} WHERE {some} GROUP BY value",  # noqa: S608
            f"SELECT value, histogram FROM {table} WHERE {some} AND histogram IS NOT NULL",  # noqa: S608
            f"SELECT {unit}, {_SUMS}, count(executions), max(max_us) FROM {table} WHERE {one} GROUP BY {unit}",  # noqa: S608
            f"SELECT {unit}, histogram FROM {table} WHERE {one} AND histogram IS NOT NULL",  # noqa: S608
            minutes,
        )


MINUTES = Rolls.of("roll", "minute", 1)
HOURS = Rolls.of("hour", "hour", 60)
CLOSED = Rolls.of("hour", "hour", 60, " AND day = ?6")
"""The hours in `main.db` of a day whose file is gone."""


@attrs.define
class Total:
    """One value's columns over the range. `total()` gives floats, which cannot overflow."""

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
        for i, more in other.histogram.items():
            self.histogram[i] = self.histogram.get(i, 0) + more

    def row(self, value: str) -> TopRow:
        """As it is answered."""
        sums = self.sums
        percentiles = [percentile(self.histogram, share) for share in (0.5, 0.95, 0.99)]
        p50, p95, p99 = (None if us is None else us / 1000 for us in percentiles)
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


@attrs.frozen
class Asked:
    """A question for the rolls of one dimension, from one minute up to another, of one host or of all.

    A range of more than `limits.MINUTES_WINDOW_S` is answered from hours, the first and the last one whole.
    """

    dimension: str
    first: int
    behind: int
    host: str | None
    rolls: Rolls
    """What a day that has its file is asked for."""

    @classmethod
    def of(cls, dimension: str, start: float, end: float, host: str | None) -> Asked:
        """A question between two unix times, widened to whole minutes or hours."""
        rolls = HOURS if end - start > limits.MINUTES_WINDOW_S else MINUTES
        unit = rolls.minutes
        return cls(dimension, int(start // (60 * unit)) * unit, int(-(-end // (60 * unit))) * unit, host, rolls)

    @property
    def days(self) -> tuple[int, int]:
        """The first and last day whose file may have something of the range: records come up to six days late."""
        return self.first // 1440, self.behind // 1440 + int(limits.END_BEFORE_RECV_S // 86_400) + 1

    def _span(self, rolls: Rolls) -> tuple[int, int]:
        """The rows that lie wholly in the range, first and behind the last."""
        return -(-self.first // rolls.minutes), self.behind // rolls.minutes

    def weights(
        self, db: sqlite3.Connection, rolls: Rolls, project: int, *more: int
    ) -> Iterator[tuple[str, tuple[float, float]]]:
        """What each value is ranked by, in one project of one day: microseconds of tasks, and of wall time."""
        for value, load_us, wall_us in self._rows(db, rolls, rolls.weights, project, *more):
            yield value, (load_us, wall_us)

    def totals(
        self, wanted: Sequence[str], db: sqlite3.Connection, rolls: Rolls, project: int, *more: int
    ) -> Iterator[tuple[str, Total]]:
        """The columns of some values in one project of one day: everything else is not even looked at."""
        marks = ",".join("?" * len(wanted))
        names = dict(db.execute(f"SELECT id, text FROM name WHERE text IN ({marks})", tuple(wanted)))  # noqa: S608
        some = ",".join(map(str, names))
        found: dict[int, Total] = {}
        for value, *columns in self._rows(db, rolls, rolls.totals.format(some=some), project, *more):
            *sums, counted, max_us = columns
            found[value] = Total(dict(zip(SUMS, sums, strict=True)), counted > 0, max_us)
        for value, histogram in self._rows(db, rolls, rolls.histograms.format(some=some), project, *more):
            count(found.setdefault(value, Total()).histogram, histogram)  # a commit may have come between
        return ((names[value], total) for value, total in found.items())

    def times(
        self, value: str | None, db: sqlite3.Connection, rolls: Rolls, project: int, *more: int
    ) -> Iterator[tuple[int, Total]]:
        """One value's columns (of all values for None) by the minute in which each row begins."""
        number: int | None = None
        if value is not None:
            row = db.execute("SELECT id FROM name WHERE text = ?", (value[: limits.NAME_CHARACTERS],)).fetchone()
            if row is None:
                return
            number = row[0]
        found: dict[int, Total] = {}
        for at, *columns in self._rows(db, rolls, rolls.times, project, *more, number):
            *sums, counted, max_us = columns
            found[at] = Total(dict(zip(SUMS, sums, strict=True)), counted > 0, max_us)
        for at, histogram in self._rows(db, rolls, rolls.times_histograms, project, *more, number):
            count(found.setdefault(at, Total()).histogram, histogram)
        yield from ((at * rolls.minutes, total) for at, total in found.items())

    def _rows(
        self, db: sqlite3.Connection, rolls: Rolls, question: str, project: int, *more: int | None
    ) -> Iterator[tuple[Any, ...]]:
        names = dict(db.execute("SELECT text, id FROM name WHERE text IN (?, ?)", (self.dimension, self.host)))
        if self.dimension in names and (self.host is None or self.host in names):
            host = None if self.host is None else names[self.host]
            yield from db.execute(question, (project, names[self.dimension], *self._span(rolls), host, *more))


def ranked(weights: Mapping[str, tuple[float, float]]) -> list[str]:
    """Heaviest first: by task-seconds where anything has some, else by wall time; then by name."""
    return sorted(weights, key=lambda value: (-weights[value][0], -weights[value][1], value))
