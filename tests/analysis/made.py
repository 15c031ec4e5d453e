"""Frames by hand: a host whose endpoints cost what a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bitville_apm.records import Cells, Frame

BEGIN = 1_700_000_000
Values = Mapping[str, Mapping[str, float]]


def cells(values: Values) -> Cells:
    """Value -> columns as arrays."""
    names = sorted({name for columns in values.values() for name in columns})
    return Cells(values=list(values), columns={name: [values[v].get(name, 0) for v in values] for name in names})


def frame(
    at: float,
    tables: Mapping[str, Values] | None = None,
    *,
    tasks: float | None = None,
    in_flight: float | None = None,
    db: float | None = None,
    links: Sequence[tuple[str, str, str, str, float, float | None, float]] = (),
    load: Mapping[str, Any] | None = None,
    late: bool = False,
    part: str = "",
) -> Frame:
    """One window."""
    seconds = {"tasks": tasks, "in_flight": in_flight, "db": db}
    return Frame(
        id=f"{at:.0f}{part}",
        at=at,
        secs=0.0 if late else 10.0,
        v=2,
        late=late,
        seconds={name: [value] * 10 for name, value in seconds.items() if value is not None},
        load=dict(load or {}),
        cells={dimension: cells(values) for dimension, values in (tables or {}).items()},
        links=list(links),
    )


def load(cpu: float, cores: int = 4, blocked: float = 0.0, running: float | None = None, **more: Any) -> dict[str, Any]:
    """A host that had its CPUs busy with so many load units."""
    return {
        "running": cpu if running is None else running, "blocked": blocked, "cores": cores,
        "cpu": {"user_s": 10 * cpu, "system_s": 0.0}, **more,
    }  # fmt: skip


def use(n: float, cpu: float, wall: float | None = None, queue: float = 0.0, **more: float) -> dict[str, float]:
    """Columns of n requests in ten seconds that take `cpu` seconds each, and `wall` (or as long)."""
    return {
        "requests": n, "cpu_us": n * cpu * 1e6, "queue_us": n * queue * 1e6,
        "wall_us": n * (cpu if wall is None else wall) * 1e6, **more,
    }  # fmt: skip


def before(n: int = 60, **what: Any) -> list[Frame]:
    """A baseline of equal frames, the last one just before `BEGIN`."""
    return [frame(BEGIN - 10 * (n - i), **what) for i in range(n)]


def during(n: int = 6, **what: Any) -> list[Frame]:
    """A spike of equal frames from `BEGIN` on."""
    return [frame(BEGIN + 10 * i, **what) for i in range(n)]
