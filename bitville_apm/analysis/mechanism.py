"""Why a value's level rose: more requests, more executions a request, or dearer ones. Pure.

level = n · q · c, and the rise is split by logarithmic means, exactly and without a rest:

    part of x = L(after, before) · ln(x after / x before),    L(a, b) = (a - b) / ln(a / b)

(the additive form of the logarithmic mean Divisia index). Counts have a half added, so that none is zero. `n` counts
what arrived, not what ended: on a host that chokes, requests of a surge end after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis import host
from bitville_apm.analysis.report import Factor
from bitville_apm.analysis.score import Scored
from bitville_apm.analysis.tables import Row, Stretch

_TINY = 1e-9


@attrs.frozen
class Evidence:
    """What one host tells of a spike and of the time before."""

    spike: Stretch
    base: Stretch


def split(level: float, baseline: float, factors: dict[str, tuple[float, float]]) -> dict[str, Factor]:
    """The parts that n (and q) had in a rise, given as (before, after), and c for what is left.

    A value that cost nothing before, because nobody asked for it, cost each time what it costs now.
    """
    count_before = math.prod(before for before, _ in factors.values())
    count_after = math.prod(after for _, after in factors.values())
    a1 = max(level, _TINY)
    a0 = max(baseline, _TINY)
    if baseline <= limits.LEVEL_LEAST and count_before < count_after:
        a0 = a1 * count_before / count_after
    costs = a0 / count_before, a1 / count_after
    mean = a1 if abs(a1 - a0) < _TINY * a1 else (a1 - a0) / math.log(a1 / a0)
    parts = {name: mean * math.log(after / before) for name, (before, after) in {**factors, "c": costs}.items()}
    whole = sum(parts.values())
    scale = (level - baseline) / whole if abs(whole) > _TINY else 1.0
    return {
        name: Factor(before=before, after=after, part=parts[name] * scale)
        for name, (before, after) in {**factors, "c": costs}.items()
    }


def dominant(factors: dict[str, Factor]) -> str | None:
    """The factor that did most of a rise: n, q or c; None without any."""
    if not factors:
        return None
    return max(factors, key=lambda name: (factors[name].part, name))


def arrivals(spike: Stretch, base: Stretch, dimension: str, value: str) -> tuple[float, float]:
    """Requests of a value that arrived a second, before and during: those that ended, and those that pile up."""
    now, before = spike.row(dimension, value), base.row(dimension, value)
    usual = host.mean(before.flight, base.lengths) if before.flight else 0.0
    piled = max(0.0, now.flight[-1] - usual) if now.flight else 0.0
    return (before.requests + 0.5) / max(base.length, 1.0), (now.requests + 0.5 + piled) / max(spike.length, 1.0)


def of_endpoint(evidence: Evidence, scored: Scored) -> dict[str, Factor]:
    """n and c of an endpoint, client or release: nobody counts its executions."""
    n = arrivals(evidence.spike, evidence.base, scored.dimension, scored.value)
    return split(scored.level, scored.baseline, {"n": n})


@attrs.frozen
class Uses:
    """Which endpoints use a statement or function: requests of them all, and their parts of its executions (0..1)."""

    before: float
    after: float
    endpoints: dict[str, float]


def uses(evidence: Evidence, dimension: str, value: str) -> Uses:
    """By links."""
    spike, base = evidence.spike, evidence.base
    parts: dict[str, float] = {}
    for (a, value_a, b, value_b), (requests, executions, _task_s) in spike.links.items():
        if a == "endpoint" and b == dimension and value_b == value:
            parts[value_a] = parts.get(value_a, 0.0) + (executions or requests)
    n = [arrivals(spike, base, "endpoint", name) for name in sorted(parts)]
    total = sum(parts.values()) or 1.0
    return Uses(
        sum(before for before, _ in n), sum(after for _, after in n), {name: x / total for name, x in parts.items()}
    )


def executed(row: Row) -> float:
    """How often it ran; where nobody counts, in how many requests it was seen."""
    return row.requests if row.executions is None else row.executions


def of_use(evidence: Evidence, scored: Scored, php: Sequence[Evidence] = ()) -> dict[str, Factor]:
    """n, q and c of a statement or function; n are the requests of the endpoints that use it.

    What a database host cannot see, how often PHP asked, the web hosts in `php` know.
    """
    n0 = n1 = x0 = x1 = 0.0
    for one in (evidence, *php):
        now, before = one.spike.row(scored.dimension, scored.value), one.base.row(scored.dimension, scored.value)
        if not executed(now):
            continue
        used = uses(one, scored.dimension, scored.value)
        after = used.after or (now.requests + 0.5) / max(one.spike.length, 1.0)
        n0 += used.before or (before.requests + 0.5) / max(one.base.length, 1.0)
        n1 += after
        x0 += (executed(before) + 0.5) / max(one.base.length, 1.0)
        x1 += (executed(now) + 0.5) / max(one.spike.length, 1.0)
    if not n1:
        return {}
    return split(scored.level, scored.baseline, {"n": (n0, n1), "q": (x0 / n0, x1 / n1)})


def repeats(evidence: Sequence[Evidence], dimension: str, value: str) -> tuple[float, float]:
    """Executions by each request that ran it at all, before and during."""
    sums = [0.0, 0.0, 0.0, 0.0]
    for one in evidence:
        for i, row in enumerate((one.base.row(dimension, value), one.spike.row(dimension, value))):
            sums[2 * i] += row.requests
            sums[2 * i + 1] += executed(row)
    return sums[1] / sums[0] if sums[0] else 0.0, sums[3] / sums[2] if sums[2] else 0.0


def spread_over(evidence: Sequence[Evidence], dimension: str, value: str) -> float:
    """The largest part that one endpoint has in what a value's executions rose by: 1 when it is one endpoint's."""
    more: dict[str, float] = {}
    for one in evidence:
        for (a, endpoint, b, value_b), (requests, executions, _task_s) in one.spike.links.items():
            if a == "endpoint" and b == dimension and value_b == value:
                usual = one.base.links.get((a, endpoint, b, value_b), [0.0, 0.0, 0.0])
                rise = (executions or requests) / max(one.spike.length, 1.0) - (usual[1] or usual[0]) / max(
                    one.base.length, 1.0
                )
                more[endpoint] = more.get(endpoint, 0.0) + max(0.0, rise)
    total = sum(more.values())
    return max(more.values()) / total if total else 1.0
