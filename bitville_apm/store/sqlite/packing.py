"""Frames as a day file keeps them: columns as arrays, every name as its number in the file, then zstd.

A frame is mostly numbers of a few bits each. Written as arrays whose lowest bytes stand together, then the next
ones, and compressed, they take half of what their JSON takes compressed. Layout before compression: a u32 with the
length of the head, the head (JSON: the frame as it came, with a placeholder for each array), the arrays' bytes as
`arrays.py` says. What is no array of numbers stays in the head, so that nothing of a frame is lost.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from bitville_apm.records import Cells, Frame
from bitville_apm.store.sqlite import arrays

_LENGTH = struct.Struct("<I")
_THOUSANDTHS, _DOUBLES, _HISTOGRAMS = "M", "D", "H"
_LARGEST = 2.0**43
"""Below it a double has thousandths, and an integer is a double."""


def packed(body: bytes, number: Callable[[str], int]) -> bytes:
    """A frame's JSON with its names as numbers, ready to be compressed. Its fields have been checked."""
    head = msgspec.json.decode(body)
    kept = bytearray()
    for table in (head.get("cells") or {}).values():
        table["values"] = _put([number(value) for value in table["values"]], kept)
        table["columns"] = {name: _put(column, kept) for name, column in (table.get("columns") or {}).items()}
    if head.get("links"):
        columns = list(zip(*head["links"], strict=True))
        names = [[number(name) for name in column] for column in columns[:4]]
        head["links"] = [_put(column, kept) for column in (*names, *map(list, columns[4:]))]
    text = msgspec.json.encode(head)
    return _LENGTH.pack(len(text)) + text + bytes(kept)


def unpacked(
    data: bytes, name: Callable[[int], str], cells: bool = True, columns: Collection[str] | None = None
) -> Frame:
    """The frame, with its cells and links or without, its cells with all of their columns or some.

    Raises `ValueError`, `LookupError` or `struct.error` where `data` is damaged.
    """
    plain = _plain(data, name, columns) if cells else _head(data)
    frame = msgspec.convert({**plain, "cells": {}, "links": []}, Frame)
    if not cells:
        return frame
    # Cells and links were checked when they came; looking at each number again takes as long as unpacking it.
    tables = {
        dimension: Cells(values=table["values"], columns=table.get("columns") or {})
        for dimension, table in (plain.get("cells") or {}).items()
    }
    return msgspec.structs.replace(frame, cells=tables, links=plain.get("links") or [])


def body_of(data: bytes, name: Callable[[int], str]) -> bytes:
    """The frame as JSON with everything it came with. Raises as `unpacked` does."""
    return msgspec.json.encode(_plain(data, name))


def _plain(data: bytes, name: Callable[[int], str], wanted: Collection[str] | None = None) -> dict[str, Any]:
    (length,) = _LENGTH.unpack_from(data)
    head = _head(data)
    kept = _Arrays(data, 4 + length)
    for table in (head.get("cells") or {}).values():
        table["values"] = list(map(name, kept.take(table["values"])))
        columns, table["columns"] = table["columns"], {}
        for column, held in columns.items():
            if wanted is None or column in wanted:
                table["columns"][column] = kept.take(held)
            else:
                kept.pass_over(held)
    if head.get("links"):
        links = [kept.take(held) for held in head["links"]]
        names = [map(name, column) for column in links[:4]]
        head["links"] = list(zip(*names, *links[4:], strict=True))
    return head


def _head(data: bytes) -> dict[str, Any]:
    (length,) = _LENGTH.unpack_from(data)
    head: dict[str, Any] = msgspec.json.decode(data[4 : 4 + length])
    return head


def _put(column: Sequence[Any], kept: bytearray) -> Any:
    """Append a column to the arrays; what stands for it in the head, or the column itself if it is none."""
    kinds = {type(value) for value in column}
    if kinds and kinds <= {int}:
        kept += (made := _planes(column))[1]
        return f"{made[0]}{len(column)}"
    if kinds and kinds <= {int, float}:
        if any(abs(value) > _LARGEST for value in column):
            return column
        thousandths = [round(value * 1000) for value in column]
        if all(n / 1000 == value for n, value in zip(thousandths, column, strict=True)):
            made = _planes(thousandths)
            kept += made[1]
            return f"{_THOUSANDTHS}{made[0]}{len(column)}"
        kept += array.array("d", column).tobytes()
        return f"{_DOUBLES}{len(column)}"
    if kinds == {list} and all(_is_histogram(value) for value in column):
        flat = [pair for histogram in column for pair in histogram]
        steps, last = [], 0
        for i, _count in flat:
            steps.append(i - last)
            last = i
        held = [_planes(numbers) for numbers in ([len(h) for h in column], steps, [count for _, count in flat])]
        for _, data in held:
            kept += data
        return f"{_HISTOGRAMS}{''.join(kind for kind, _ in held)}{len(column)}"
    return column


def _is_histogram(value: list[Any]) -> bool:
    return all(type(p) is list and len(p) == 2 and type(p[0]) is int and type(p[1]) is int for p in value)


def _planes(numbers: Sequence[int]) -> tuple[str, bytes]:
    """The narrowest array that holds some integers of 64 bits, byte plane after byte plane."""
    made = arrays.narrowest(numbers)
    return made.typecode, arrays.split(made.tobytes(), made.itemsize)


class _Arrays:
    """The arrays, taken one after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, held: Any) -> list[Any]:
        """The column that `_put` left `held` in the head for."""
        if not isinstance(held, str):
            return list(held)
        kind = held[0]
        if kind == _THOUSANDTHS:
            return [n / 1000 for n in self._integers(held[1], int(held[2:]))]
        if kind == _DOUBLES:
            n = int(held[1:])
            return array.array("d", self._bytes(8 * n)).tolist()
        if kind == _HISTOGRAMS:
            lengths = self._integers(held[1], int(held[4:]))
            steps, counts = self._integers(held[2], sum(lengths)), self._integers(held[3], sum(lengths))
            found, at, last = [], 0, 0
            for length in lengths:
                histogram = []
                for step, count in zip(steps[at : at + length], counts[at : at + length], strict=True):
                    last += step
                    histogram.append([last, count])
                found.append(histogram)
                at += length
            return found
        return self._integers(kind, int(held[1:]))

    def pass_over(self, held: Any) -> None:
        """Leave the next column where it is."""
        if not isinstance(held, str):
            return
        kind = held[0]
        if kind == _HISTOGRAMS:
            pairs = sum(self._integers(held[1], int(held[4:])))
            self._bytes(pairs * (arrays.WIDTHS[held[2]] + arrays.WIDTHS[held[3]]))
        elif kind == _DOUBLES:
            self._bytes(8 * int(held[1:]))
        else:
            kind, n = (held[1], held[2:]) if kind == _THOUSANDTHS else (kind, held[1:])
            self._bytes(arrays.WIDTHS[kind] * int(n))

    def _integers(self, kind: str, n: int) -> list[int]:
        width = arrays.WIDTHS[kind]
        return array.array(kind, bytes(arrays.joined(self._bytes(n * width), width))).tolist()

    def _bytes(self, n: int) -> bytes:
        taken = self._data[self._at : self._at + n]
        if len(taken) < n:
            raise ValueError("a frame's arrays end too early")
        self._at += n
        return taken
