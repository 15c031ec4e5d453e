"""Records, rows and nights as a store gives them, for pages and answers."""

from __future__ import annotations

from typing import Any

import msgspec

from bitville_apm.analysis.baseline import Regression
from bitville_apm.store.interface import Drifts, TopRow

NOW = 1_790_000_000.0

NIGHT = (NOW // 86_400 - 1) * 86_400
"""The beginning of the day before, which the last night compared."""


def end_record(**changes: Any) -> dict[str, Any]:
    """An end line (wire.md 2) of a slow page of a shop, with everything a page can show."""
    return {
        "t": "end",
        "v": 2,
        "id": "11111111-1111-4111-8111-111111111111",
        "at": NOW - 120,
        "ms": 2310.5,
        "request": {
            "method": "GET",
            "uri": "/list/shoes?page=2",
            "route": "GET /list/{}",
            "query": {"page": "2"},
            "headers": {"Accept": "text/html"},
            "post": {"items": [{"id": "5"}]},
        },
        "response": {"status": 200},
        "ss": [310_000_000, 40_000_000],
        "memory": {"peak_bytes": 41_943_040},
        "sql": {
            "n": 43,
            "ms": 1600.0,
            "connections": [{"driver": "pgsql", "host": "db1", "port": 5432, "database": "shop", "user": "shop"}],
            "queries": [
                {"sql": "SELECT * FROM product WHERE category = ?", "ms": 400.0, "n": 1, "c": 0},
                {"sql": "SELECT name FROM brand WHERE id = ?", "ms": 1200.0, "n": 42, "c": 0},
            ],
        },
        "calls": [{"kind": "http", "target": "stock.example", "n": 1, "ms": 120.0}],
        "profile": {
            "kind": "xhprof",
            "edges": {
                "main()": {"ct": 1, "wt": 2_300_000},
                "main()==>Shop\\Listing::show": {"ct": 1, "wt": 2_200_000},
                "Shop\\Listing::show==>Shop\\Brand::load": {"ct": 42, "wt": 1_900_000},
            },
        },
        "release": "2026-11-01",
        "context": {"customer": "gold"},
        **changes,
    }


def top_row(value: str, **changes: Any) -> TopRow:
    """A row of `top` with plausible numbers."""
    numbers: dict[str, Any] = {
        "requests": 40, "executions": None, "wall_ms": 9000.0, "cpu_ms": 900.0, "queue_ms": 10.0, "sql_ms": 4000.0,
        "running_s": 0.91, "blocked_s": 0.0, "waiting_s": 0.0, "max_ms": 2310.5, "errors": 1, "p50_ms": 100.0,
        "p95_ms": 1900.0, "p99_ms": 2300.0,
    }  # fmt: skip
    return TopRow(value=value, **{**numbers, **changes})


def regression(value: str = "GET /checkout", **changes: Any) -> Regression:
    """What costs twice as much since three days ago."""
    made: dict[str, Any] = {
        "dimension": "endpoint", "measure": "cpu", "per": "request", "before_ms": 12.5, "now_ms": 25.5, "factor": 2.04,
        "confidence": 0.93, "since": NIGHT - 2 * 86_400, "lost_s": 185.0, "share": 0.42,
    }  # fmt: skip
    return Regression(value=value, **(made | changes))


def night(project: str = "shop", *found: Regression, **changes: Any) -> Drifts:
    """What the last night found of a project."""
    made: dict[str, Any] = {"day": NIGHT, "made": NIGHT + 87_300, "days": 20, "left_out": 0} | changes
    return Drifts(project=project, found=msgspec.json.encode(found), **made)
