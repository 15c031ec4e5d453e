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


def kind_of(numbers: Sequence[int]) -> str:
    """The narrowest type for some integers of 64 bits."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    return next(kind for kind in KINDS if -(1 << (8 * WIDTHS[kind] - 1)) <= low and high < 1 << (8 * WIDTHS[kind] - 1))


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
