"""Minute and hour rolls: adding cells to the blocks they belong to, and taking a request's share out again.

A block is read, changed and written back as a whole. One commit touches each block once, because its cells are added
up in memory first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from operator import itemgetter

from bitville_apm.cells import Columns
from bitville_apm.store.sqlite import blocks, ranks, totals
from bitville_apm.store.sqlite.blocks import HOUR, MINUTE, Block, Other
from bitville_apm.store.sqlite.compressing import Bodies

Place = tuple[int, int, int, int]
"""project, dimension, minute, host: numbers of the day's `name` table, and unix time / 60."""
Cells = Mapping[Place, Mapping[int, Columns]]
"""What there is to add, by the number of each value."""

_SELECT = "SELECT row, body FROM block WHERE project = ? AND dimension = ? AND span = ? AND at = ? AND host = ?"
_UPDATE = "UPDATE block SET ranks = ?, body = ? WHERE row = ?"
_INSERT = "INSERT INTO block (project, dimension, span, at, host, ranks, body) VALUES (?,?,?,?,?,?,?)"
_Change = Callable[[Block, Mapping[int, Columns], Other], Block]


def add(db: sqlite3.Connection, bodies: Bodies, cells: Cells, other: Other) -> None:
    """Add the cells of minutes to their blocks, and to those of their hours and days. `other` gives the number of
    `~other`.
    """
    hours = by_hour(cells)
    _change(db, bodies, MINUTE, cells, blocks.added, other)
    _change(db, bodies, HOUR, hours, blocks.added, other)
    totals.add(db, bodies, hours)


def take_out(db: sqlite3.Connection, bodies: Bodies, cells: Cells, other: Other) -> None:
    """Undo `add` of the same cells."""
    hours = by_hour(cells)
    _change(db, bodies, MINUTE, cells, blocks.taken_out, other)
    _change(db, bodies, HOUR, hours, blocks.taken_out, other)
    totals.take_out(db, bodies, hours, other)


def by_hour(cells: Cells) -> Cells:
    """The cells of minutes, added up by hour."""
    parts: dict[Place, list[Mapping[int, Columns]]] = {}
    for (project, dimension, minute, host), table in cells.items():
        parts.setdefault((project, dimension, minute // HOUR * HOUR, host), []).append(table)
    return {place: tables[0] if len(tables) == 1 else _together(tables) for place, tables in parts.items()}


def _together(tables: list[Mapping[int, Columns]]) -> dict[int, Columns]:
    sums: dict[int, Columns] = {}
    for table in tables:
        for value, columns in table.items():
            held = sums.get(value)
            if held is None:
                held = sums[value] = Columns()
            held.add(columns)
    return sums


def _change(db: sqlite3.Connection, bodies: Bodies, span: int, cells: Cells, change: _Change, other: Other) -> None:
    for (project, dimension, at, host), table in sorted(cells.items(), key=itemgetter(0)):  # as the index is
        key = (project, dimension, span, at, host)
        row = db.execute(_SELECT, key).fetchone()
        block = change(blocks.EMPTY if row is None else Block.of(bodies.decompress(row[1])), table, other)
        body = bodies.compress_plain(block.packed(planes=span == MINUTE))
        plain = ranks.packed(block) if span == HOUR else None
        ranked = bodies.compress_plain(plain) if plain is not None else None
        if row is not None and not block.values:
            db.execute("DELETE FROM block WHERE row = ?", (row[0],))
        elif row is not None:
            db.execute(_UPDATE, (ranked, body, row[0]))
        elif block.values:
            db.execute(_INSERT, (*key, ranked, body))
