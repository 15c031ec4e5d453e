"""What the scripts of later schema versions need beside SQL."""

from __future__ import annotations

import array
import sqlite3
import struct
from typing import Any

import zstandard

from bitville_apm import limits
from bitville_apm.cells import SUMS, Columns
from bitville_apm.store.sqlite import blocks

_HEAD = struct.Struct("<cH")
_WIDTHS = {"b": ("B", "B"), "h": ("B", "H"), "i": ("B", "I"), "I": ("H", "I")}


def prepare(db: sqlite3.Connection) -> None:
    """Give a connection the functions that scripts call."""
    db.create_aggregate("block", 2 + len(blocks.COLUMNS) + 1, _Rows)  # type: ignore[arg-type]


class _Rows:
    """Version 2: the rows that version 1 kept of one host's minute or hour, as a block."""

    def __init__(self) -> None:
        self._cells: dict[int, Columns] = {}
        self._span = blocks.HOUR

    def step(self, span: int, value: int, *columns: Any) -> None:
        """One row: what it spans, its value, its columns, its histogram."""
        self._span = span
        *numbers, histogram = columns
        cell = self._cells[value] = Columns(**dict(zip((*SUMS, "max_us"), numbers, strict=True)))
        if histogram is not None:
            cell.histogram = _histogram(histogram)

    def finalize(self) -> bytes:
        """The body of the block."""
        block = blocks.added(blocks.EMPTY, self._cells, None)
        compressor = zstandard.ZstdCompressor(level=limits.PAYLOAD_LEVEL, write_checksum=True)
        return compressor.compress(block.packed(planes=self._span == blocks.MINUTE))


def _histogram(data: bytes) -> dict[int, int]:
    """As version 1 packed it: a letter for the widths, the lowest bucket, then buckets from there on and counts."""
    width, lowest = _HEAD.unpack_from(data)
    steps: array.array[int]
    counts: array.array[int]
    steps, counts = (array.array(kind) for kind in _WIDTHS[width.decode("latin-1")])
    middle = _HEAD.size + (len(data) - _HEAD.size) // (steps.itemsize + counts.itemsize) * steps.itemsize
    steps.frombytes(data[_HEAD.size : middle])
    counts.frombytes(data[middle:])
    return {lowest + step: count for step, count in zip(steps, counts, strict=True)}
