"""What values are ranked by, so written that hours add up as large integers: a day's two thousand functions are 24
additions, not fifty thousand.

A value's load and its wall time (microseconds) have 64 bits each at the place of its number, little end first, from
the block's first value to its last. That is worth it where most numbers between these are values; elsewhere the block
itself is read. Before it is compressed: u32 of the first number and of how many there are, then these pairs.
"""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from bitville_apm.store.sqlite.blocks import Block

T = TypeVar("T")
Rank = tuple[float, float]
"""Microseconds of tasks, and of wall time."""
_NOTHING = (0, 0)
_COLUMNS = ("cpu_us", "queue_us", "blocked_s", "wall_us")
_HEAD = struct.Struct("<II")
_WIDTH = 16
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
    pairs = array.array("Q", bytes(_WIDTH * n))
    for value, rank in of(block).items():
        at = 2 * (value - first)
        pairs[at], pairs[at + 1] = (max(0, min(int(us), _MOST)) for us in rank)
    return _HEAD.pack(first, n) + _little(pairs).tobytes()


def of(block: Block) -> dict[int, Rank]:
    """The same of a block itself, of all its values."""
    nothing = [0] * len(block.values)
    columns: list[Sequence[Any]] = [block.columns.get(name, nothing) for name in _COLUMNS]
    return {
        value: (cpu + queue + 1e6 * blocked, wall)
        for value, cpu, queue, blocked, wall in zip(block.values, *columns, strict=True)
    }


def together(held: Mapping[T, Rank], more: Iterable[tuple[T, Rank]]) -> dict[T, Rank]:
    """Two of them as one."""
    both = dict(held)
    for value, rank in more:
        known = both.get(value)
        both[value] = rank if known is None else (known[0] + rank[0], known[1] + rank[1])
    return both


def _little(pairs: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        pairs.byteswap()
    return pairs


@attrs.define(eq=False)
class Sum:
    """The ranks of several blocks, added up."""

    _pairs: int = 0
    _first: int = 0
    _others: dict[int, Rank] = attrs.field(factory=dict)

    def add(self, data: bytes) -> None:
        """Add what `packed` gave. Raises `ValueError` or `struct.error` where it is damaged."""
        first, n = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + _WIDTH * n:
            raise ValueError("ranks end too early")
        more = int.from_bytes(data[_HEAD.size :], "little")
        if not self._pairs:
            self._first = first
        elif first < self._first:
            self._pairs <<= 8 * _WIDTH * (self._first - first)
            self._first = first
        else:
            more <<= 8 * _WIDTH * (first - self._first)
        self._pairs += more

    def add_block(self, block: Block) -> None:
        """Add a block without ranks."""
        self._others = together(self._others, of(block).items())

    def found(self) -> dict[int, Rank]:
        """By value: of all that have any load or wall time, and of some that have none."""
        n = -(-self._pairs.bit_length() // (8 * _WIDTH))
        pairs = _little(array.array("Q", self._pairs.to_bytes(_WIDTH * n, "little")))
        sums: dict[int, Rank] = {
            number: rank
            for number, rank in enumerate(zip(pairs[::2], pairs[1::2], strict=True), self._first)
            if rank != _NOTHING
        }
        return together(sums, self._others.items()) if self._others else sums
