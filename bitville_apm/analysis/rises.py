"""What rose: tasks, database sessions, or requests that wait; so, whether it is load or waiting. Pure."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bitville_apm import limits
from bitville_apm.analysis import host, rules
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.report import Measure
from bitville_apm.analysis.words import Kind

UNITS: dict[Measure, str] = {"tasks": "tasks", "db": "active database sessions", "in_flight": "requests in flight"}


@attrs.frozen
class Rises:
    """What rose, load units: tasks, working database sessions, sessions that wait for locks, requests in flight."""

    tasks: float
    db: float
    locks: float
    in_flight: float
    sessions: float


def what_rose(evidence: Evidence, onset: float, end: float | None) -> tuple[Kind, Measure]:
    """Whether it is load or waiting, and of which measure: by what lasted, or else by all of it.

    What floods in when a lock is released lasts for seconds, and is not what the minutes before were about: medians
    do not see it. Of two bursts with a pause between them they see nothing, and means do.
    """
    found = measured(risen(evidence, onset, end, _median))
    return found if found[0] != "none" else measured(risen(evidence, onset, end, _mean))


def risen(evidence: Evidence, onset: float, end: float | None, middle: Callable[[list[float]], float]) -> Rises:
    """By how much each measure rose. What a baseline has of other spikes does not pull its median."""
    spike, base = evidence.spike, evidence.base

    def series(measure: str) -> float:
        values = spike.seconds.get(measure, [])
        inside = [v for t, v in values if t > onset and (end is None or t < end)] or [v for _, v in values]
        before = [v for _, v in base.seconds.get(measure, [])]
        return middle(inside) - (_median(before) if before else 0.0) if inside else 0.0

    working = host.mean(host.sessions(spike), spike.lengths) - host.mean(host.sessions(base), base.lengths)
    tasks = series("tasks")
    if "tasks" not in spike.seconds:
        tasks = host.mean(host.consumed(spike), spike.lengths) - host.mean(host.consumed(base), base.lengths)
    flying = series("in_flight")
    if "in_flight" not in spike.seconds:
        flying = host.mean(host.in_flight(spike), spike.lengths) - host.mean(host.in_flight(base), base.lengths)
    return Rises(tasks, working, rules.locks_rise(evidence), flying, series("db"))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def measured(rises: Rises) -> tuple[Kind, Measure]:
    """Whether it is load or waiting, and of which measure."""
    if max(rises.tasks, rises.db) >= max(limits.LOAD_LEAST, limits.LOAD_OF_FLIGHT * rises.in_flight):
        return "load", "tasks" if rises.tasks >= max(limits.LOAD_LEAST, rises.db / 2) else "db"
    if rises.in_flight >= limits.LOAD_LEAST:
        return "waiting", "in_flight"
    if max(rises.sessions, rises.locks) >= limits.LOAD_LEAST:
        return "waiting", "db"
    return "none", "tasks"
