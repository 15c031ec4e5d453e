"""The heaviest values of a dimension, and one value over time: minute or hour rolls of a range, added up over hosts,
projects and days."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.cells import SUMS, added, percentile
from bitville_apm.store.interface import TopRow
from bitville_apm.store.sqlite.rolls import unpacked

_CONDITION = "project = ? AND dimension = ? AND {0} >= ? AND {0} < ? AND (?5 IS NULL OR host = ?5)"
_SUMS = ", ".join(f"total({column})" for column in SUMS)


@attrs.frozen
class Rolls:
    """One table of rolls, as questions see it."""

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
        return cls(
            f"SELECT (SELECT text FROM name WHERE name.id = value), {_SUMS}, count(executions), max(max_us)"  # noqa: S608
            f" FROM {table} WHERE {where} GROUP BY value",
            f"SELECT text, histogram FROM {table} JOIN name ON name.id = value WHERE {where}"  # noqa: S608
            " AND histogram IS NOT NULL",
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

    def count(self, histogram: Mapping[int, int]) -> None:
        """Add a histogram."""
        self.histogram = added(self.histogram, histogram)

    @property
    def load_s(self) -> float:
        """Task-seconds, running and blocked."""
        return self.running_s + self.sums["blocked_s"]

    @property
    def running_s(self) -> float:
        """On a CPU or waiting for one."""
        return (self.sums["cpu_us"] + self.sums["queue_us"]) / 1e6

    @property
    def wall_us(self) -> float:
        """Wall time."""
        return self.sums["wall_us"]

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
            running_s=self.running_s,
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

    def totals(self, db: sqlite3.Connection, rolls: Rolls, project: int, *more: int) -> Iterator[tuple[str, Total]]:
        """Each value's columns in one project of one day."""
        for value, *columns in self._rows(db, rolls, rolls.totals, project, *more):
            *sums, counted, max_us = columns
            yield value, Total(dict(zip(SUMS, sums, strict=True)), counted > 0, max_us)

    def histograms(
        self, db: sqlite3.Connection, rolls: Rolls, wanted: set[str], project: int, *more: int
    ) -> Iterator[tuple[str, dict[int, int]]]:
        """The histograms of some values."""
        for value, histogram in self._rows(db, rolls, rolls.histograms, project, *more):
            if value in wanted:
                yield value, unpacked(histogram)

    def times(
        self, db: sqlite3.Connection, rolls: Rolls, value: str | None, project: int, *more: int
    ) -> Iterator[tuple[int, tuple[Total, dict[int, int]]]]:
        """One value's columns (of all values for None) by the minute in which each row begins."""
        number: int | None = None
        if value is not None:
            row = db.execute("SELECT id FROM name WHERE text = ?", (value[: limits.NAME_CHARACTERS],)).fetchone()
            if row is None:
                return
            number = row[0]
        for at, *columns in self._rows(db, rolls, rolls.times, project, *more, number):
            *sums, counted, max_us = columns
            yield at * rolls.minutes, (Total(dict(zip(SUMS, sums, strict=True)), counted > 0, max_us), {})
        for at, histogram in self._rows(db, rolls, rolls.times_histograms, project, *more, number):
            yield at * rolls.minutes, (Total(), unpacked(histogram))

    def _rows(
        self, db: sqlite3.Connection, rolls: Rolls, question: str, project: int, *more: int | None
    ) -> Iterator[tuple[Any, ...]]:
        names = dict(db.execute("SELECT text, id FROM name WHERE text IN (?, ?)", (self.dimension, self.host)))
        if self.dimension in names and (self.host is None or self.host in names):
            host = None if self.host is None else names[self.host]
            yield from db.execute(question, (project, names[self.dimension], *self._span(rolls), host, *more))


def ranked(totals: Mapping[str, Total]) -> list[tuple[str, Total]]:
    """Heaviest first: by task-seconds where anything has some, else by wall time; then by name."""
    by_load = any(total.load_s for total in totals.values())
    return sorted(totals.items(), key=lambda item: (-(item[1].load_s if by_load else 0.0), -item[1].wall_us, item[0]))
