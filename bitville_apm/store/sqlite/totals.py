"""Days added up: the hours of one host's day that are over, as one block, so that a week is read from seven of them.

What is in hours before a day's `until` is in the day, and what comes late for one of those is added to both. `until`
moves on when the first cells of a later hour come, or some commits later: an hour that is not in its day yet is only
read by itself. All of it happens in the transaction that changes the hours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from operator import itemgetter

from bitville_apm import limits
from bitville_apm.cells import Columns
from bitville_apm.store.sqlite import blocks, ranks
from bitville_apm.store.sqlite.blocks import DAY, HOUR, Block
from bitville_apm.store.sqlite.compressing import Bodies

Place = tuple[int, int, int, int]
"""project, dimension, unix time / 60 of the day's or hour's begin, host."""
Table = Mapping[int, Columns]

_SELECT = "SELECT row, until, body FROM total WHERE project = ? AND dimension = ? AND at = ? AND host = ?"
_UPDATE = "UPDATE total SET until = ?, ranks = ?, body = ? WHERE row = ?"
_INSERT = "INSERT INTO total (project, dimension, at, host, until, ranks, body) VALUES (?,?,?,?,?,?,?)"
_HOURS = (
    f"SELECT body FROM block WHERE project = ? AND dimension = ? AND span = {HOUR} AND at >= ? AND at < ? AND host = ?"  # noqa: S608
)


def add(db: sqlite3.Connection, bodies: Bodies, hours: Mapping[Place, Table]) -> None:
    """Have days follow their hours, to which these cells were just added."""
    left, days = limits.TOTALS_TOGETHER, []
    for key, tables in _by_day(hours).items():
        row = db.execute(_SELECT, key).fetchone()
        until = key[2] if row is None else row[1]
        if row is None or until > key[2]:  # else it has too many values
            days.append((until, key, tables, row))
    for until, key, tables, row in sorted(days, key=itemgetter(0, 1)):  # those first that have waited for the longest
        project, dimension, _, host = key
        newest = max(tables)
        late = [table for hour, table in tables.items() if hour < until]
        over = []
        if newest > until and left:
            over = db.execute(_HOURS, (project, dimension, until, newest, host)).fetchall()
            left -= bool(over)
        if over or late:
            block = Block.of(bodies.decompress(row[2])) if row is not None else blocks.EMPTY
            for table in (*late, *(Block.of(bodies.decompress(body)).cells() for (body,) in over)):
                block = blocks.added(block, table, None)
            _put(db, bodies, key, row, newest if over else until, block)


def take_out(db: sqlite3.Connection, bodies: Bodies, hours: Mapping[Place, Table], other: blocks.Other) -> None:
    """Undo `add` of the same cells, as far as they are in days."""
    for key, tables in _by_day(hours).items():
        row = db.execute(_SELECT, key).fetchone()
        for hour, table in tables.items():
            if row is not None and hour < row[1]:
                block = blocks.taken_out(Block.of(bodies.decompress(row[2])), table, other)
                _put(db, bodies, key, row, row[1], block)
                row = db.execute(_SELECT, key).fetchone()


def _by_day(hours: Mapping[Place, Table]) -> dict[Place, dict[int, Table]]:
    days: dict[Place, dict[int, Table]] = {}
    for (project, dimension, hour, host), table in hours.items():
        days.setdefault((project, dimension, hour // DAY * DAY, host), {})[hour] = table
    return days


def _put(
    db: sqlite3.Connection, bodies: Bodies, key: Place, row: tuple[int, int, bytes] | None, until: int, block: Block
) -> None:
    if len(block.values) > limits.TOTAL_VALUES:
        until, block = key[2], blocks.EMPTY
    plain = ranks.packed(block)
    kept = (
        until,
        bodies.compress_plain(plain) if plain is not None else None,
        bodies.compress_plain(block.packed(planes=False)),
    )
    if row is None:
        db.execute(_INSERT, (*key, *kept))
    else:
        db.execute(_UPDATE, (*kept, row[0]))
