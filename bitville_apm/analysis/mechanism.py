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

    What a statement takes is told by PHP when the request ends. Before that it is of the endpoint that most of what
    came to wait is for, and the request's which alone was in flight through most of the spike, if that endpoint had not
    many more of them. A request has waited for what the statement ran, or a few times less: several processes may work
    for it.
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
    lone = requests[0] if len(requests) == 1 else None
    if lone is not None and mine and limits.LONE_REQUEST * most > _flown(evidence, lone):
        lone = None  # the one that came first of many
    return Asking(lone, endpoint if mine else None)


def as_called(evidence: Sequence[Evidence], scored: Scored, endpoint: str) -> dict[str, Factor]:
    """n, q and c of a statement that hardly any request has finished, by how often its server ran it.

    n are the requests of the endpoint that asks, arrived. What runs now has been called, too; what a server did not
    tell of before, because it was cheap, PHP did. Empty where no server counts.
    """
    counts = [(host.calls(one.base, scored.value), host.calls(one.spike, scored.value), one) for one in evidence]
    told = [(before, now, one) for before, now, one in counts if before is not None and now is not None]
    came = [arrivals(one.spike, one.base, "endpoint", endpoint) for one in evidence if _has(one, endpoint)]
    if not told or not came:
        return {}
    asked = sum(one.base.rate(executed(one.base.row("statement", scored.value))) for one in evidence)
    before = max(asked, sum((calls + 0.5) / max(one.base.length, 1.0) for calls, _, one in told))
    now = sum(
        (calls + sum(one.spike.row("statement", scored.value).flight[-1:]) + 0.5) / max(one.spike.length, 1.0)
        for _, calls, one in told
    )
    n = sum(usual for usual, _ in came), sum(during for _, during in came)
    return split(scored.level, scored.baseline, {"n": n, "q": (before / n[0], now / n[1])})


def _has(evidence: Evidence, endpoint: str) -> bool:
    return endpoint in evidence.spike.rows.get("endpoint", {})


def beyond_php(evidence: Sequence[Evidence], statement: str) -> bool:
    """Whether most of what a statement's sessions did cannot have been for PHP.

    No request that ended has told of it, and those that have not were there for less time than its sessions, several
    of which may work for one request. Where nobody looks at PHP's requests, or none of what else the sessions run is
    PHP's, there may be others that ask: then it is not said.
    """
    if any(part.row("statement", statement).requests for one in evidence for part in (one.spike, one.base)):
        return False
    asked = {
        value for one in evidence for part in (one.spike, one.base)
        for value, row in part.rows.get("statement", {}).items() if row.requests and not value.startswith("~")
    }  # fmt: skip
    seen = any(_session_s(part.row("statement", value)) for one in evidence for part in (one.spike, one.base)
               for value in asked)  # fmt: skip
    flown = [_unended(one) for one in evidence if one.spike.seconds.get("in_flight") and one.base.at]
    ran = sum(_session_s(one.spike.row("statement", statement)) for one in evidence)
    if _untold(evidence) > limits.MECHANISM_DOMINANT:
        return False
    return seen and bool(flown) and limits.PARALLEL_WORKERS * sum(flown) < limits.MECHANISM_DOMINANT * ran


def _untold(evidence: Sequence[Evidence]) -> float:
    """The part of the time that requests which ended waited for statements of which they do not tell the text."""
    waited, told = (
        sum(one.spike.sums[dimension].sql_us for one in evidence if dimension in one.spike.sums)
        for dimension in ("endpoint", "statement")
    )
    return 1 - min(1.0, told / waited) if waited else 0.0


def _session_s(row: Row) -> float:
    return row.cpu_us / 1e6 + row.blocked_s + row.waiting_s


def _unended(evidence: Evidence) -> float:
    """Seconds that requests which are still in flight at the end can have been there, at most."""
    counts = [n for _, n in evidence.spike.seconds["in_flight"]]
    still = max(counts[-limits.STILL_S :])
    return sum(min(n, still) for n in counts)


def _flown(evidence: Sequence[Evidence], request: str) -> float:
    return sum(host.mean(one.spike.row("request", request).flight or [0.0], one.spike.lengths or [1.0])
               for one in evidence if request in one.spike.rows.get("request", {}))  # fmt: skip


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
