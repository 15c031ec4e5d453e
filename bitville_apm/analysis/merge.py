"""One spike on several hosts as one report. Pure.

Levels of hosts add: each ran its own tasks. A host's part of a cause counts by what that host rose by, so that a
database host that rose by 30 outweighs the web hosts that waited for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitville_apm import limits
from bitville_apm.analysis import causes as naming
from bitville_apm.analysis import words
from bitville_apm.analysis.explain import explained, gathered
from bitville_apm.analysis.report import Cause, Change, Factor, Measure, Mechanism, Quality, Report, Step, Victim, Waits
from bitville_apm.analysis.rises import UNITS
from bitville_apm.analysis.stories import CHAIN
from bitville_apm.records import Frame

_MEASURES: tuple[Measure, ...] = ("tasks", "db", "in_flight")


def explain_hosts(
    spikes: Mapping[str, Sequence[Frame]],
    baselines: Mapping[str, Sequence[Frame]],
    *,
    onset: float,
    end: float | None,
    opened: float | None = None,
    now: float | None = None,
) -> Report:
    """Explain one spike from the frames of several hosts, those that did not rise included.

    Better than `merged` of single reports: how often PHP asked, a database host cannot know, and web hosts tell it.
    """
    evidence = {name: gathered(frames, baselines.get(name, ())) for name, frames in sorted(spikes.items())}
    reports = {}
    for name, own in evidence.items():
        others = [other for host, other in evidence.items() if host != name and "endpoint" in other.spike.rows]
        reports[name] = explained(own, others, name=name, onset=onset, end=end, opened=opened, now=now)
    return merged(reports)


def merged(reports: Mapping[str, Report]) -> Report:
    """One report of one spike on several hosts."""
    hosts = sorted(reports)
    if not hosts:
        raise ValueError("there is no report to merge")
    if len(hosts) == 1:
        return reports[hosts[0]]
    of = [reports[host] for host in hosts]
    kind = _kind(of)
    telling = [r for r in of if r.kind == kind]
    measure = next(m for m in _MEASURES if any(r.measure == m for r in telling))
    same = [r for r in telling if r.measure == measure]
    level, baseline = sum(r.level for r in same), sum(r.baseline for r in same)
    named = _causes(of, kind)
    coverage = min(1.0, sum(c.share for c in named))
    worst = max(same, key=lambda r: r.level - r.baseline)
    ends = [r.end for r in of]
    opened = [r.opened for r in of if r.opened is not None]
    return Report(
        verdict=words.verdict(kind, named, level, baseline, UNITS[measure]),
        kind=kind,
        provisional=any(r.provisional for r in of),
        coverage=round(coverage, 4),
        unexplained=round(1 - coverage, 4) if kind != "none" else 0.0,
        measure=measure,
        onset=min(r.onset for r in of),
        peak=worst.peak,
        end=None if any(end is None for end in ends) else max(end for end in ends if end is not None),
        opened=min(opened) if opened else None,
        level=round(level, 3),
        baseline=round(baseline, 3),
        causes=named,
        victims=_victims(of, named),
        split=[split for r in of for split in r.split],
        waits=_waits(of),
        changes=_unique([change for r in of for change in r.changes])[: limits.CHANGES],
        ruled_out=[said for said in worst.ruled_out if all(said in r.ruled_out or r.kind == "none" for r in telling)]
        or list(worst.ruled_out),
        quality=_quality(hosts, of),
        signature=naming.signature(named),
    )


def _kind(of: Sequence[Report]) -> words.Kind:
    """Load, if any host has load. But one that rose a little and knows not why does not speak for those who wait."""
    best = {kind: max((c.score for r in of if r.kind == kind for c in r.causes), default=0.0) for kind in _KINDS}
    there = [kind for kind in _KINDS if any(r.kind == kind for r in of)]
    if len(there) > 1 and best["load"] < limits.STORY_LEAST < limits.MECHANISM_DOMINANT <= best["waiting"]:
        return "waiting"
    return there[0] if there else "none"


_KINDS: tuple[words.Kind, ...] = ("load", "waiting")


def _causes(of: Sequence[Report], kind: words.Kind) -> list[Cause]:
    """Causes of all hosts: those with a value in common are one, weighed by what their host rose by."""
    if kind == "none":
        return []
    rises = {id(r): max(0.0, r.level - r.baseline) for r in of if r.kind == kind}
    whole = sum(rises.values()) or 1.0
    groups: list[tuple[list[tuple[float, Cause]], set[tuple[str, str]]]] = []
    weighed = [(rises.get(id(r), 0.0) / whole, cause) for r in of for cause in r.causes]
    for weight, cause in sorted(weighed, key=lambda pair: (-pair[0] * pair[1].score, pair[1].dimension, pair[1].value)):
        steps = {(s.dimension, s.value) for s in cause.story} | {(cause.dimension, cause.value)}
        steps = {step for step in steps if step[0] != "release" or len(steps) == 1}
        for group, known in groups:
            if known & steps or any(_driven(cause, other) or _driven(other, cause) for _, other in group):
                group.append((weight, cause))
                known |= steps
                break
        else:
            groups.append(([(weight, cause)], steps))
    found = [_joined(group) for group, _ in groups if any(weight > 0 for weight, _ in group)]
    found.sort(key=lambda c: (-c.score, c.dimension, c.value))
    best = found[0].score if found else 0.0
    return [c for c in found if c.score >= limits.STORY_OF_BEST * best][: limits.STORIES]


def _driven(cause: Cause, other: Cause) -> bool:
    """Whether one host's cause is another host's consequence, though no value is in both.

    Statements that run more often because somebody sends more requests; requests that all wait for a database in which
    somebody holds a lock.
    """
    if set(cause.hosts) & set(other.hosts):
        return False
    if cause.mechanism == "traffic" and cause.dimension == "statement":
        return other.mechanism in ("traffic", "crawler") and other.dimension != "statement"
    asks = cause.mechanism == "pool" or any(step.dimension == "statement" for step in cause.story)
    return asks and other.mechanism == "lock" and other.share >= limits.LOCKS_DOMINANT


def _joined(group: Sequence[tuple[float, Cause]]) -> Cause:
    """One cause of the same story on several hosts; the heaviest one names it."""
    first = group[0][1]
    # A host that knows only that a statement ran more is told by another which endpoint asked for it, and how; and
    # workers that are all busy are so because somebody waits for a lock.
    name = min((c for _, c in group), key=lambda c: (_depth(c, group), c is not first))
    steps = list(first.story)
    for _, cause in group[1:]:
        dimensions = {s.dimension for s in steps}
        steps += [s for s in cause.story if s.dimension not in dimensions]
    same = [(weight, c) for weight, c in group if (c.dimension, c.value) == (name.dimension, name.value)]
    seen: list[str] = []
    for _, cause in group:
        seen += [host for host in cause.hosts if host not in seen]
    # Of several causes of one host the best one counts: they are one story.
    counted: list[tuple[float, Cause]] = []
    for weight, cause in sorted(group, key=lambda pair: -pair[1].share):
        if weight > 0 and not any(set(cause.hosts) & set(other.hosts) for _, other in counted):
            counted.append((weight, cause))
    factors = name.factors
    if len(same) > 1 and all(c.factors.keys() == factors.keys() for _, c in same):
        factors = {key: _added([c.factors[key] for _, c in same], key) for key in factors}
    return Cause(
        dimension=name.dimension,
        value=name.value,
        score=round(sum(weight * c.score for weight, c in counted), 4),
        share=round(min(1.0, sum(weight * c.share for weight, c in counted)), 4),
        lift=first.lift,
        confidence=max(c.confidence for _, c in counted),
        level=round(sum(c.level for _, c in same), 4),
        baseline=round(sum(c.baseline for _, c in same), 4),
        mechanism=name.mechanism,
        factors=factors,
        story=sorted(steps, key=_place),
        hosts=seen,
    )


_DEPTH: dict[Mechanism, int] = {"lock": 0, "pool": 1, "unclear": 3}


def _depth(cause: Cause, group: Sequence[tuple[float, Cause]]) -> int:
    """Of causes that are one, the one whose mechanism is the deepest reason names it: the smallest.

    A pool that is full is the reason on its own host, and the consequence of what happens on another.
    """
    elsewhere = any(not set(cause.hosts) & set(other.hosts) for _, other in group)
    return 3 if cause.mechanism == "pool" and elsewhere else _DEPTH.get(cause.mechanism, 2)


def _place(step: Step) -> int:
    return CHAIN.index(step.dimension) if step.dimension in CHAIN else len(CHAIN)


def _added(factors: Sequence[Factor], name: str) -> Factor:
    """A factor of all hosts: requests add, what each costs is averaged by its part."""
    part = sum(f.part for f in factors)
    if name == "n":
        return Factor(before=sum(f.before for f in factors), after=sum(f.after for f in factors), part=part)
    n = len(factors)
    return Factor(before=sum(f.before for f in factors) / n, after=sum(f.after for f in factors) / n, part=part)


def _victims(of: Sequence[Report], named: Sequence[Cause]) -> list[Victim]:
    guilty = {(s.dimension, s.value) for c in named for s in c.story}
    by_value: dict[tuple[str, str], list[Victim]] = {}
    for report in of:
        for victim in report.victims:
            if (victim.dimension, victim.value) not in guilty:
                by_value.setdefault((victim.dimension, victim.value), []).append(victim)
    found = []
    for (dimension, value), held in by_value.items():
        requests = sum(v.requests for v in held)
        before = [(v.wall_ms_before, v.requests) for v in held if v.wall_ms_before is not None]
        found.append(
            Victim(
                dimension=dimension,
                value=value,
                requests=requests,
                wall_ms_before=round(sum(w * n for w, n in before) / sum(n for _, n in before), 2) if before else None,
                wall_ms=round(sum(v.wall_ms * v.requests for v in held) / requests, 2),
            )
        )
    return sorted(found, key=lambda v: (-(v.wall_ms - (v.wall_ms_before or 0)) * v.requests, v.value))[: limits.VICTIMS]


def _waits(of: Sequence[Report]) -> list[Waits]:
    sums: dict[str, list[float]] = {}
    for report in of:
        for wait in report.waits:
            held = sums.setdefault(wait.wait, [0.0, 0.0])
            held[0] += wait.level
            held[1] += wait.baseline
    found = [Waits(wait=w, level=round(a, 3), baseline=round(b, 3)) for w, (a, b) in sums.items()]
    return sorted(found, key=lambda w: (-w.level, w.wait))


def _unique(changes: Sequence[Change]) -> list[Change]:
    best: dict[tuple[str, str], Change] = {}
    for change in changes:
        key = change.dimension, change.value
        if key not in best or change.level > best[key].level:
            best[key] = change
    return sorted(best.values(), key=lambda c: (c.dimension != "release", -c.level, c.value))


def _quality(hosts: Sequence[str], of: Sequence[Report]) -> Quality:
    notes = []
    for host, report in zip(hosts, of, strict=True):
        notes += [f"{host}: {note}" for note in report.quality.notes]
    return Quality(
        frames=sum(r.quality.frames for r in of),
        baseline_frames=sum(r.quality.baseline_frames for r in of),
        lost_looks=round(sum(r.quality.lost_looks for r in of), 1),
        silent=sorted({host for r in of for host in r.quality.silent}),
        clock_skew_s={host: s for r in of for host, s in r.quality.clock_skew_s.items()},
        notes=notes,
    )
