"""Minute and hour rolls: merging columns into rows, and taking a request's share out again.

A row is read, changed and written back: histograms cannot be added in SQL, and one commit touches each row once
because its cells are added up in memory first.
"""

from __future__ import annotations

import array
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.cells import SUMS, Columns, added

Key = tuple[int, int, int, int, int]
"""project, dimension, minute (or hour), host, value, as numbers of the day's `name` table."""

COLUMNS = (*SUMS, "max_us", "histogram")
_HEAD = struct.Struct("<cH")
_WIDTHS = {"b": ("B", "B"), "h": ("B", "H"), "i": ("B", "I"), "I": ("H", "I")}
"""Types of the two arrays of a packed histogram: buckets and counts."""
_WIDEST = "I"
_REAL = frozenset({"blocked_s", "waiting_s"})


@attrs.frozen
class Table:
    """The statements of one table of rolls, whose rows are a minute or an hour each."""

    select: str
    replace: str
    delete: str

    @classmethod
    def of(cls, name: str, unit: str) -> Table:
        """The statements for a table with this column of time."""
        where = f"project = ? AND dimension = ? AND {unit} = ? AND host = ? AND value = ?"
        key = f"project, dimension, {unit}, host, value"
        return cls(
            f"SELECT {', '.join(COLUMNS)} FROM {name} WHERE {where}",  # noqa: S608 - our own names
            f"INSERT OR REPLACE INTO {name} ({key}, {', '.join(COLUMNS)})"  # noqa: S608
            f" VALUES ({', '.join('?' * (5 + len(COLUMNS)))})",
            f"DELETE FROM {name} WHERE {where}",  # noqa: S608
        )


MINUTES = Table.of("roll", "minute")
HOURS = Table.of("hour", "hour")


def packed(histogram: Mapping[int, int]) -> bytes | None:
    """A histogram as the bytes of a row; None when empty.

    A letter for the widths, the lowest bucket (u16), then the buckets from there on and their counts, two arrays as
    narrow as they can be: most of a minute's take two bytes a bucket.
    """
    pairs = [(i, min(n, limits.HISTOGRAM_COUNT)) for i, n in sorted(histogram.items()) if n > 0]
    if not pairs:
        return None
    lowest, most = pairs[0][0], max(n for _, n in pairs)
    width = next(letter for letter, (_, wide) in _WIDTHS.items() if most < 1 << (8 * array.array(wide).itemsize))
    if pairs[-1][0] - lowest > 255:  # a byte
        width = _WIDEST
    steps, counts = _WIDTHS[width]
    return (
        _HEAD.pack(width.encode(), lowest)
        + array.array(steps, [i - lowest for i, _ in pairs]).tobytes()
        + array.array(counts, [n for _, n in pairs]).tobytes()
    )


def unpacked(data: bytes | None) -> dict[int, int]:
    """The bytes of a row as a histogram. Raises `struct.error`, `KeyError` or `ValueError` where they are damaged."""
    histogram: dict[int, int] = {}
    if data:
        count(histogram, data)
    return histogram


def count(histogram: dict[int, int], data: bytes) -> None:
    """Add the bytes of a row to a histogram: a week's answer does it ten thousand times. Raises as `unpacked` does."""
    width, lowest = _HEAD.unpack_from(data)
    steps: Sequence[int]
    counts: Sequence[int]
    if width == b"b":  # nearly all: bytes as they lie there
        middle = (len(data) + _HEAD.size) // 2
        steps, counts = data[_HEAD.size : middle], data[middle:]
    else:
        steps, counts = (array.array(kind) for kind in _WIDTHS[width.decode("latin-1")])
        middle = _HEAD.size + (len(data) - _HEAD.size) // (steps.itemsize + counts.itemsize) * steps.itemsize
        steps.frombytes(data[_HEAD.size : middle])
        counts.frombytes(data[middle:])
    known = histogram.get
    for step, more in zip(steps, counts, strict=True):
        histogram[lowest + step] = known(lowest + step, 0) + more


def fits(number: float | None) -> int | None:
    """An integer that SQLite can hold; the largest one in place of a larger."""
    if number is None:
        return None
    return max(limits.INTEGER_MIN, min(int(number), limits.INTEGER_MAX))


def add(db: sqlite3.Connection, cells: Mapping[Key, Columns]) -> None:
    """Add the cells of minutes to their rows, and to those of their hours."""
    _add(db, MINUTES, cells)
    _add(db, HOURS, by_hour(cells))


def by_hour(cells: Mapping[Key, Columns]) -> dict[Key, Columns]:
    """The cells of minutes, added up by hour."""
    hours: dict[Key, Columns] = {}
    for (project, dimension, minute, host, value), columns in cells.items():
        key = (project, dimension, minute // 60, host, value)
        held = hours.get(key)
        if held is None:
            held = hours[key] = Columns()
        held.add(columns)
    return hours


def _add(db: sqlite3.Connection, table: Table, cells: Mapping[Key, Columns]) -> None:
    rows = []
    for key in sorted(cells):  # the order of the rows on disk
        columns = cells[key]
        row = db.execute(table.select, key).fetchone()
        if row is not None:
            held = columns_of(row)
            held.add(columns)
            columns = held
        rows.append((*key, *row_of(columns)))
    db.executemany(table.replace, rows)


def take_out(db: sqlite3.Connection, cells: Mapping[Key, Columns]) -> None:
    """Undo `add` of the same cells. `max_us` stays what it was while others are in the row: it cannot be undone."""
    _take_out(db, MINUTES, cells)
    _take_out(db, HOURS, by_hour(cells))


def _take_out(db: sqlite3.Connection, table: Table, cells: Mapping[Key, Columns]) -> None:
    for key, columns in cells.items():
        row = db.execute(table.select, key).fetchone()
        if row is None:
            continue
        held = columns_of(row)
        for name in SUMS:
            theirs = getattr(columns, name)
            if theirs:
                setattr(held, name, (getattr(held, name) or 0) - theirs)
        held.histogram = added(held.histogram, {i: -n for i, n in columns.histogram.items()})
        if any(getattr(held, name) for name in SUMS):
            db.execute(table.replace, (*key, *row_of(held)))
        else:
            db.execute(table.delete, key)


def columns_of(row: tuple[Any, ...]) -> Columns:
    """A row of `COLUMNS`."""
    values = dict(zip(COLUMNS, row, strict=True))
    values["histogram"] = unpacked(values["histogram"])
    return Columns(**values)


def row_of(columns: Columns) -> list[Any]:
    """The values of `COLUMNS`."""
    values: list[Any] = []
    for name in SUMS:
        value = getattr(columns, name)
        values.append(float(value) if name in _REAL else fits(value))
    return [*values, fits(columns.max_us), packed(columns.histogram)]
