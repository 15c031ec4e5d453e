"""Adds frames up to a stretch: what every value ran and waited for, window by window. Pure.

Frames of one window add; `load` and `seconds` are the host's and fill each other's gaps. Nothing depends on the order
of frames, nor on how a window was cut into parts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bitville_apm import limits
from bitville_apm.analysis.loads import is_database, merged, number
from bitville_apm.analysis.stretch import Row, Stretch
from bitville_apm.cells import OTHER
from bitville_apm.records import Cells, Frame

LOOKED = frozenset({"endpoint", "client", "agent", "release", "request"})
"""Dimensions of requests: what looks saw of them is their time in flight."""
SESSIONS = frozenset({"statement", "wait", "blocker"})


def stretch(frames: Sequence[Frame], wanted: Mapping[str, Collection[str]] | None = None) -> Stretch:
    """Add frames up. `wanted`: dimension -> the values that matter, where not all do (a baseline of an hour)."""
    by_at: dict[float, list[Frame]] = {}
    for frame in frames:
        by_at.setdefault(frame.at, []).append(frame)
    ats = sorted(by_at)
    found = Stretch(
        at=ats, rows={}, links={}, load=[], seconds={}, lengths=[], frames=len(frames),
        unseen={} if wanted is None else {dimension: set(values) for dimension, values in wanted.items()},
    )  # fmt: skip
    if wanted is not None:
        for dimension, values in wanted.items():
            found.rows[dimension] = {value: Row(len(ats)) for value in values}
            found.rows[dimension].setdefault(OTHER, Row(len(ats)))
    for window, at in enumerate(ats):
        parts = sorted(by_at[at], key=lambda frame: frame.id)
        found.lengths.append(_length(parts))
        _window(found, window, parts, wanted)
        found.load.append(merged([part.load for part in parts]))
        _seconds(found, at, parts)
        for part in parts:
            for name, amount in part.lost.items():
                found.lost[name] = found.lost.get(name, 0.0) + amount
            _links(found, part, wanted)
    return found


def _length(parts: Sequence[Frame]) -> float:
    """Seconds that a window stands for: all ten, unless it was cut short and nothing came later."""
    secs = sum(part.secs for part in parts)
    if 1.0 <= secs < limits.WINDOW_S and not any(part.late for part in parts):
        return secs
    return float(limits.WINDOW_S)


def _window(found: Stretch, window: int, parts: Sequence[Frame], wanted: Mapping[str, Collection[str]] | None) -> None:
    length = found.lengths[window]
    crowd = _crowd(parts)
    for part in parts:
        for dimension, table in part.cells.items():
            if not table.values:
                continue
            if wanted is None:
                rows = found.rows.setdefault(dimension, {})
                picked = list(enumerate(table.values))
            else:
                if dimension not in wanted:
                    continue
                rows = found.rows[dimension]
                unseen = found.unseen[dimension]
                if unseen:
                    unseen.difference_update(table.values)
                picked = [(i, value) for i, value in enumerate(table.values) if value in rows]
            _add(found, dimension, table, rows, picked, window, length, crowd if dimension in SESSIONS else 1.0)
    if wanted is not None:
        _absent(found, window, parts, length)


def _crowd(parts: Sequence[Frame]) -> float:
    """How many sessions that wait for nothing share each CPU that a database's host gives them (at least 1).

    Looks cannot tell a session that runs from one that waits for a CPU. On a host with more tasks than CPUs the time
    that its processes really ran tells how many did. Where the database is on another host, nobody knows.
    """
    said = merged([part.load for part in parts])
    running, cores = number(said, "running"), number(said, "cores")
    if running is None or not cores or running <= cores:
        return 1.0
    ran = looked = 0.0
    for part in parts:
        processes, statements = part.cells.get("process"), part.cells.get("statement")
        if processes is not None:
            for name, cpu_us in zip(processes.values, processes.columns.get("cpu_us", ()), strict=False):
                ran += (cpu_us or 0) if is_database(name) else 0
        if statements is not None:
            looked += _total(statements.columns, "cpu_us")
    return max(1.0, looked / ran) if ran > 0 else 1.0


def _add(
    found: Stretch,
    dimension: str,
    table: Cells,
    rows: dict[str, Row],
    picked: Sequence[tuple[int, str]],
    window: int,
    length: float,
    crowd: float = 1.0,
) -> None:
    n = len(table.values)
    zeros: list[Any] = [0] * n
    column = {name: held if len(held) >= n else [*held, *zeros] for name, held in table.columns.items()}
    requests, wall, cpu, queue, sql, blocked, waiting = (
        [number or 0 for number in held] if None in (held := column.get(name, zeros)) else held for name in _ADDED
    )
    executions = column.get("executions")
    size = len(found.at)
    if found is not _ONE:
        whole = found.sums.get(dimension)
        if whole is None:
            whole = found.sums[dimension] = Row(size)
        _sum(whole, dimension, column, window, length, crowd)
    # Written out: this runs a hundred thousand times for an hour of full frames.
    for i, value in picked:
        row = rows.get(value)
        if row is None:
            row = rows[value] = Row(size)
        cpu_us, queue_us, wall_us, sql_us = cpu[i], queue[i], wall[i], sql[i]
        blocked_s, waiting_s = blocked[i], waiting[i]
        row.requests += requests[i]
        row.wall_us += wall_us
        row.cpu_us += cpu_us
        row.queue_us += queue_us
        row.sql_us += sql_us
        row.blocked_s += blocked_s
        row.waiting_s += waiting_s
        if executions is not None and executions[i] is not None:
            row.executions = (row.executions or 0.0) + executions[i]
        row.consumed[window] += (cpu_us / 1e6 / crowd + blocked_s) / length
        looked = (cpu_us + queue_us) / 1e6 + blocked_s + waiting_s
        row.flight[window] += flight(dimension, looked, wall_us / 1e6, sql_us / 1e6) / length


_ADDED = ("requests", "wall_us", "cpu_us", "queue_us", "sql_us", "blocked_s", "waiting_s")
COLUMNS = frozenset((*_ADDED, "executions"))
"""The columns of cells that are looked at."""


def _sum(whole: Row, dimension: str, column: Mapping[str, list[Any]], window: int, length: float, crowd: float) -> None:
    """Add a whole dimension of one frame."""
    cpu_s, queue_s = _total(column, "cpu_us") / 1e6, _total(column, "queue_us") / 1e6
    blocked_s, waiting_s = _total(column, "blocked_s"), _total(column, "waiting_s")
    wall_s, sql_s = _total(column, "wall_us") / 1e6, _total(column, "sql_us") / 1e6
    whole.requests += _total(column, "requests")
    whole.cpu_us += cpu_s * 1e6
    whole.queue_us += queue_s * 1e6
    whole.blocked_s += blocked_s
    whole.waiting_s += waiting_s
    whole.wall_us += wall_s * 1e6
    whole.sql_us += sql_s * 1e6
    whole.consumed[window] += (cpu_s / crowd + blocked_s) / length
    looked = cpu_s + queue_s + blocked_s + waiting_s
    whole.flight[window] += flight(dimension, looked, wall_s, sql_s) / length


def _total(column: Mapping[str, list[Any]], name: str) -> float:
    held = column.get(name)
    if not held:
        return 0.0
    try:
        return float(sum(held))
    except TypeError:  # somebody left a number out
        return float(sum(value or 0 for value in held))


def flight(dimension: str, looked: float, wall: float, sql: float) -> float:
    """Seconds in flight of one value in one window.

    Looks see long requests in every window they live in; of many short ones they see few, and those are told by
    their own wall times. A statement is as long as PHP waited for it, or as its sessions were seen.
    """
    if dimension in LOOKED:
        return looked if looked >= 0.5 * wall else wall
    if dimension == "statement":
        return max(sql, looked)
    return looked if dimension in SESSIONS or dimension == "process" else wall


def _absent(found: Stretch, window: int, parts: Sequence[Frame], length: float) -> None:
    """A value that a full frame left out counts as the smallest that it kept: it was at most that."""
    for dimension, rows in found.rows.items():
        tables = [part.cells[dimension] for part in parts if dimension in part.cells]
        if not any(table.values and table.values[-1] == OTHER for table in tables):
            continue
        seen = set().union(*(table.values for table in tables))
        missing = [row for value, row in rows.items() if value not in seen and value != OTHER]
        if not missing:
            continue
        least_consumed = least_flight = math.inf
        for table in tables:
            n = len(table.values) - 1
            for i in range(max(0, n - 20), n):  # ranked by weight: the smallest are the last
                one = Row(1)
                _add(_ONE, dimension, table, {table.values[i]: one}, [(i, table.values[i])], 0, length)
                least_consumed = min(least_consumed, one.consumed[0])
                least_flight = min(least_flight, one.flight[0])
        for row in missing:
            row.consumed[window] = least_consumed if least_consumed < math.inf else 0.0
            row.flight[window] = least_flight if least_flight < math.inf else 0.0


_ONE = Stretch(at=[0.0], rows={}, links={}, load=[], seconds={}, lengths=[1.0])


def _links(found: Stretch, part: Frame, wanted: Mapping[str, Collection[str]] | None) -> None:
    for a, value_a, b, value_b, requests, executions, task_s in part.links:
        if wanted is not None and (value_a not in wanted.get(a, ()) or value_b not in wanted.get(b, ())):
            continue
        held = found.links.setdefault((a, value_a, b, value_b), [0.0, 0.0, 0.0])
        held[0] += requests or 0
        held[1] += executions or 0
        held[2] += task_s or 0.0


def _seconds(found: Stretch, at: float, parts: Sequence[Frame]) -> None:
    names = {name for part in parts for name in part.seconds}
    for name in sorted(names):
        columns = [part.seconds.get(name, []) for part in parts]
        held = found.seconds.setdefault(name, [])
        for i in range(max(map(len, columns))):
            # Parts say the same, or one of them nothing: of two that differ the larger looked for longer.
            said = [c[i] for c in columns if i < len(c)]
            numbers = [v for v in said if v is not None and math.isfinite(v)]
            if numbers:
                held.append((at + i, max(numbers)))
