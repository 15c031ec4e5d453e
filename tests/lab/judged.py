"""Judges the analysis on simulated cases: its own reports, those of parts of it, and simpler ways to rank.

Nothing of the product is switched: an ablation replaces one function of it for as long as it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import attrs
import msgspec

from bitville_apm.analysis import explain as explaining
from bitville_apm.analysis import host, score, stories
from bitville_apm.analysis.detect import MEASURES, floor
from bitville_apm.analysis.explain import gathered
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.merge import explain_hosts
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.stretch import Row
from bitville_apm.analysis.windows import chosen
from bitville_apm.cells import OTHER
from bitville_apm.records import Cells, Frame
from tests.lab import simulate
from tests.lab.classes import Value
from tests.lab.simulate import Case

DIMENSIONS = ("endpoint", "function", "client", "process", "statement", "request", "external", "blocker")
NAMED_BY_VALUES = ("all traffic", "swap", "pool")
"""Classes whose right answer is no value of a frame: a ranking of values cannot find it."""


@attrs.frozen
class Judged:
    """What was said of one case. `ways`: of each way to rank, whether its first was right."""

    name: str
    seed: int
    detected: bool
    delay: float | None
    kind: bool
    mechanisms: tuple[bool, ...]
    ways: dict[str, bool]
    three: bool
    false_spikes: int


def judge(name: str, seed: int, ablations: bool = True) -> Judged:
    """Simulate one case and ask everybody."""
    case = simulate.case(name, seed)
    assert case.truth is not None
    spikes = simulate.detected(case)
    onset, end, before, during = simulate.windows(case, spikes)
    mine = [s for s in spikes if case.start - 15 <= s.opened.at <= case.end + 20]

    def asked(change: Callable[[Frame], Frame] = lambda frame: frame) -> Report:
        return explain_hosts(
            {h: [change(f) for f in chosen(frames, [during])] for h, frames in case.frames.items()},
            {h: [change(f) for f in chosen(frames, before)] for h, frames in case.frames.items()},
            onset=onset,
            end=end,
        )

    report = asked()
    ways = {"ours": simulate.right_first(report, case.truth)}
    if ablations:
        for what, patch in ABLATIONS.items():
            with patch():
                ways[what] = simulate.right_first(asked(), case.truth)
        ways["no consumed level"] = simulate.right_first(asked(queueing), case.truth)
    evidence = [gathered(chosen(frames, [during]), chosen(frames, before)) for frames in case.frames.values()]
    right = frozenset().union(*case.truth.causes)
    for what, ranked in RANKINGS.items():
        first = ranked(evidence)
        ways[what] = first in right
    delay = min(s.told_at for s in mine) - first_above(case) if mine else None
    return Judged(
        name, seed, bool(mine), delay, report.kind in case.truth.kinds,
        tuple(simulate.mechanisms(report, case.truth)), ways, simulate.right_three(report, case.truth),
        len(spikes) - len(mine),
    )  # fmt: skip


def first_above(case: Case) -> float:
    """The first second of the spike in which a series was above the trigger's floor."""
    best = math.inf
    for name, frames in case.frames.items():
        for measure in MEASURES:
            least = floor(measure, float(case.cores[name]))
            series = [
                (f.at + i, v)
                for f in frames
                if not f.late
                for i, v in enumerate(f.seconds.get(measure, ()))
                if v is not None
            ]
            usual = sorted(v for t, v in series if t < case.start)
            if usual:
                middle = usual[len(usual) // 2]
                best = min(best, next((t for t, v in series if t >= case.start and v - middle > least), math.inf))
    return case.start if best == math.inf else best


# --- Parts of the method left out -------------------------------------------------------------------------


@contextmanager
def without_novelty() -> Iterator[None]:
    """Score by share and confidence alone."""
    own = score.judged

    def judged(*given: Any) -> score.Scored:
        found = own(*given)
        return attrs.evolve(found, score=found.share * found.confidence)

    with mock.patch.object(score, "judged", judged):
        yield


@contextmanager
def without_confidence() -> Iterator[None]:
    """Everything is as sure as everything."""
    with mock.patch.object(score, "confidence", return_value=1.0):
        yield


@contextmanager
def without_rules() -> Iterator[None]:
    """No memory, pools, locks, general traffic, and no process followed to who asked."""
    with (
        mock.patch.object(explaining, "_of_the_host", lambda evidence, waiting, named, whole: named),
        mock.patch.object(explaining, "_locked", lambda found, evidence, whole: found),
        mock.patch.object(explaining.rules, "followed", lambda found, evidence, whole: found),
    ):
        yield


@contextmanager
def without_stories() -> Iterator[None]:
    """Every value by itself."""
    with mock.patch.object(stories, "told", lambda scored, evidence: [stories.Story([s]) for s in scored]):
        yield


ABLATIONS = {
    "no novelty": without_novelty,
    "no confidence": without_confidence,
    "no system rules": without_rules,
    "no stories": without_stories,
}


def queueing(frame: Frame) -> Frame:
    """A frame in which who waits for a CPU counts as who has one: the level without what was consumed."""
    cells = {}
    for dimension, table in frame.cells.items():
        columns = dict(table.columns)
        if "queue_us" in columns:
            cpu = columns.get("cpu_us", [0] * len(table.values))
            columns["cpu_us"] = [(a or 0) + (b or 0) for a, b in zip(cpu, columns.pop("queue_us"), strict=True)]
        cells[dimension] = Cells(values=table.values, columns=columns)
    load = {name: value for name, value in frame.load.items() if name not in ("cpu", "cores")}
    return msgspec.structs.replace(frame, cells=cells, load=load)


# --- Simpler ways to rank ---------------------------------------------------------------------------------

Rows = dict[Value, tuple[float, float]]
"""(dimension, value) -> its level now, and before."""


def _levels(evidence: Sequence[Evidence], of: Callable[[Row], float], dimensions: Sequence[str] = DIMENSIONS) -> Rows:
    rows: Rows = {}
    for one in evidence:
        for dimension in dimensions:
            for value, row in one.spike.rows.get(dimension, {}).items():
                if value != OTHER and not value.startswith("~"):
                    now, before = one.spike.rate(of(row)), one.base.rate(of(one.base.row(dimension, value)))
                    held = rows.get((dimension, value), (0.0, 0.0))
                    rows[dimension, value] = held[0] + now, held[1] + before
    return rows


def _tasks(row: Row) -> float:
    return row.task_s + (row.waiting_s if not row.task_s else 0.0)


def _best(rows: Rows, by: Callable[[float, float], float]) -> Value | None:
    return max(rows, key=lambda key: (by(*rows[key]), key), default=None)


def by_total(evidence: Sequence[Evidence]) -> Value | None:
    """The value with most running and blocked task-seconds."""
    return _best(_levels(evidence, _tasks), lambda now, before: now)


def by_increase(evidence: Sequence[Evidence]) -> Value | None:
    """The value whose task-seconds rose most."""
    return _best(_levels(evidence, _tasks), lambda now, before: now - before)


def by_wall(evidence: Sequence[Evidence]) -> Value | None:
    """The value whose wall time rose most: what most tools sort by."""
    return _best(_levels(evidence, lambda row: row.wall_us / 1e6), lambda now, before: now - before)


def by_risk_ratio(evidence: Sequence[Evidence]) -> Value | None:
    """The value with at least a tenth of all whose share grew most (MacroBase)."""
    rows = _levels(evidence, _tasks)
    wholes: dict[str, list[float]] = {}
    for (dimension, _), (now, before) in rows.items():
        held = wholes.setdefault(dimension, [1e-9, 1e-9])
        held[0] += now
        held[1] += before
    heavy = {k: v for k, v in rows.items() if v[0] >= 0.1 * wholes[k[0]][0]}

    def ratio(key: Value) -> float:
        now, before = heavy[key]
        return (now / wholes[key[0]][0]) / (before / wholes[key[0]][1] + 1e-3)

    return max(heavy, key=lambda key: (ratio(key), heavy[key][0], key), default=None)


def by_adtributor(evidence: Sequence[Evidence]) -> Value | None:
    """Adtributor (NSDI'14): the dimension that surprises most, in it the value that does so and explains a tenth."""
    rows = _levels(evidence, _tasks)
    best: tuple[float, float, Value] | None = None
    for dimension in DIMENSIONS:
        mine = {k: v for k, v in rows.items() if k[0] == dimension}
        now, before = sum(v[0] for v in mine.values()) or 1e-9, sum(v[1] for v in mine.values()) or 1e-9
        if now <= before:
            continue
        found = []
        for key, (a, f) in mine.items():
            p, q = f / before, a / now
            surprise = 0.0
            if p > 0:
                surprise += 0.5 * p * math.log(2 * p / (p + q))
            if q > 0:
                surprise += 0.5 * q * math.log(2 * q / (p + q))
            if (a - f) / (now - before) >= 0.1:
                found.append((surprise, key))
        if found:
            total, (_, key) = sum(s for s, _ in found), max(found)
            weight = total * min(1.0, (now - before) / max(1e-9, host_rise(evidence)))
            if best is None or (weight, total) > best[:2]:
                best = weight, total, key
    return best[2] if best else None


def host_rise(evidence: Sequence[Evidence]) -> float:
    """What the hosts rose by in all, by what their parts consumed."""
    return sum(
        max(0.0, host.mean(host.parts(one.spike, host.PARTS), one.spike.lengths)
            - host.mean(host.parts(one.base, host.PARTS), one.base.lengths))
        for one in evidence
    )  # fmt: skip


RANKINGS: dict[str, Callable[[Sequence[Evidence]], Value | None]] = {
    "total": by_total,
    "increase": by_increase,
    "risk ratio": by_risk_ratio,
    "Adtributor": by_adtributor,
    "wall time": by_wall,
}
