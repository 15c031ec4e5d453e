"""Minute rolls: merging columns into rows, and taking a request's share out again.

A row is read, changed and written back: histograms cannot be added in SQL, and one commit touches each row once
because its cells are added up in memory first.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping
from typing import Any

from bitville_apm import limits
from bitville_apm.cells import SUMS, Columns, added

Key = tuple[int, int, int, int, int]
"""project, dimension, minute, host, value, as numbers of the day's `name` table."""

_PAIR = struct.Struct("<HI")
_COLUMNS = (*SUMS, "max_us", "histogram")
_WHERE = "project = ? AND dimension = ? AND minute = ? AND host = ? AND value = ?"
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM roll WHERE {_WHERE}"  # noqa: S608 - our own column names
_REPLACE = (
    f"INSERT OR REPLACE INTO roll (project, dimension, minute, host, value, {', '.join(_COLUMNS)}) "  # noqa: S608
    f"VALUES ({', '.join('?' * (5 + len(_COLUMNS)))})"
)
_DELETE = f"DELETE FROM roll WHERE {_WHERE}"  # noqa: S608

_REAL = frozenset({"blocked_s", "waiting_s"})


def packed(histogram: Mapping[int, int]) -> bytes | None:
    """A histogram as the bytes of a row; None when empty."""
    if not histogram:
        return None
    return b"".join(_PAIR.pack(i, min(n, limits.HISTOGRAM_COUNT)) for i, n in sorted(histogram.items()) if n > 0)


def unpacked(data: bytes | None) -> dict[int, int]:
    """The histogram of a row."""
    return dict(_PAIR.iter_unpack(data)) if data else {}


def fits(number: float | None) -> int | None:
    """An integer that SQLite can hold; the largest one in place of a larger."""
    if number is None:
        return None
    return max(limits.INTEGER_MIN, min(int(number), limits.INTEGER_MAX))


def add(db: sqlite3.Connection, cells: Mapping[Key, Columns]) -> None:
    """Add cells to their rows, in the order of the rows on disk."""
    rows = []
    for key in sorted(cells):
        columns = cells[key]
        row = db.execute(_SELECT, key).fetchone()
        if row is not None:
            held = _columns(row)
            held.add(columns)
            columns = held
        rows.append((*key, *_row(columns)))
    db.executemany(_REPLACE, rows)


def take_out(db: sqlite3.Connection, cells: Mapping[Key, Columns]) -> None:
    """Undo `add` of the same cells. `max_us` stays what it was while others are in the row: it cannot be undone."""
    for key, columns in cells.items():
        row = db.execute(_SELECT, key).fetchone()
        if row is None:
            continue
        held = _columns(row)
        for name in SUMS:
            theirs = getattr(columns, name)
            if theirs:
                setattr(held, name, (getattr(held, name) or 0) - theirs)
        held.histogram = added(held.histogram, {i: -n for i, n in columns.histogram.items()})
        if any(getattr(held, name) for name in SUMS):
            db.execute(_REPLACE, (*key, *_row(held)))
        else:
            db.execute(_DELETE, key)


def _columns(row: tuple[Any, ...]) -> Columns:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["histogram"] = unpacked(values["histogram"])
    return Columns(**values)


def _row(columns: Columns) -> list[Any]:
    values: list[Any] = []
    for name in SUMS:
        value = getattr(columns, name)
        values.append(float(value) if name in _REAL else fits(value))
    return [*values, fits(columns.max_us), packed(columns.histogram)]
