"""Slow drifts: endpoints, functions and statements that cost more a call than they did, without any spike. Pure.

Once a night, over daily sums. A day counts as one observation, whatever traffic it had, since days differ more than
requests of one day do; costs grow by factors, so logarithms are compared. The days of a value are cut in two where two
medians fit them best (least absolute deviations: one odd day on either side moves nothing); from that cut on it is
dearer, if the step stands out from how much the days before differ among themselves, and the newest day still has it,
also beside the same days of the weeks before: a shop's Saturday is no news.

By time on a CPU where that is known, since waiting has other reasons. What got no dearer on a CPU may still take
longer: that is told by wall time, but only once it lasted, for one overloaded day makes everything slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from msgspec import Struct

from bitville_apm import limits

_DAY_S = 86_400.0
_MAD = 1.4826
"""Of a normal distribution, its deviation over its median absolute deviation."""


class Day(Struct, frozen=True, kw_only=True):
    """One value on one UTC day that begins at `at`: how often it was called and what that cost, in seconds.

    `executions` is None where nobody counted them. `load_s` is running and blocked task-seconds.
    """

    at: float
    requests: float
    executions: float | None = None
    cpu_s: float = 0.0
    wall_s: float = 0.0
    load_s: float = 0.0


class Regression(Struct, frozen=True, kw_only=True):
    """A value costs `factor` times what it did, since the day that begins at `since`.

    `before_ms` and `now_ms` are ms of `measure` (cpu or wall) for each request or execution (`per`), medians of days.
    `lost_s` is what that costs on the newest day, seconds; `share` the value's part of the load of all values of its
    dimension on that day (of their wall time where no load is known).
    """

    dimension: str
    value: str
    measure: str
    per: str
    before_ms: float
    now_ms: float
    factor: float
    confidence: float
    since: float
    lost_s: float
    share: float


def regressions(days: Mapping[tuple[str, str], Sequence[Day]], newest: float) -> list[Regression]:
    """What got dearer and still is, by what that costs. `days`: (dimension, value) -> its days, in any order.

    `newest` is the beginning of the newest day. Names that begin with `~` stand for many values and count for shares
    only.
    """
    whole = _totals(days)
    found = []
    for (dimension, value), rows in days.items():
        if value.startswith("~"):
            continue
        one = _regression(dimension, value, sorted(rows, key=lambda day: day.at), newest, whole)
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda r: (-r.lost_s, r.dimension, r.value))


def _regression(
    dimension: str,
    value: str,
    rows: Sequence[Day],
    newest: float,
    whole: Mapping[tuple[str, float], tuple[float, float]],
) -> Regression | None:
    executed = dimension == "statement" and all(day.executions for day in rows)
    usable = [(day, _calls(day, executed)) for day in rows if _calls(day, executed) >= limits.DRIFT_REQUESTS]
    if len(usable) <= limits.DRIFT_DAYS or usable[-1][0].at < newest - limits.DRIFT_RECENT_DAYS * _DAY_S:
        return None
    last, calls = usable[-1]
    for measure, least in (("cpu", 1), ("wall", limits.DRIFT_WALL_DAYS)):
        costs = [(day.cpu_s if measure == "cpu" else day.wall_s) / n for day, n in usable]
        dated = [(day.at, math.log(cost)) for (day, _), cost in zip(usable, costs, strict=True) if cost > 0]
        step = _step(dated, least) if len(dated) == len(usable) else None
        if step is None:
            continue
        cut, before, now, confidence = step
        load, wall = whole[dimension, last.at]
        return Regression(
            dimension=dimension,
            value=value,
            measure=measure,
            per="execution" if executed else "request",
            before_ms=round(1000 * before, 6),
            now_ms=round(1000 * now, 6),
            factor=round(now / before, 3),
            confidence=round(confidence, 3),
            since=usable[cut][0].at,
            lost_s=round((now - before) * calls, 3),
            share=round(last.load_s / load if load else last.wall_s / wall if wall else 0.0, 4),
        )
    return None


def _step(dated: Sequence[tuple[float, float]], least: int) -> tuple[int, float, float, float] | None:
    """Where the best cut of some days and their logarithms is, what they cost before it and from there on, and how sure
    that is; None where it is no news. `least`: so many days have to be dear.
    """
    logs = [x for _, x in dated]
    newest, last = dated[-1]
    if last - min(logs) < math.log(limits.DRIFT_FACTOR) / 2:
        return None  # most values, without looking at every cut
    cut = min(range(limits.DRIFT_DAYS, len(logs)), key=lambda n: _misfit(logs[:n]) + _misfit(logs[n:]))
    before, now = logs[:cut], logs[cut:]
    middle = median(before)
    step = median(now) - middle
    alike = [x for at, x in dated[:cut] if round((newest - at) / _DAY_S) % 7 == 0]
    if (
        step < math.log(limits.DRIFT_FACTOR)
        or len(now) < least
        or last - max(middle, median(alike or before)) < step / 2
    ):
        return None
    z2 = step**2 / (_deviation(before) ** 2 * (1 / len(before) + 1 / len(now)) + limits.DRIFT_NOISE**2)
    confidence = z2 / (z2 + limits.Z2_HALF)
    if confidence < (limits.DRIFT_CONFIDENCE if len(now) > 1 else limits.DRIFT_CONFIDENCE_DAY):
        return None
    return cut, math.exp(middle), math.exp(middle + step), confidence


def _deviation(logs: Sequence[float]) -> float:
    """By how much days differ, robustly: from their median, or from one to the next, which no trend makes larger."""
    middle = median(logs)
    apart = median(abs(x - middle) for x in logs)
    by_day = median(abs(b - a) for a, b in pairwise(logs)) / math.sqrt(2)
    return _MAD * min(apart, by_day) * (1 + limits.DRIFT_FEW / len(logs))


def _misfit(logs: Sequence[float]) -> float:
    """How far days are from their median, added up."""
    middle = median(logs)
    return sum(abs(x - middle) for x in logs)


def _calls(day: Day, executed: bool) -> float:
    return (day.executions or 0.0) if executed else day.requests


def _totals(days: Mapping[tuple[str, str], Sequence[Day]]) -> dict[tuple[str, float], tuple[float, float]]:
    """(dimension, day) -> load and wall time of all its values, seconds."""
    whole: dict[tuple[str, float], tuple[float, float]] = {}
    for (dimension, _), rows in days.items():
        for day in rows:
            load, wall = whole.get((dimension, day.at), (0.0, 0.0))
            whole[dimension, day.at] = load + day.load_s, wall + day.wall_s
    return whole
