"""What a host ran in all, against which every value's part is judged. Pure.

The whole is the host's own (`load`), so that what no value explains stays visible. Where nobody looked at the host it
is the sum of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitville_apm import limits
from bitville_apm.analysis.loads import average, number
from bitville_apm.analysis.stretch import Row, Stretch
from bitville_apm.sqltext import fingerprint

PARTS = ("endpoint", "process")
"""The dimensions that divide a host's tasks among them."""


def consumed(found: Stretch) -> list[float]:
    """Time on a CPU and blocked, window by window, of the whole host (load units)."""
    own = parts(found, PARTS)
    wholes = []
    for load, length, part in zip(found.load, found.lengths, own, strict=True):
        user, system = number(load, "cpu", "user_s"), number(load, "cpu", "system_s")
        running, blocked = number(load, "running"), number(load, "blocked") or 0.0
        if user is not None and system is not None:
            wholes.append((user + system) / length + blocked)
        elif running is not None:
            cores = number(load, "cores") or 0.0
            wholes.append((min(running, cores) if cores > 0 else running) + blocked)
        else:
            wholes.append(part)
    return wholes


def unseen(found: Stretch) -> list[float] | None:
    """What was consumed by none of the values, window by window: by processes that nobody sees, and interrupts.

    None where nobody looked at processes, or nobody at the CPU time of all.
    """
    if "process" not in found.sums or any(number(load, "cpu", "user_s") is None for load in found.load):
        return None
    return [max(0.0, all_of_it - part) for all_of_it, part in zip(consumed(found), parts(found, PARTS), strict=True)]


def sessions(found: Stretch) -> list[float]:
    """Database sessions that ran or were blocked on a disk, window by window."""
    return parts(found, ("wait",) if "wait" in found.sums else ("statement",))


def in_flight(found: Stretch) -> list[float]:
    """Requests in flight, window by window: as counted, else what the endpoints add up to."""
    said = found.seconds.get("in_flight", [])
    counted: dict[float, list[float]] = {}
    for at, value in said:
        counted.setdefault(at // limits.WINDOW_S * limits.WINDOW_S, []).append(value)
    own = parts(found, ("endpoint",), flight=True)
    return [
        sum(counted[at]) / len(counted[at]) if at in counted else part for at, part in zip(found.at, own, strict=True)
    ]


def lock_waits(found: Stretch) -> list[float]:
    """Database sessions that wait for a lock, window by window."""
    sums = [0.0] * len(found.at)
    for value, row in found.rows.get("wait", {}).items():
        if value.startswith("Lock:"):
            sums = [a + b for a, b in zip(sums, row.flight, strict=True)]
    if not any(sums):
        for row in found.rows.get("blocker", {}).values():
            sums = [a + b for a, b in zip(sums, row.flight, strict=True)]
    return sums


def calls(found: Stretch, statement: str) -> float | None:
    """How often a statement ran, as its servers count it when it ends; None where no server tells."""
    key, told, counted = fingerprint(statement), False, 0.0
    for load in found.load:
        servers: Any = load.get("db")
        for server, said in servers.items() if isinstance(servers, dict) else ():
            if isinstance(said, dict) and isinstance(said.get("calls"), dict):
                told = True
                counted += number(load, "db", server, "calls", key) or 0.0
    return counted if told else None


def parts(found: Stretch, dimensions: Sequence[str], flight: bool = False) -> list[float]:
    """All values of some dimensions added up, window by window."""
    sums = [0.0] * len(found.at)
    for dimension in dimensions:
        whole = found.sums.get(dimension)
        if whole is not None:
            sums = [a + b for a, b in zip(sums, whole.flight if flight else whole.consumed, strict=True)]
    return sums


def cores(found: Stretch) -> int | None:
    """How many CPUs the host has; None where nobody said."""
    said = [n for n in (number(load, "cores") for load in found.load) if n]
    return int(max(said)) if said else None


def pressure(found: Stretch) -> dict[str, float]:
    """Mean pressure over the windows, percent of the time: `cpu`, `io`, `memory`, as `some`."""
    names = {"cpu": ("cpu", "some"), "io": ("io", "some"), "memory": ("memory", "some")}
    said = {name: average(found.load, "psi", *path) for name, path in names.items()}
    return {name: round(value, 1) for name, value in said.items() if value is not None}


def mean(levels: Sequence[float], lengths: Sequence[float]) -> float:
    """The mean of levels, each as long as its window."""
    total = sum(lengths)
    return sum(a * b for a, b in zip(levels, lengths, strict=True)) / total if total else 0.0


def deviation(levels: Sequence[float]) -> float:
    """The standard deviation from window to window; 0 for fewer than two."""
    n = len(levels)
    if n < 2:
        return 0.0
    middle = sum(levels) / n
    return float((sum((a - middle) ** 2 for a in levels) / (n - 1)) ** 0.5)


def crowding(found: Stretch) -> float:
    """How many tasks wanted each CPU, at least 1: so many times longer than by itself took what ran here."""
    running, has = average(found.load, "running"), cores(found)
    return max(1.0, running / has) if running is not None and has else 1.0


def task_parts(row: Row, length: float) -> tuple[float, float]:
    """Running (on a CPU or waiting for one) and blocked tasks of a value, load units."""
    if not length:
        return 0.0, 0.0
    return (row.cpu_us + row.queue_us) / 1e6 / length, row.blocked_s / length


def even_growth(spike: Stretch, base: Stretch) -> float:
    """How many times as many requests the middle endpoint had: by what they cost before, half grew by more.

    What grew everywhere by the same is nobody's doing: more visitors.
    """
    grown = []
    for value, row in spike.rows.get("endpoint", {}).items():
        before = base.row("endpoint", value)
        if before.requests > 0 and not value.startswith("~"):
            piled = max(0.0, row.flight[-1] - mean(before.flight, base.lengths)) if row.flight else 0.0
            ratio = spike.rate(row.requests + piled) / base.rate(before.requests)
            grown.append((ratio, before.cpu_us / 1e6 + before.blocked_s))
    grown.sort()
    half, seen = sum(weight for _, weight in grown) / 2, 0.0
    for ratio, weight in grown:
        seen += weight
        if seen >= half > 0:
            return ratio
    return 1.0


def told_of_functions(spike: Stretch, base: Stretch) -> float:
    """By how much functions are to be scaled up: of many requests no profile is kept (1 to 20).

    As it was before; in the spike the functions of long requests may be still to come.
    """
    stretch = base if base.at else spike
    functions, endpoints = stretch.sums.get("function"), stretch.sums.get("endpoint")
    if functions is None or endpoints is None:
        return 1.0
    mine = functions.cpu_us / 1e6 + functions.blocked_s
    return min(20.0, max(1.0, (endpoints.cpu_us / 1e6 + endpoints.blocked_s) / mine)) if mine > 0 else 1.0
