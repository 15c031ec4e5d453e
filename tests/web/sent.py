"""Records that a real collector is sent, and their ids."""

from __future__ import annotations

import time
from typing import Any

NOW = time.time()

IDS = [f"{n}0000000-0000-4000-8000-000000000000" for n in range(4)]


def record(n: int, **changes: Any) -> dict[str, Any]:
    return {
        "t": "end", "v": 2, "id": IDS[n], "at": NOW - 600 * (n + 1), "ms": 100.0 * (n + 1),
        "request": {"method": "GET", "uri": f"/page/{n}?x={n}", "route": f"GET /page/{('even', 'odd')[n % 2]}"},
        "response": {"status": 200 + 100 * n}, "release": f"r{n}",
        "sql": {"n": 2, "ms": 10.0, "queries": [{"sql": f"SELECT {n} FROM t{n}", "ms": 10.0, "n": 2}]},
        "profile": {"kind": "excimer", "period_us": 10_000, "stacks": f"main;f{n} {10 * (n + 1)}\n"},
        **changes,
    }  # fmt: skip
