"""From a window to the line that travels (wire.md 6): which values are kept, and columns as arrays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from bitville_apm import limits, records
from bitville_apm.agent.window import Window, ranked, shares
from bitville_apm.cells import OTHER, SUMS, Columns
from bitville_apm.records import Frame

Kept = dict[str, frozenset[str]]
"""Dimension -> the values that the last frame kept."""

_HISTOGRAMS = ("endpoint", "statement")
_SECONDS = ("blocked_s", "waiting_s")
_OTHERS_CAP = min(limits.DIMENSION_CAPS.values())
_encoder = msgspec.json.Encoder()


@attrs.frozen
class Said:
    """What a frame says beside its cells."""

    id: str
    covers: tuple[int, int, int] | None
    final: bool
    late: bool


@attrs.frozen
class Part:
    """One frame, ready to travel: its id, its line, and how many requests it stands for."""

    id: str
    body: bytes
    requests: int


def kept_values(table: dict[str, Columns], cap: int, before: frozenset[str]) -> list[str]:
    """The values of one dimension that a frame keeps, heaviest first.

    The heavier half of the room goes by weight alone, so that a newcomer is seen in its first frame; in the other
    half those of the last frame stay while they are not zero, so that a value has no gaps in its series.
    """
    order = ranked(table)
    first, rest = order[: cap - cap // 2], order[cap - cap // 2 :]
    stay = [value for value in rest if value in before and _is_something(table[value])]
    chosen = {*first, *stay[: cap // 2]}
    for value in rest:
        if len(chosen) >= cap:
            break
        chosen.add(value)
    return [value for value in order if value in chosen]


def keep(window: Window, before: Kept, squeeze: int = 1) -> dict[str, list[str]]:
    """Dimension -> the values that its frame keeps. `squeeze` divides the room of each dimension."""
    kept: dict[str, list[str]] = {}
    for dimension, table in window.tables.items():
        room = max(1, limits.DIMENSION_CAPS.get(dimension, _OTHERS_CAP) // squeeze)
        kept[dimension] = kept_values(table, room, before.get(dimension, frozenset()))
    if "request" in kept:
        share = shares(window.tables["request"])
        kept["request"] = [value for value in kept["request"] if share[value] >= limits.REQUEST_SHARE]
    return kept


def encoded(window: Window, said: Said, before: Kept) -> tuple[bytes, Kept]:
    """The frame of a window as one line, and what it keeps."""
    squeeze = 1
    while True:
        kept = keep(window, before, squeeze)
        body = _encoder.encode(frame(window, said, kept, limits.FRAME_LINKS // squeeze))
        if len(body) <= limits.FRAME_BYTES or squeeze >= limits.FRAME_LINKS:
            return body, {dimension: frozenset(values) for dimension, values in kept.items()}
        squeeze *= 2


def frame(window: Window, said: Said, kept: Mapping[str, Sequence[str]], links: int) -> Frame:
    """The frame that keeps these values, and up to so many links between them."""
    linked = {dimension: set(values) for dimension, values in kept.items()}
    if said.late:
        linked.pop("endpoint", None)  # whose functions come late: itself it is in the window's first frame
    return Frame(
        id=said.id,
        at=window.at,
        secs=round(window.secs, 3),
        v=2,
        covers=said.covers,
        final=said.final,
        late=said.late,
        seconds=window.seconds,
        load=window.load.told(),
        cells={dimension: _cells(dimension, table, kept[dimension]) for dimension, table in window.tables.items()},
        links=[
            (*key, link.requests, link.executions, round(link.task_us / 1e6, 6))
            for key, link in window.links.heaviest(linked, links)
        ],
        lost=dict(window.lost),
    )


def _cells(dimension: str, table: dict[str, Columns], values: Sequence[str]) -> records.Cells:
    """One dimension: the kept values and, if anything is left, `~other`."""
    rows = [table[value] for value in values]
    chosen = set(values)
    rest = [columns for value, columns in table.items() if value not in chosen]
    if rest:
        other = Columns()
        for columns in rest:
            other.add(columns)
        rows.append(other)
    said: dict[str, list[Any]] = {}
    for name in (*SUMS, "max_us"):
        column = _column(name, rows)
        if _says_something(name, column):
            said[name] = column
    if dimension in _HISTOGRAMS:
        said["histogram"] = [
            [[i, min(n, limits.HISTOGRAM_COUNT)] for i, n in sorted(row.histogram.items()) if n > 0] for row in rows
        ]
    return records.Cells(values=[*values, *([OTHER] if rest else [])], columns=said)


def _column(name: str, rows: Sequence[Columns]) -> list[Any]:
    """One column, within what a collector takes: records may be odd, their frame must not be."""
    found = [getattr(row, name) for row in rows]
    if name in _SECONDS:
        return [round(value, 6) for value in found]
    return [None if value is None else max(0, min(value, limits.NUMBER_MAX)) for value in found]


def _says_something(name: str, column: Sequence[Any]) -> bool:
    """A missing column is zeros; of executions it says that nobody counted them."""
    return any(value is not None for value in column) if name == "executions" else any(column)


def _is_something(columns: Columns) -> bool:
    return any(getattr(columns, name) for name in SUMS)
