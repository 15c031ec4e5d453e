"""What values are ranked by, so written that hours add up as large integers: a day's two thousand functions are 24
additions, not fifty thousand.

A value's load and its wall time (microseconds) each have 64 bits at the place of its number, little end first, from
the block's first value to its last. That is worth it where most numbers between these are values; elsewhere the block
itself is read. Before it is compressed: u32 of the first number and of how many there are, then loads, then walls.
"""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bitville_apm.store.sqlite.blocks import Block

LOADS, WALLS = 0, 1
"""Which of both."""
_COLUMNS = (("cpu_us", "queue_us", "blocked_s"), ("wall_us",))
_HEAD = struct.Struct("<II")
_WIDTH = 8
_MOST = 1 << 50
"""A larger sum of microseconds counts as this: ten thousand of them still fit into 64 bits."""
_LEAST_VALUES = 64
"""A smaller block is as quickly read itself."""
_SPARSE = 4
"""Numbers a value up to which empty places are worth it: they compress to nothing, but are added too."""


def packed(block: Block) -> bytes | None:
    """The ranks of a block, ready to be compressed; None where they are not worth it."""
    values = block.values
    if len(values) < _LEAST_VALUES or values[-1] - values[0] >= _SPARSE * len(values):
        return None
    first, n = values[0], values[-1] - values[0] + 1
    data = _HEAD.pack(first, n)
    for which in (LOADS, WALLS):
        places = array.array("Q", bytes(_WIDTH * n))
        for value, us in weights(block, which).items():
            places[value - first] = max(0, min(int(us), _MOST))
        if sys.byteorder == "big":
            places.byteswap()
        data += places.tobytes()
    return data


def weights(block: Block, which: int) -> dict[int, float]:
    """The same of a block itself, of all its values."""
    found: dict[int, float] = dict.fromkeys(block.values, 0)
    for name in _COLUMNS[which]:
        column: Sequence[Any] | None = block.columns.get(name)
        if column is not None:
            factor = 1e6 if name.endswith("_s") else 1
            for value, more in zip(block.values, column, strict=True):
                found[value] += more * factor
    return found


@attrs.define(eq=False)
class Sum:
    """Loads or walls of several blocks, added up."""

    which: int
    _places: int = 0
    _first: int = 0
    _others: dict[int, float] = attrs.field(factory=dict)

    def add(self, data: bytes) -> None:
        """Add what `packed` gave. Raises `ValueError` or `struct.error` where it is damaged."""
        first, n = _HEAD.unpack_from(data)
        start = _HEAD.size + self.which * _WIDTH * n
        places = data[start : start + _WIDTH * n]
        if len(data) != _HEAD.size + 2 * _WIDTH * n:
            raise ValueError("ranks end too early")
        more = int.from_bytes(places, "little")
        if not self._places:
            self._first = first
        elif first < self._first:
            self._places <<= 8 * _WIDTH * (self._first - first)
            self._first = first
        else:
            more <<= 8 * _WIDTH * (first - self._first)
        self._places += more

    def add_block(self, block: Block) -> None:
        """Add a block without ranks."""
        known = self._others.get
        for value, us in weights(block, self.which).items():
            self._others[value] = known(value, 0) + us

    def found(self) -> Mapping[int, float]:
        """Microseconds by value: of all that have any, and of some that have none."""
        n = -(-self._places.bit_length() // (8 * _WIDTH))
        places = array.array("Q", self._places.to_bytes(_WIDTH * n, "little"))
        if sys.byteorder == "big":
            places.byteswap()
        sums: dict[int, float] = {number: us for number, us in enumerate(places, self._first) if us}
        for value, us in self._others.items():
            sums[value] = sums.get(value, 0) + us
        return sums
