"""Explains a spike of one host: who caused it, how, and how sure that is. Pure; `report.py` says what comes out.

    1  measure     load, if tasks or a database's working sessions rose; else waiting, if requests in flight did
    2  level       what each value consumed (time on a CPU, and blocked), not what it waited for; when waiting: its
                   time in flight
    3  score       its part of the rise, what of it is news, and how sure (`score.py`)
    4  rules       memory, stolen CPU, full pools, locks; processes that serve are followed to who asked (`rules.py`)
    5  stories     values that links join are one (`stories.py`)
    6  mechanism   traffic, dearer, more often … (`mechanism.py`, `causes.py`)

What stories do not explain is said: `coverage` and `unexplained`.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis import causes as naming
from bitville_apm.analysis import host, mechanism, rules, score, stories, tables, views, words
from bitville_apm.analysis.loads import is_database
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.report import Cause, Factor, Measure, Mechanism, Report, Step
from bitville_apm.analysis.rises import UNITS, what_rose
from bitville_apm.analysis.score import Scored, Whole
from bitville_apm.analysis.words import Kind
from bitville_apm.cells import OTHER
from bitville_apm.records import Frame

LOAD = ("endpoint", "function", "client", "agent", "release", "request", "process", "statement")
WAITING = ("endpoint", "function", "client", "agent", "request", "statement", "external", "blocker")
DATABASE = ("statement", "blocker")


def explain(
    spike: Sequence[Frame],
    baseline: Sequence[Frame],
    *,
    onset: float,
    end: float | None,
    host: str = "",
    opened: float | None = None,
    now: float | None = None,
) -> Report:
    """Explain what rose from `baseline` to `spike`, frames of one host (late ones too), in any order.

    `onset`, `end` (None while it lasts), `opened` and `now` are unix seconds. Any window picked by hand will do.
    """
    return explained(gathered(spike, baseline), name=host, onset=onset, end=end, opened=opened, now=now)


def gathered(spike: Sequence[Frame], baseline: Sequence[Frame]) -> Evidence:
    """Both windows added up: of the baseline only what the spike's values need."""
    spiked = tables.stretch(spike)
    return Evidence(spiked, tables.stretch(baseline, score.candidates(spiked)))


def explained(
    evidence: Evidence,
    php: Sequence[Evidence] = (),
    *,
    name: str,
    onset: float,
    end: float | None,
    opened: float | None = None,
    now: float | None = None,
) -> Report:
    """`explain` of what `gathered` found. `php` are web hosts that know how often PHP asked this database."""
    kind, measure = what_rose(evidence, onset, end)
    whole, found = _scored(evidence, kind, measure)
    named = _causes(evidence, php, kind, found, whole)
    coverage = _coverage(named)
    peak, level, baseline = _peak(evidence, measure, onset)
    changed = views.changes(evidence)
    sign = rules.signs(evidence)
    alone, database = views.shares_of(evidence, whole.rise)
    return Report(
        verdict=words.verdict(kind, named, level, baseline, UNITS[measure]),
        kind=kind,
        provisional=end is None or (now is not None and now < end + limits.LATE_S),
        coverage=round(coverage, 4),
        unexplained=round(1 - coverage, 4) if kind != "none" else 0.0,
        measure=measure,
        onset=onset,
        peak=peak,
        end=end,
        opened=opened,
        level=round(level, 3),
        baseline=round(baseline, 3),
        causes=[_rounded(cause, name) for cause in named],
        victims=views.victims(evidence, {(s.dimension, s.value) for c in named for s in c.story}),
        split=[views.split(evidence, name, coverage)] if evidence.spike.at else [],
        waits=views.waits(evidence),
        changes=changed,
        ruled_out=words.ruled_out(
            kind,
            named,
            (sign.memory[1], sign.looked),
            bool(evidence.spike.rows.get("release")) and bool(evidence.base.at),
            changed,
            views.request_rates(evidence),
            (alone, kind == "load" and "process" in evidence.spike.rows),
            (database, kind == "load" and any(map(is_database, evidence.spike.rows.get("process", {})))),
        ),
        quality=views.quality(evidence),
        signature=naming.signature(named),
    )


def _scored(evidence: Evidence, kind: Kind, measure: Measure) -> tuple[Whole, list[Scored]]:
    """The values that rose, best first."""
    spike, base = evidence.spike, evidence.base
    if kind == "none" or not spike.at:
        return Whole(0.0, 0.0, 0.0), []
    if kind == "load":
        local = any(map(is_database, spike.rows.get("process", {})))
        if measure == "db":
            whole = Whole.of(host.sessions(spike), host.sessions(base), spike, base)
            found, whole = score.values(spike, base, whole, ("statement",), False, ("statement",))
        else:
            dimensions = [d for d in LOAD if d != "statement" or local]
            whole = Whole.of(host.consumed(spike), host.consumed(base), spike, base)
            found, whole = score.values(spike, base, whole, dimensions, False, host.PARTS)
            found = rules.with_database([*found, *rules.unseen(evidence, whole)], evidence, whole)
            found = rules.followed(found, evidence, whole)
        return whole, found
    if measure == "db":
        now, before = (host.parts(s, ("wait",) if "wait" in s.sums else ("statement",), True) for s in (spike, base))
        whole = Whole.of(now, before, spike, base)
        found, whole = score.values(spike, base, whole, DATABASE, True, ("statement",))
    else:
        whole = Whole.of(host.in_flight(spike), host.in_flight(base), spike, base)
        found, whole = score.values(spike, base, whole, WAITING, True, ("endpoint",))
    return whole, _locked(found, evidence, whole)


def _locked(found: list[Scored], evidence: Evidence, whole: Whole) -> list[Scored]:
    """Where most of the waiting is for locks, the holder of most of them comes first, charged with all of it."""
    locks = rules.locks_rise(evidence)
    holder = next((s for s in found if s.dimension == "blocker"), None)
    if holder is None or locks < limits.LOCKS_DOMINANT * whole.rise:
        return found
    best = max(s.score for s in found)
    charged = attrs.evolve(holder, share=min(1.0, max(holder.share, locks / whole.rise)), score=max(best, holder.score))
    return [charged, *(s for s in found if s is not holder)]


def _causes(
    evidence: Evidence, php: Sequence[Evidence], kind: Kind, found: Sequence[Scored], whole: Whole
) -> list[Cause]:
    """The stories worth telling, best first; what the host as a whole says before them."""
    if kind == "none" or not evidence.spike.at:
        return []
    waiting = kind == "waiting"
    release = _new_release(evidence)
    ranked = [s for s in found if s.share >= limits.SHARE_LEAST and s.score > 0 and not s.value.startswith("~")]
    others = [s for s in ranked if s.dimension != "release"]
    everywhere = [evidence, *php]
    tellable = [s for s in stories.told(others, everywhere) if max(m.share for m in s.members) >= limits.STORY_LEAST]
    if not tellable:
        tellable = [stories.Story([s]) for s in ranked if s.dimension == "release" and s.value == release]
    named: list[Cause] = []
    chosen: list[stories.Story] = []
    for story in tellable:
        cause = naming.cause(story, evidence, php, waiting, release)
        told = sum(c.share for c in named)
        own = cause.share - stories.shared(story, chosen, everywhere, whole.rise)
        overlaps = own < limits.STORY_LEAST or told + own > 1 + limits.STORY_OVERLAP
        if (named and overlaps) or (named and cause.score < limits.STORY_OF_BEST * named[0].score):
            continue
        named.append(cause)
        chosen.append(story)
        if len(named) == limits.STORIES:
            break
    return _of_the_host(evidence, waiting, named, whole)


def _of_the_host(evidence: Evidence, waiting: bool, named: list[Cause], whole: Whole) -> list[Cause]:
    """Put what explains everything at once before the causes: memory, a hypervisor, a full pool, traffic to all."""
    sign = rules.signs(evidence)
    if not waiting and sign.short_of_memory:
        short = _system("memory", "memory pressure", "memory pressure", 1.0, whole, named[:1])
        return [short, *named][: limits.STORIES]
    if not waiting and sign.robbed and (not named or named[0].share < limits.MECHANISM_DOMINANT):
        taken = _system("host", "CPU time taken by the hypervisor", "not php", 1.0, whole, [])
        return [taken, *named][: limits.STORIES]
    if not waiting and rules.crowded_out(evidence) and (not named or named[0].share < limits.MECHANISM_DOMINANT):
        taken = _system("host", rules.UNSEEN, "not php", 1.0, whole, [])
        return [taken, *(c for c in named if c.value != rules.UNSEEN)][: limits.STORIES]
    pool = rules.full_pool(evidence)
    if waiting and pool is not None:
        first = named[0] if named else None
        asked = {s.dimension for s in first.story} & {"statement", "external", "blocker"} if first else set()
        if first is None or not asked or first.share < limits.MECHANISM_DOMINANT:
            filled = _system("pool", pool.name, "pool", first.share if first else 1.0, whole, named[:1])
            return [filled, *named[1:]][: limits.STORIES]
    even = host.even_growth(evidence.spike, evidence.base) if not waiting else 1.0
    share = min(1.0, max(0.0, whole.baseline * (even - 1)) / whole.rise)
    alone = named[0].score if named else 0.0
    if even > limits.TRAFFIC_MORE and share >= limits.MECHANISM_DOMINANT and alone < limits.MECHANISM_DOMINANT * share:
        factors = mechanism.split(whole.level, whole.baseline, {"n": views.request_rates(evidence)})
        cause = _with_factors(_system("all", "all endpoints", "traffic", share, whole, []), factors)
        return [cause, *(c for c in named if c.score >= limits.STORY_OF_BEST)][: limits.STORIES]
    return named


def _with_factors(cause: Cause, factors: dict[str, Factor]) -> Cause:
    return Cause(**{name: getattr(cause, name) for name in Cause.__struct_fields__} | {"factors": factors})


def _system(dimension: str, value: str, label: Mechanism, share: float, whole: Whole, beside: Sequence[Cause]) -> Cause:
    steps = [Step(dimension=dimension, value=value)]
    for cause in beside:
        steps += cause.story
    return Cause(
        dimension=dimension, value=value, score=1.0, share=share, lift=None, confidence=0.9,
        level=whole.level, baseline=whole.baseline, mechanism=label, story=steps,
    )  # fmt: skip


def _new_release(evidence: Evidence) -> str | None:
    """A release that many of the spike's requests ran, and hardly any until just before it.

    Just before: a spike may need some seconds from the deployment to its onset. What was deployed earlier than that
    ran well for a while.
    """
    rows = evidence.spike.rows.get("release", {})
    total = sum(row.requests for row in rows.values())
    usual = evidence.base.sums.get("release")
    if not total or not evidence.base.at:
        return None
    since = min(evidence.spike.at) - limits.RELEASE_NEW_S
    before = [i for i, at in enumerate(evidence.base.at) if at < since][-limits.RELEASE_WINDOWS :]
    all_of_it = _flown(usual.flight, before) if usual is not None else 0.0
    for value, row in sorted(rows.items()):
        ran = _flown(evidence.base.row("release", value).flight, before)
        if value != OTHER and row.requests >= 0.3 * total and ran <= limits.RELEASE_NEW * all_of_it:
            return value
    return None


def _flown(flight: Sequence[float], windows: Sequence[int]) -> float:
    """What was in flight in some windows, in all (or in all windows, where there are none)."""
    return sum(flight[i] for i in windows) if windows and flight else sum(flight)


def _coverage(named: Sequence[Cause]) -> float:
    return min(1.0, sum(cause.share for cause in named))


def _peak(evidence: Evidence, measure: Measure, onset: float) -> tuple[float, float, float]:
    """The worst second, its level, and the level before."""
    values = evidence.spike.seconds.get(measure, [])
    before = sorted(v for _, v in evidence.base.seconds.get(measure, []))
    baseline = before[len(before) // 2] if before else 0.0
    if not values:
        return onset, 0.0, baseline
    at, level = max(values, key=lambda pair: (pair[1], -pair[0]))
    return at, level, baseline


def _rounded(cause: Cause, name: str) -> Cause:
    """With figures that a person can read, and its host."""
    fields = {field: getattr(cause, field) for field in Cause.__struct_fields__}
    for field in ("score", "share", "confidence", "level", "baseline"):
        fields[field] = round(fields[field], 4)
    fields["lift"] = None if cause.lift is None else round(cause.lift, 3)
    fields["hosts"] = [name] if name else []
    return Cause(**fields)
