"""Frames of a host that runs quietly, and then does not: what agents send, as far as spikes look at it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

QUIET_S = 420
"""Long enough before a spike for a detector to know what is usual."""
BUSY = "GET /search"
WORKER = "search_products"


def frame(at: float, risen: float = 0.0, *, late: bool = False, n: int = 0, name: str = "web") -> dict[str, Any]:
    """One window of a host of 4 cores: what it usually runs, and so many tasks more in `BUSY`."""
    at = float(at // 10 * 10)
    if late:
        cells = {"function": {"values": [WORKER], "columns": {"cpu_us": [int(risen * 1e7)], "requests": [5]}}}
        links = [["endpoint", BUSY, "function", WORKER, 5, None, risen * 10]]
        return _frame(f"{name}-{at}-late-{n}", at, 0, cells, late=True, links=links)
    cart = {"requests": 50, "wall_us": 5_000_000, "cpu_us": 5_000_000}
    busy = {"requests": 20 + int(risen * 40), "wall_us": 2_000_000 + int(risen * 1e7), "cpu_us": int(2e6 + risen * 1e7)}
    columns = {column: [cart[column], busy[column]] for column in cart}
    cells = {"endpoint": {"values": ["GET /cart", BUSY], "columns": columns}}
    tasks = [0.7 + risen + 0.1 * (second % 2) for second in range(10)]
    seconds = {"tasks": tasks, "in_flight": [1.0 + risen] * 10}
    load = {
        "running": 0.75 + risen, "blocked": 0.0, "load1": 0.75 + risen / 2, "cores": 4,
        "cpu": {"user_s": 7.0 + 10 * min(risen, 3.0), "system_s": 0.5},
    }  # fmt: skip
    return _frame(f"{name}-{at}-{n}", at, 10, cells, seconds=seconds, load=load)


def _frame(name: str, at: float, secs: float, cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "at": at, "secs": secs, "v": 2, "cells": cells, **more}


def rising(
    start: float, end: float, onset: float, over: float, risen: float = 20.0, **more: Any
) -> Iterator[dict[str, Any]]:
    """The windows of [start, end); those of [onset, over) are busy."""
    at = start // 10 * 10
    while at + 10 <= end:
        yield frame(at, risen if onset <= at < over else 0.0, **more)
        at += 10
