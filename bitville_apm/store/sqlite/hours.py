"""Hour rolls of whole days in `main.db`: what stays of a day when its file is gone.

A day's rows are replaced as a whole, in one transaction, and remember the day file's count of changes: a record
that came late shows as another count, and the day is added up again.
"""

from __future__ import annotations

import datetime
import sqlite3

from bitville_apm import limits
from bitville_apm.cells import OTHER, Columns
from bitville_apm.store.sqlite import blocks
from bitville_apm.store.sqlite.blocks import Block
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.files import number_of

_BLOCKS = "SELECT at, host, body FROM block WHERE project = ? AND dimension = ? AND span = 60 ORDER BY at, host"
_WEIGHTS = ("cpu_us", "queue_us", "blocked_s", "wall_us", "requests")
_INSERT = "INSERT INTO block (day, project, dimension, at, host, body) VALUES (?,?,?,?,?,?)"


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
    number = number_of(date)
    names = _Names(main, day, number)
    forget(main, number)
    main.execute("INSERT INTO day (day, changes) VALUES (?, ?)", (number, changes_of(day)))
    projects = [names.number(project) for (project,) in day.execute("SELECT DISTINCT project FROM presence")]
    main.executemany("INSERT INTO presence (day, project) VALUES (?, ?)", [(number, p) for p in projects])
    bodies = Bodies(day)
    for project, dimension in day.execute("SELECT DISTINCT project, dimension FROM block").fetchall():
        place = (names.number(project), names.number(dimension))
        kept = _heaviest(day, bodies, project, dimension)
        for at, host, body in day.execute(_BLOCKS, (project, dimension)):
            block = _folded(Block.of(bodies.decompress(body)), kept, names)
            packed = bodies.compress_plain(block.packed(planes=True))
            main.execute(_INSERT, (number, *place, at, names.number(host), packed))


def forget(main: sqlite3.Connection, number: int) -> None:
    """Remove a day's hours."""
    for table in ("block", "presence", "day"):
        main.execute(f"DELETE FROM {table} WHERE day = ?", (number,))  # noqa: S608


def forget_before(main: sqlite3.Connection, number: int) -> None:
    """Remove all days before one, and the names that nothing has any more."""
    days = [day for (day,) in main.execute("SELECT day FROM day WHERE day < ?", (number,))]
    for day in days:
        forget(main, day)
    if days:
        main.execute("DELETE FROM name WHERE newest < ?", (number,))


class _Names:
    """The numbers of a day's names in `main.db`."""

    def __init__(self, main: sqlite3.Connection, day: sqlite3.Connection, newest: int) -> None:
        self._main = main
        self._newest = newest
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
        """The number here of a text, which this day uses too."""
        question = (
            "INSERT INTO name (text, newest) VALUES (?, ?) ON CONFLICT (text)"
            " DO UPDATE SET newest = max(newest, excluded.newest) RETURNING id"
        )
        return int(self._main.execute(question, (text, self._newest)).fetchone()[0])


def _folded(held: Block, kept: set[int] | None, names: _Names) -> Block:
    """A block with the numbers of `main.db`; of its values those that are kept, the rest as `~other`."""
    cells: dict[int, Columns] = {}
    rest: Columns | None = None
    for row, value in enumerate(held.values):
        if kept is None or value in kept:
            cells[names.number(value)] = held.cell(row)
        else:
            rest = rest or Columns()
            rest.add(held.cell(row))
    if rest is not None:
        cells.setdefault(names.of(OTHER), Columns()).add(rest)
    return blocks.added(blocks.EMPTY, cells, None)


def _heaviest(day: sqlite3.Connection, bodies: Bodies, project: int, dimension: int) -> set[int] | None:
    """The values that are kept by themselves, by their largest share of anything; None for all of them.

    The same ones in every hour of the day, so that no value has holes.
    """
    weights: dict[int, list[float]] = {}
    for _, _, body in day.execute(_BLOCKS, (project, dimension)):
        block = Block.of(bodies.decompress(body))
        nothing = [0] * len(block.values)
        columns = [
            block.columns.get(name, nothing) for name in ("cpu_us", "queue_us", "blocked_s", "wall_us", "requests")
        ]
        for value, cpu, queue, blocked, wall, requests in zip(block.values, *columns, strict=True):
            held = weights.setdefault(value, [0.0, 0.0, 0.0])
            held[0] += cpu + queue + 1e6 * blocked
            held[1] += wall
            held[2] += requests
    if len(weights) <= limits.HOUR_VALUES:
        return None
    sums = [sum(held[i] for held in weights.values()) or 1.0 for i in range(3)]
    by_share = sorted(weights, key=lambda value: max(w / s for w, s in zip(weights[value], sums, strict=True)))
    return set(by_share[-limits.HOUR_VALUES :])
