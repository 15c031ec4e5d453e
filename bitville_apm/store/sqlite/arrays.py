"""Integers as the narrowest arrays that hold them, as they lie or byte plane after byte plane.

Planes put the lowest bytes of all numbers together, then the next ones: what is similar stands side by side, and
compresses by a fifth more. Numbers are in the machine's byte order, which SQLite files of x86 and ARM have alike.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

KINDS = "bhiq"
"""Types of arrays, by their width."""
WIDTHS = {kind: array.array(kind).itemsize for kind in KINDS}


def narrowest(numbers: Sequence[int]) -> array.array[int]:
    """Some integers of 64 bits as an array. Raises `OverflowError` beyond that, `TypeError` for what is no integer."""
    high = max(numbers, default=0)
    for kind in KINDS:
        if high < 1 << (8 * WIDTHS[kind] - 1):
            try:
                return array.array(kind, numbers)
            except OverflowError:  # a negative one
                continue
    raise OverflowError


def split(data: bytes, width: int) -> bytes:
    """The bytes of numbers as planes."""
    return data if width == 1 else b"".join(data[plane::width] for plane in range(width))


def joined(planes: bytes | memoryview, width: int) -> bytes | bytearray:
    """The bytes of numbers from their planes."""
    if width == 1:
        return bytes(planes)
    n, data = len(planes) // width, bytearray(len(planes))
    for plane in range(width):
        data[plane::width] = planes[plane * n : (plane + 1) * n]
    return data
