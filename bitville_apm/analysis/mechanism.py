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
from bitville_apm.analysis.stretch import Row, Stretch

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
    if baseline <= limits.LEVEL_LEAST and count_before < count_after / 2:
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
    """Requests of the endpoints that use a statement or function, a second, before and during: arrived, and ended."""

    arrived: tuple[float, float]
    ended: tuple[float, float]


def uses(evidence: Evidence, dimension: str, value: str) -> Uses:
    """By links; where there are none, the requests that it was seen in."""
    spike, base = evidence.spike, evidence.base
    names = sorted(spike.used_by(dimension, value))
    places = [("endpoint", name) for name in names] or [(dimension, value)]
    n = [arrivals(spike, base, *place) for place in places]
    ended = [
        (base.row(*place).requests / max(base.length, 1.0), spike.row(*place).requests / max(spike.length, 1.0))
        for place in places
    ]
    return Uses(
        (sum(before for before, _ in n), sum(after for _, after in n)),
        (sum(before for before, _ in ended), sum(after for _, after in ended)),
    )


def executed(row: Row) -> float:
    """How often it ran; where nobody counts, in how many requests it was seen."""
    return row.requests if row.executions is None else row.executions


def of_use(evidence: Evidence, scored: Scored, php: Sequence[Evidence] = ()) -> dict[str, Factor]:
    """n, q and c of a statement or function; n are the requests of the endpoints that use it.

    What a database host cannot see, how often PHP asked, the web hosts in `php` know. Executions are told when a
    request ends: those of requests that pile up are taken to be as many.
    """
    n = [0.0, 0.0]
    ended = [0.0, 0.0]
    ran = [0.0, 0.0]
    for one in (evidence, *php):
        rows = one.base.row(scored.dimension, scored.value), one.spike.row(scored.dimension, scored.value)
        if not executed(rows[1]):
            continue
        used = uses(one, scored.dimension, scored.value)
        for i, (row, length) in enumerate(zip(rows, (one.base.length, one.spike.length), strict=True)):
            n[i] += used.arrived[i]
            ended[i] += used.ended[i] + 0.5 / max(length, 1.0)
            ran[i] += (executed(row) + 0.5) / max(length, 1.0)
    if not n[1]:
        return {}
    q = ran[0] / ended[0], ran[1] / ended[1]
    return split(scored.level, scored.baseline, {"n": (n[0], n[1]), "q": q})


def repeats(evidence: Sequence[Evidence], dimension: str, value: str) -> tuple[float, float]:
    """Executions by each request that ran it at all, before and during."""
    sums = [0.0, 0.0, 0.0, 0.0]
    for one in evidence:
        for i, row in enumerate((one.base.row(dimension, value), one.spike.row(dimension, value))):
            sums[2 * i] += row.requests
            sums[2 * i + 1] += executed(row)
    return sums[1] / sums[0] if sums[0] else 0.0, sums[3] / sums[2] if sums[2] else 0.0


@attrs.frozen
class Asking:
    """Who runs a statement that hardly any request has finished: the one request, where it is one, and its endpoint."""

    request: str | None
    endpoint: str | None


def asking(evidence: Sequence[Evidence], statement: str) -> Asking | None:
    """Who runs a statement that at most one request has finished, as far as looks tell; None where more have.

    What a statement takes is told by PHP when the request ends. Before that it is the request's which alone was in
    flight through most of the spike, and of the endpoint that most of what came to wait is for. A request has waited
    for what the statement ran, or a few times less: several processes may work for it.
    """
    if sum(one.spike.row("statement", statement).requests for one in evidence) > 1:
        return None
    rows = [one.spike.row("statement", statement) for one in evidence]
    ran = sum(row.cpu_us / 1e6 + row.blocked_s for row in rows)
    least = limits.MECHANISM_DOMINANT * ran / limits.PARALLEL_WORKERS
    requests = [
        value for one in evidence for value, row in one.spike.rows.get("request", {}).items()
        if not value.startswith("~") and max(row.waiting_s, row.sql_us / 1e6) >= max(least, _lived(one.spike))
    ]  # fmt: skip
    came = [
        (host.mean(row.flight, one.spike.lengths) - _usual_flight(one.base, value), value)
        for one in evidence for value, row in one.spike.rows.get("endpoint", {}).items() if not value.startswith("~")
    ]  # fmt: skip
    most, endpoint = max(came, default=(0.0, None))
    mine = most >= max(limits.LONE_REQUEST, limits.MECHANISM_DOMINANT * sum(max(0.0, rise) for rise, _ in came))
    return Asking(requests[0] if len(requests) == 1 else None, endpoint if mine else None)


def _lived(spike: Stretch) -> float:
    return limits.LONE_REQUEST * spike.length


def _usual_flight(base: Stretch, endpoint: str) -> float:
    return host.mean(base.row("endpoint", endpoint).flight or [0.0] * len(base.at), base.lengths)


def mostly_of(evidence: Sequence[Evidence], dimension: str, value: str) -> tuple[str | None, float]:
    """The endpoint that ran a value most of the times that it ran more often, and its part of them (0..1)."""
    more: dict[str, float] = {}
    for one in evidence:
        before = one.base.used_by(dimension, value)
        for endpoint, now in one.spike.used_by(dimension, value).items():
            usual = before.get(endpoint, [0.0, 0.0, 0.0])
            rise = one.spike.rate(now[1] or now[0]) - one.base.rate(usual[1] or usual[0])
            more[endpoint] = more.get(endpoint, 0.0) + max(0.0, rise)
    total = sum(more.values())
    if not total:
        return None, 1.0
    most = max(more, key=lambda name: (more[name], name))
    return most, more[most] / total
