"""Requests as a rollup takes them, and its frames read back as a collector reads them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import strategies as st

from bitville_apm import cells
from bitville_apm.agent.rollup import Rollup
from bitville_apm.cells import Columns
from bitville_apm.collector.frames import problems
from bitville_apm.reading import read_body
from bitville_apm.records import Frame
from bitville_apm.requests import Request

T = 1_800_000_000
"""Some beginning of a window."""


def made(n: int = 0, *, at: float = T + 1, ms: float = 100.0, **more: Any) -> Request:
    """A request that ends `ms` after `at`."""
    fields: dict[str, Any] = {"method": "GET", "uri": "/", "endpoint": "GET /", "kind": "end", **more}
    return Request(id=f"00000000-0000-4000-8000-{n:012d}", at=at, ms=ms, **fields)


def sealed(rollup: Rollup, now: float = T + 1e9, start: int = 1, steady: float = 0.0) -> list[Frame]:
    """Everything that is due, read back as a collector reads it."""
    found = []
    while (epoch := rollup.due(now, steady)) is not None:
        names = (f"00000000-0000-5000-8000-{n:012d}" for n in range(start, start + 10**6))
        for part in rollup.parts(epoch, lambda n, names=names: next(names)):  # type: ignore[misc]
            frame: Frame = read_body("frame", part.body, 0).message
            assert b"\n" not in part.body
            assert list(problems(frame)) == []
            assert part.requests == sum(c.requests for d, _, c in cells.of_frame(frame) if d == "endpoint")
            found.append(frame)
        rollup.sealed(epoch, now)
    return found


def totals(found: list[Frame]) -> dict[str, Columns]:
    """Dimension -> the sum of all its values in all frames."""
    sums: defaultdict[str, Columns] = defaultdict(Columns)
    for frame in found:
        for dimension, _, columns in cells.of_frame(frame):
            sums[dimension].add(columns)
    return sums


def cell(found: list[Frame], dimension: str, value: str) -> Columns:
    """One value, summed over all frames."""
    total = Columns()
    for frame in found:
        for d, v, columns in cells.of_frame(frame):
            if (d, v) == (dimension, value):
                total.add(columns)
    return total


names = st.integers(0, 60).map(lambda n: f"n{n}")
