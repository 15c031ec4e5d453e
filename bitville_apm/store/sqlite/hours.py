"""Hour rolls of whole days in `main.db`: what stays of a day when its file is gone.

A day's rows are replaced as a whole, in one transaction, and remember the day file's count of changes: a record
that came late shows as another count, and the day is added up again.
"""

from __future__ import annotations

import datetime
import itertools
import sqlite3
from collections.abc import Iterator
from typing import Any

from bitville_apm import limits
from bitville_apm.cells import OTHER, Columns
from bitville_apm.store.sqlite import rolls
from bitville_apm.store.sqlite.files import number_of

_COLUMNS = ", ".join(rolls.COLUMNS)
_ROWS = f"SELECT project, dimension, hour, host, value, {_COLUMNS} FROM hour"  # noqa: S608 - our own names
_ORDER = " ORDER BY project, dimension, hour, host, value"
_INSERT = (
    f"INSERT INTO hour (day, project, dimension, hour, host, value, {_COLUMNS})"  # noqa: S608
    f" VALUES ({', '.join('?' * (6 + len(rolls.COLUMNS)))})"
)
_WEIGHTS = (
    "SELECT value, total(cpu_us + queue_us) + 1e6 * total(blocked_s) AS load, total(wall_us) AS wall,"
    " total(requests) AS requests FROM hour WHERE project = ? AND dimension = ? GROUP BY value"
)


def changes_of(day: sqlite3.Connection) -> int:
    """How often anything in a day file was changed."""
    return int(day.execute("SELECT n FROM change").fetchone()[0])


def changes_added_up(main: sqlite3.Connection, date: datetime.date) -> int | None:
    """What that was when the day was added up; None when it never was."""
    row = main.execute("SELECT changes FROM day WHERE day = ?", (number_of(date),)).fetchone()
    return int(row[0]) if row else None


def replace(main: sqlite3.Connection, date: datetime.date, day: sqlite3.Connection) -> None:
    """Put a day's hours in the place of what `main.db` has of it, within the caller's transaction.

    `day` sees one commit: its caller began to read.
    """
    number, names = number_of(date), _Names(main, day)
    forget(main, number)
    main.execute("INSERT INTO day (day, changes) VALUES (?, ?)", (number, changes_of(day)))
    projects = [names.number(project) for (project,) in day.execute("SELECT DISTINCT project FROM presence")]
    main.executemany("INSERT INTO presence (day, project) VALUES (?, ?)", [(number, p) for p in projects])
    main.executemany(_INSERT, ((number, *row) for row in _folded(day, names)))


def forget(main: sqlite3.Connection, number: int) -> None:
    """Remove a day's hours."""
    for table in ("hour", "presence", "day"):
        main.execute(f"DELETE FROM {table} WHERE day = ?", (number,))  # noqa: S608


def forget_before(main: sqlite3.Connection, number: int) -> None:
    """Remove all days before one, and the names that nothing has any more."""
    days = [day for (day,) in main.execute("SELECT day FROM day WHERE day < ?", (number,))]
    for day in days:
        forget(main, day)
    if days:
        columns = ("project", "dimension", "host", "value")
        used = " UNION ".join(f"SELECT {column} FROM hour" for column in columns)  # noqa: S608
        main.execute(f"DELETE FROM name WHERE id NOT IN ({used} UNION SELECT project FROM presence)")  # noqa: S608


class _Names:
    """The numbers of a day's names in `main.db`."""

    def __init__(self, main: sqlite3.Connection, day: sqlite3.Connection) -> None:
        self._main = main
        self._day = day
        self._known: dict[int, int] = {}

    def number(self, theirs: int) -> int:
        """The number here of a number there."""
        found = self._known.get(theirs)
        if found is None:
            row = self._day.execute("SELECT text FROM name WHERE id = ?", (theirs,)).fetchone()
            if row is None:
                raise sqlite3.DatabaseError(f"the name {theirs} is gone")
            found = self._known[theirs] = self.of(row[0])
        return found

    def of(self, text: str) -> int:
        """The number here of a text."""
        self._main.execute("INSERT OR IGNORE INTO name (text) VALUES (?)", (text,))
        return int(self._main.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()[0])


def _folded(day: sqlite3.Connection, names: _Names) -> Iterator[tuple[Any, ...]]:
    """The rows for `main.db` without their day: one project and dimension after another, streamed."""
    rows = day.execute(_ROWS + _ORDER)
    other = names.of(OTHER)
    for (project, dimension), of_dimension in itertools.groupby(rows, key=lambda row: row[:2]):
        kept = _heaviest(day, project, dimension)
        for (hour, host), group in itertools.groupby(of_dimension, key=lambda row: row[2:4]):
            place = (names.number(project), names.number(dimension), hour, names.number(host))
            rest: Columns | None = None
            for row in group:
                value = names.number(row[4]) if kept is None or row[4] in kept else other
                if value != other:
                    yield (*place, value, *row[5:])
                    continue
                rest = rest or Columns()
                rest.add(rolls.columns_of(row[5:]))
            if rest is not None:
                yield (*place, other, *rolls.row_of(rest))


def _heaviest(day: sqlite3.Connection, project: int, dimension: int) -> set[int] | None:
    """The values that are kept by themselves, by their largest share of anything; None for all of them.

    The same ones in every hour of the day, so that no value has holes.
    """
    weights = day.execute(_WEIGHTS, (project, dimension)).fetchall()
    if len(weights) <= limits.HOUR_VALUES:
        return None
    sums = [sum(row[column] for row in weights) or 1.0 for column in (1, 2, 3)]
    weights.sort(key=lambda row: max(row[i + 1] / sums[i] for i in range(3)), reverse=True)
    return {row[0] for row in weights[: limits.HOUR_VALUES]}
