"""How much of a rise each value explains, and how sure that is. Pure.

    power       (a - f) / rise, at most 1: its part of the rise; a and f are its levels now and before
    novelty     1 - (what all others grew by) / (what it grew by): where everything grows alike nothing is news
    confidence  z²/(z² + 9), z = (a - f) over its own deviation from window to window
    score       power · novelty · confidence, and a little for what is nearer to the reason

The rise is that of the host, or all that significant values rose by where that is more: on a host whose CPUs were
busy before, an intruder takes from others what the host cannot give.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis import host
from bitville_apm.analysis.stretch import Stretch
from bitville_apm.cells import OTHER

TIES = {"blocker": 0.05, "request": 0.04, "statement": 0.02, "client": 0.015, "function": 0.01}
"""Of values that explain the same, the one nearest to the reason comes first."""


@attrs.frozen
class Whole:
    """What is explained: the host's level now and before, and the rise that parts are measured by."""

    level: float
    baseline: float
    rise: float

    @classmethod
    def of(cls, now: Sequence[float], before: Sequence[float], spike: Stretch, base: Stretch) -> Whole:
        """From the levels of all windows."""
        level, baseline = host.mean(now, spike.lengths), host.mean(before, base.lengths)
        least = max(limits.RISE_LEAST, limits.RISE_LEAST_SHARE * level)
        return cls(level, baseline, max(level - baseline, least))


@attrs.frozen
class Scored:
    """One value. `level` and `baseline` are load units, `share` its part of the rise (0..1); `lift` None: it is new."""

    dimension: str
    value: str
    level: float
    baseline: float
    share: float
    lift: float | None
    novelty: float
    confidence: float
    score: float

    @property
    def rise(self) -> float:
        """What it rose by, load units."""
        return self.level - self.baseline


def values(
    spike: Stretch, base: Stretch, whole: Whole, dimensions: Sequence[str], flight: bool, partition: Sequence[str]
) -> tuple[list[Scored], Whole]:
    """Every value that rose, best score first, and the whole they are measured by.

    `flight`: by time in flight instead of what was consumed. `partition`: the dimensions that divide the whole.
    """
    found = []
    told = host.told_of_functions(spike, base) if "function" in dimensions and not flight else 1.0
    for dimension in dimensions:
        for value, row in spike.rows.get(dimension, {}).items():
            if value == OTHER:
                continue
            before = base.row(dimension, value)
            a = host.mean(row.flight if flight else row.consumed, spike.lengths)
            scale = 1.0
            if dimension == "function" and told > 1 and a > 0:
                scale = max(1.0, min(told, _users(spike, value) / a))
            a *= scale
            levels = (before.flight if flight else before.consumed) or [0.0] * len(base.at)
            f = scale * host.mean(levels, base.lengths)
            if a > f:
                deviation = scale * host.deviation(levels)
                found.append((dimension, value, a, f, deviation))
    certain = sum(
        a - f
        for dimension, _, a, f, deviation in found
        if dimension in partition and confidence(a, f, deviation, spike, base, whole) > 0.5
    )
    whole = attrs.evolve(whole, rise=max(whole.rise, certain))
    scored = [judged(d, v, a, f, deviation, spike, base, whole) for d, v, a, f, deviation in found]
    return sorted(scored, key=lambda s: (-s.score, s.dimension, s.value)), whole


def _users(spike: Stretch, function: str) -> float:
    """What the endpoints that run a function consume: it cannot have been more."""
    names = sorted(spike.used_by("function", function))
    return sum(host.mean(spike.row("endpoint", name).consumed, spike.lengths) for name in names)


def judged(
    dimension: str, value: str, a: float, f: float, deviation: float, spike: Stretch, base: Stretch, whole: Whole
) -> Scored:
    """One value judged; `deviation` is that of its baseline from window to window."""
    share = min(1.0, max(0.0, a - f) / whole.rise)
    lift = None
    novelty = 1.0
    if f > limits.LEVEL_LEAST and whole.level > 0 and whole.baseline > 0:
        lift = (a / whole.level) / (f / whole.baseline)
        least = limits.REST_LEAST * whole.baseline
        rest = (max(0.0, whole.level - a) + least) / (max(0.0, whole.baseline - f) + least)
        novelty = max(0.0, 1 - rest * f / a) if a > 0 else 0.0
    sure = confidence(a, f, deviation, spike, base, whole)
    score = share * novelty * sure
    return Scored(dimension, value, a, f, share, lift, novelty, sure, score + TIES.get(dimension, 0.0) * score)


def confidence(a: float, f: float, deviation: float, spike: Stretch, base: Stretch, whole: Whole) -> float:
    """How sure it is that a value rose, 0 to 1."""
    n, m = max(1, len(spike.at)), max(1, len(base.at))
    noise = deviation**2 * (1 / n + 1 / m) + (limits.NOISE_OF_RISE * whole.rise) ** 2
    z2 = (a - f) ** 2 / noise if noise > 0 else 0.0
    return z2 / (z2 + limits.Z2_HALF)


def candidates(spike: Stretch) -> dict[str, set[str]]:
    """The values of a spike that its baseline has to be asked for: the heaviest of each dimension."""
    wanted: dict[str, set[str]] = {}
    for dimension, rows in spike.rows.items():
        names = sorted(value for value in rows if value != OTHER)
        if len(names) > 2 * limits.CANDIDATES:
            held = [rows[name] for name in names]
            ways = (
                [row.cpu_us / 1e6 + row.blocked_s for row in held],
                [sum(row.flight) for row in held],
                [row.requests for row in held],
            )
            names = [names[i] for way in ways for i in _largest(way, limits.CANDIDATES)]
        wanted[dimension] = set(names)
    return wanted


def _largest(weights: Sequence[float], n: int) -> list[int]:
    """Where the n largest are."""
    return sorted(range(len(weights)), key=weights.__getitem__, reverse=True)[:n]
