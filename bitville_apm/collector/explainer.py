"""Asks the store for what a report needs, and has it explained in a thread: one report at a time, host by host.

Frames of one host are read and added up before the next one's, so that memory holds those of one only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.analysis.explain import explained, gathered
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.merge import merged
from bitville_apm.analysis.report import Quality, Report
from bitville_apm.analysis.tables import COLUMNS
from bitville_apm.analysis.windows import Window, baseline_windows, spike_window
from bitville_apm.collector.agents import Agents
from bitville_apm.collector.beside import beside
from bitville_apm.collector.silence import silent
from bitville_apm.http import HttpProblem
from bitville_apm.interfaces import IExplainer
from bitville_apm.records import Frame
from bitville_apm.store.interface import Framed, IStore, Projects

T = TypeVar("T")


@attrs.frozen
class Asked:
    """What to explain: a time of one project. `hosts` are those that rose, None for all; `own` the spike's id.

    `opened` is when the trigger fired, `end` None while it lasts; unix seconds.
    """

    project: str
    onset: float
    end: float | None
    hosts: Sequence[str] | None = None
    only: str | None = None
    """No other host than this."""
    opened: float | None = None
    own: str | None = None


@implementer(IExplainer)
@attrs.define(eq=False)
class Explainer:
    """See `IExplainer`. `reactor` tells unix time and has threads."""

    store: IStore
    agents: Agents
    reactor: Any
    explained: int = 0
    """Reports made since the start."""
    _lock: DeferredLock = attrs.field(factory=DeferredLock)

    # --- Windows picked by hand ---------------------------------------------------------------------------

    def explain(self, projects: Projects, start: float, end: float, host: str | None) -> Deferred[Report]:
        """See `IExplainer`."""
        if len(self._lock.waiting) >= limits.EXPLAINS_WAITING:
            retry = {"Retry-After": str(limits.RETRY_TROUBLE_S)}
            raise HttpProblem(503, "too many reports are being made; ask again in a moment", headers=retry)
        return Deferred.fromCoroutine(self._explain(projects, start, end, host))

    async def _explain(self, projects: Projects, start: float, end: float, host: str | None) -> Report:
        heads = await self.store.frames(projects, start, end, host, cells=False)
        found = sorted({framed.project for framed in heads})
        if not found:
            return nothing(start, end, "No agent sent anything of this time")
        if len(found) > 1:
            problem = f"one of {', '.join(found)} is wanted: a report is of one project"
            raise HttpProblem(400, f"parameter project: {problem}", [{"field": "project", "problem": problem}])
        # A window has no last second before it rose: what is before its start is what it is compared with.
        return await self.report(Asked(found[0], start, end, only=host))

    # --- Any report ---------------------------------------------------------------------------------------

    async def report(self, asked: Asked) -> Report:
        """The whole report, with what frames cannot tell. Waits for its turn; fails as the store does."""
        made: Report = await self._lock.run(lambda: Deferred.fromCoroutine(self._report(asked)))
        return made

    async def _report(self, asked: Asked) -> Report:
        now = self.reactor.seconds()
        projects = frozenset({asked.project})
        # What lasts goes up to the last frame, also of a host whose clock is ahead.
        window = spike_window(asked.onset, asked.end, now + limits.CLOCK_AHEAD_S)
        heads = await self.store.frames(
            projects, window.start - limits.BASELINE_SHORT_S, window.end, asked.only, cells=False
        )
        hosts, left_out = _chosen(heads, window, asked.hosts)
        if not hosts:
            return nothing(asked.onset, asked.end, "No agent sent anything of this time", asked.opened)
        others = await self._others(asked, now)
        evidence: dict[str, Evidence] = {}
        for host in hosts:
            spike = await self._frames(projects, window, host)
            before: list[Frame] = []
            for part in baseline_windows(asked.onset, asked.end, others):
                before += await self._frames(projects, part, host)
            evidence[host] = await self._aside(gathered, spike, before)
        made = await self._aside(_told, evidence, asked, now)
        made = _with_quality(made, heads, window, now, left_out, self._skews(asked.project))
        self.explained += 1
        return await beside(self.store, asked.project, made, now, asked.own)

    async def _frames(self, projects: Projects, window: Window, host: str) -> list[Frame]:
        framed = await self.store.frames(projects, window.start, window.end, host, columns=COLUMNS)
        return [one.frame for one in framed]

    async def _others(self, asked: Asked, now: float) -> list[tuple[float, float]]:
        """The other spikes in what it may be compared with, as (onset, end)."""
        since = asked.onset - (max(limits.BASELINE_DAYS) + 1) * 86_400
        found = await self.store.spikes(frozenset({asked.project}), since, asked.onset, None, limits.SPIKES_LEFT_OUT)
        return [(one.onset, now if one.end is None else one.end) for one in found if one.id != asked.own]

    def ahead(self, project: str, hosts: Iterable[str]) -> float:
        """How far the clocks of some hosts are ahead of ours, seconds: of several the one that is least."""
        skews = self._skews(project)
        return min((skews.get(host, 0.0) for host in hosts), default=0.0)

    def _skews(self, project: str) -> dict[str, float]:
        """Hosts whose clocks are wrong by more than `limits.SKEW_SHOWN_S`, seconds ahead."""
        skews = {agent["host"]: agent["skew_s"] for agent in self.agents.shown_to(frozenset({project}))}
        return {
            host: round(-skew, 1)
            for host, skew in skews.items()
            if host and skew is not None and abs(skew) > limits.SKEW_SHOWN_S
        }

    def _aside(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        if IReactorThreads.providedBy(self.reactor):
            return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function, *arguments)
        return succeed(function(*arguments))


def nothing(onset: float, end: float | None, verdict: str, opened: float | None = None) -> Report:
    """The report of a time of which there is no frame."""
    return Report(
        verdict=verdict, kind="none", provisional=end is None, coverage=0.0, unexplained=0.0, measure="tasks",
        onset=onset, opened=opened, peak=onset, end=end, level=0.0, baseline=0.0, causes=[],
        quality=Quality(frames=0, baseline_frames=0),
    )  # fmt: skip


def _chosen(heads: Sequence[Framed], window: Window, rose: Sequence[str] | None) -> tuple[list[str], int]:
    """The hosts to look at, those that rose first, and how many are left out."""
    there = {framed.host for framed in heads if window.has(framed.frame)}
    first = [host for host in sorted(rose or ()) if host in there]
    hosts = [*first, *sorted(there - set(first))]
    return hosts[: limits.EXPLAIN_HOSTS], max(0, len(hosts) - limits.EXPLAIN_HOSTS)


def _told(evidence: dict[str, Evidence], asked: Asked, now: float) -> Report:
    """In a thread: every host's report, as one."""
    reports = {}
    for host, own in evidence.items():
        others = [one for name, one in evidence.items() if name != host and "endpoint" in one.spike.rows]
        reports[host] = explained(
            own, others, name=host, onset=asked.onset, end=asked.end, opened=asked.opened, now=now
        )
    return merged(reports)


def _with_quality(
    report: Report, heads: Sequence[Framed], window: Window, now: float, left_out: int, skews: dict[str, float]
) -> Report:
    """The report with what is known of how the data came."""
    ats: dict[str, list[float]] = {}
    for framed in heads:
        if not framed.frame.late:
            ats.setdefault(framed.host, []).append(framed.frame.at)
    # What is on its way is not silence.
    quiet = silent(ats, window.start, min(window.end, now - limits.SILENT_S))
    notes = list(report.quality.notes)
    if left_out:
        notes.append(f"{left_out} more hosts of this project were not compared")
    known = {host: skew for host, skew in skews.items() if host in ats}
    quality = msgspec.structs.replace(report.quality, silent=quiet, clock_skew_s=known, notes=notes)
    return msgspec.structs.replace(report, quality=quality)
