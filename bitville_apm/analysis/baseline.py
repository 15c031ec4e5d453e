"""Slow drifts: endpoints, functions and statements that cost more a request than they did, without any spike. Pure.

Once a night, over daily sums: what a request cost in the newest days against what it cost before. A day counts as one
observation, whatever traffic it had, since days differ more than requests of one day do; the confidence is that of a
t-like figure over logarithms, because costs grow by factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from bitville_apm import limits


class Day(Struct, frozen=True, kw_only=True):
    """One value on one day (or in one hour): requests, and what they cost, in seconds: time on a CPU, wall, statements.

    For a statement `requests` are its executions, `cpu_s` a database's own where its sessions are looked at.
    """

    at: float
    requests: float
    cpu_s: float = 0.0
    wall_s: float = 0.0


class Regression(Struct, frozen=True, kw_only=True):
    """A value costs `factor` times what it did: ms a request of `measure`, before and now, and since which day.

    `lost_s` is what that costs a day, at the newest days' traffic.
    """

    dimension: str
    value: str
    measure: str
    before_ms: float
    now_ms: float
    factor: float
    confidence: float
    since: float
    lost_s: float


def regressions(
    days: Mapping[tuple[str, str], Sequence[Day]], *, newest: int = 1, factor: float = 1.3
) -> list[Regression]:
    """What got dearer, by what that costs a day. `days`: (dimension, value) -> its days, in any order.

    The last `newest` days against all before them, at least three. By CPU time where it is known, else by wall time.
    """
    found = []
    for (dimension, value), rows in days.items():
        usable = sorted((d for d in rows if d.requests >= limits.DRIFT_REQUESTS), key=lambda d: d.at)
        before, now = usable[:-newest], usable[-newest:]
        if len(before) < limits.DRIFT_DAYS or not now:
            continue
        measure = "cpu" if all(d.cpu_s > 0 for d in usable) else "wall"
        costs = [(d.cpu_s if measure == "cpu" else d.wall_s) / d.requests for d in usable]
        if any(cost <= 0 for cost in costs):
            continue
        logs = [math.log(cost) for cost in costs]
        old, new = logs[: len(before)], logs[len(before) :]
        middle = sum(old) / len(old)
        step = sum(new) / len(new) - middle
        deviation = math.sqrt(sum((x - middle) ** 2 for x in old) / (len(old) - 1))
        noise = deviation**2 * (1 / len(old) + 1 / len(new)) + limits.DRIFT_NOISE**2
        z2 = step**2 / noise
        if step < math.log(factor):
            continue
        confidence = z2 / (z2 + limits.Z2_HALF)
        if confidence < limits.DRIFT_CONFIDENCE:
            continue
        was, became = math.exp(middle), math.exp(middle + step)
        found.append(
            Regression(
                dimension=dimension,
                value=value,
                measure=measure,
                before_ms=round(1000 * was, 3),
                now_ms=round(1000 * became, 3),
                factor=round(became / was, 3),
                confidence=round(confidence, 3),
                since=now[0].at,
                lost_s=round((became - was) * sum(d.requests for d in now) / len(now), 1),
            )
        )
    return sorted(found, key=lambda r: (-r.lost_s, r.dimension, r.value))
