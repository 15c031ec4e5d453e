"""What one host did in one minute or hour, by the values of one dimension: columns as arrays, in one piece.

A row for each value and minute would take twice the disk, and an answer over a day would read a hundred thousand of
them. Before it is compressed a block is, in this order (numbers as `arrays.py` says):

- a letter: `r`, arrays as they lie, read in place (hours, of which an answer reads many); `p`, as planes (minutes, of
  which there are many);
- u32: how many values, and how many pairs all histograms have together;
- a letter for each array: its type, or `-` for one that is left out because nothing is in it;
- the arrays: numbers of the values, rising; one for each of `COLUMNS`, in which `executions` is -1 where nobody
  counted, and seconds are whole microseconds; where each value's pairs end; their buckets; their counts. With planes
  numbers of values, ends and buckets are kept as steps.
"""

from __future__ import annotations

import array
import bisect
import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.cells import SUMS, Columns
from bitville_apm.store.sqlite import arrays

MINUTE, HOUR, DAY = 1, 60, 1440
"""What a block spans, in minutes."""
COLUMNS = (*SUMS, "max_us")
_EMPTY: dict[str, Any] = dict.fromkeys(COLUMNS, 0) | {"executions": -1, "blocked_s": 0.0, "waiting_s": 0.0}
REAL = frozenset({"blocked_s", "waiting_s"})
_NAMES = ("values", *COLUMNS, "ends", "buckets", "counts")
_STEPS = ("values", "ends", "buckets")
_PAIRS = ("buckets", "counts")
_HEAD = struct.Struct(f"<cII{len(_NAMES)}s")
_IN_PLACE, _PLANES = b"r", b"p"
_NONE = "-"


@attrs.frozen(eq=False)
class Block:
    """A block as it is read. Sequences are arrays, or views of the bytes they lie in."""

    values: Sequence[int]
    """Numbers of the file's `name` table, rising."""
    columns: Mapping[str, Sequence[Any]]
    """Those in which anything is."""
    ends: Sequence[int] = ()
    buckets: Sequence[int] = ()
    counts: Sequence[int] = ()

    @classmethod
    def of(cls, data: bytes) -> Block:
        """Read a block. Raises `ValueError`, `LookupError` or `struct.error` where it is damaged."""
        form, n, pairs, kinds = _HEAD.unpack_from(data)
        view, at = memoryview(data), _HEAD.size
        found: dict[str, Sequence[Any]] = {}
        for name, kind in zip(_NAMES, kinds.decode("ascii"), strict=True):
            if kind == _NONE:
                continue
            width = arrays.WIDTHS[kind]
            end = at + width * (pairs if name in _PAIRS else n)
            if end > len(data):
                raise ValueError("a block's arrays end too early")
            if form == _IN_PLACE:
                held: Sequence[Any] = view[at:end].cast(kind)
            else:
                held = array.array(kind, bytes(arrays.joined(view[at:end], width)))
                if name in _STEPS:
                    held = array.array("q", itertools.accumulate(held))
            if name in REAL:
                held = [us / 1e6 for us in held]
            found[name], at = held, end
        return cls(found.pop("values", ()), found, *(found.pop(name, ()) for name in ("ends", *_PAIRS)))

    def packed(self, planes: bool) -> bytes:
        """The bytes, ready to be compressed."""
        kinds, parts = "", []
        given: dict[str, Sequence[Any]] = {
            "values": self.values, **self.columns, "ends": self.ends, "buckets": self.buckets, "counts": self.counts,
        }  # fmt: skip
        for name in _NAMES:
            column = given.get(name, ())
            if not column:
                kinds += _NONE
                continue
            if name in REAL:
                column = [round(seconds * 1e6) for seconds in column]
            if planes and name in _STEPS:
                column = [b - a for a, b in itertools.pairwise((0, *column))]
            made = _array(column)
            kinds += made.typecode
            parts.append(arrays.split(made.tobytes(), made.itemsize) if planes else made.tobytes())
        head = _HEAD.pack(_PLANES if planes else _IN_PLACE, len(self.values), len(self.buckets), kinds.encode())
        return head + b"".join(parts)

    def row(self, value: int) -> int | None:
        """Where a value's columns are; None where it has none."""
        row = bisect.bisect_left(self.values, value)
        return row if row < len(self.values) and self.values[row] == value else None

    def count(self, row: int, histogram: dict[int, int]) -> None:
        """Add what a row's histogram counts to another."""
        if self.ends:
            known = histogram.get
            start, end = self.ends[row - 1] if row else 0, self.ends[row]
            for i, more in zip(self.buckets[start:end], self.counts[start:end], strict=True):
                histogram[i] = known(i, 0) + more

    def cell(self, row: int) -> Columns:
        """The columns of one value."""
        cell = Columns(**{name: column[row] for name, column in self.columns.items()})
        if cell.executions == -1:
            cell.executions = None
        if self.ends:
            cell.histogram = {}
            self.count(row, cell.histogram)
        return cell

    def cells(self) -> dict[int, Columns]:
        """The columns of all values."""
        return {value: self.cell(row) for row, value in enumerate(self.values)}


EMPTY = Block((), {})


def integer(number: float) -> int:
    """An integer that fits into 64 bits; the nearest one in place of what does not."""
    return max(limits.INTEGER_MIN, min(int(number), limits.INTEGER_MAX))


def _array(column: Sequence[Any]) -> array.array[int]:
    try:
        return arrays.narrowest(column)
    except (OverflowError, TypeError):  # larger than that, or a frame's 1.5 where a count belongs
        return arrays.narrowest([integer(number) for number in column])


Other = Callable[[], int]
"""Gives the number of `~other`."""


def added(held: Block, cells: Mapping[int, Columns], other: Other | None) -> Block:
    """A block with more in it. `~other` takes what is beyond a block's values; None: nothing is."""
    growing = _Growing(held, cells, other)
    for value, cell in cells.items():
        growing.add(value, cell)
    return growing.done()


def taken_out(held: Block, cells: Mapping[int, Columns], other: Other) -> Block:
    """Undo `added` of the same cells. `max_us` stays what it was: it cannot be undone. Values with nothing left go."""
    growing = _Growing(held, {}, other)
    for value, cell in cells.items():
        growing.take_out(value, cell)
    return growing.done(without_empty=True)


class _Growing:
    """A block while it changes: lists, and histograms of the values that are touched."""

    def __init__(self, held: Block, cells: Mapping[int, Columns], other: Other | None) -> None:
        self._held = held
        self._values = list(held.values)
        self._rows = dict(zip(self._values, range(len(self._values)), strict=True))
        self._other = other
        for value in cells:
            if value not in self._rows and (other is None or len(self._values) < limits.BLOCK_VALUES):
                self._new(value)
        self._columns: dict[str, list[Any]] = {}
        for name in COLUMNS:
            column = list(held.columns.get(name, ()))
            column += [_EMPTY[name]] * (len(self._values) - len(column))
            self._columns[name] = column
        self._histograms: dict[int, dict[int, int]] = {}

    def _new(self, value: int) -> int:
        row = self._rows[value] = len(self._values)
        self._values.append(value)
        return row

    def _row(self, value: int) -> int:
        row = self._rows.get(value)
        if row is None and self._other is not None:  # beyond the block's values
            row = self._rows.get(value := self._other())
        if row is None:
            row = self._new(value)
            for name, column in self._columns.items():
                column.append(_EMPTY[name])
        return row

    def add(self, value: int, cell: Columns) -> None:
        """Add one value's columns."""
        row, columns = self._row(value), self._columns
        columns["requests"][row] += cell.requests  # written out: this runs a thousand times a frame
        if cell.executions is not None:
            columns["executions"][row] = max(columns["executions"][row], 0) + cell.executions
        columns["wall_us"][row] += cell.wall_us
        columns["cpu_us"][row] += cell.cpu_us
        columns["queue_us"][row] += cell.queue_us
        columns["sql_us"][row] += cell.sql_us
        columns["blocked_s"][row] += cell.blocked_s
        columns["waiting_s"][row] += cell.waiting_s
        columns["errors"][row] += cell.errors
        if cell.max_us > columns["max_us"][row]:
            columns["max_us"][row] = cell.max_us
        if cell.histogram:
            histogram = self._histogram(row)
            known = histogram.get
            for i, more in cell.histogram.items():
                histogram[i] = known(i, 0) + more

    def take_out(self, value: int, cell: Columns) -> None:
        """Take one value's columns out, or out of `~other`'s where it has none of its own."""
        row = self._rows.get(value)
        row = self._rows.get(self._other()) if row is None and self._other is not None else row
        if row is None:
            return
        for name in SUMS:
            theirs = getattr(cell, name)
            if theirs:
                self._columns[name][row] -= theirs
        if cell.histogram:
            histogram = self._histogram(row)
            for i, less in cell.histogram.items():
                histogram[i] = histogram.get(i, 0) - less

    def _histogram(self, row: int) -> dict[int, int]:
        histogram = self._histograms.get(row)
        if histogram is None:
            histogram = self._histograms[row] = {}
            if row < len(self._held.values):
                self._held.count(row, histogram)
        return histogram

    def done(self, without_empty: bool = False) -> Block:
        """The block, its values in order."""
        order: Sequence[int] = range(len(self._values))
        columns = self._columns
        if without_empty:
            order = [row for row in order if any(columns[name][row] not in (0, _EMPTY[name]) for name in SUMS)]
        if without_empty or self._values != sorted(self._values):
            order = sorted(order, key=self._values.__getitem__)
            columns = {name: [column[row] for row in order] for name, column in columns.items()}
        return Block(
            [self._values[row] for row in order],
            {name: column for name, column in columns.items() if column.count(_EMPTY[name]) < len(column)},
            *self._pairs(order),
        )

    def _pairs(self, order: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        ends: list[int] = []
        buckets: list[int] = []
        counts: list[int] = []
        held = self._held
        if not held.ends and not self._histograms:
            return ends, buckets, counts
        held_ends, held_buckets, held_counts = [0, *held.ends], list(held.buckets), list(held.counts)
        for row in order:
            histogram = self._histograms.get(row)
            if histogram is not None:
                pairs = [(i, min(n, limits.HISTOGRAM_COUNT)) for i, n in sorted(histogram.items()) if n > 0]
                buckets += [i for i, _ in pairs]
                counts += [n for _, n in pairs]
            elif row < len(held_ends) - 1:
                start, end = held_ends[row], held_ends[row + 1]
                buckets += held_buckets[start:end]
                counts += held_counts[start:end]
            ends.append(len(buckets))
        return ends, buckets, counts
