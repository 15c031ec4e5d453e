"""Asks the store for what a report needs, and has it explained in a thread, one report at a time."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bitville_apm.analysis.report import Quality, Report
from bitville_apm.collector.agents import Agents
from bitville_apm.interfaces import IExplainer
from bitville_apm.store.interface import IStore, Projects


@implementer(IExplainer)
@attrs.define(eq=False)
class Explainer:
    """See `IExplainer`. `reactor` tells unix time and has threads."""

    store: IStore
    agents: Agents
    reactor: Any

    def explain(self, projects: Projects, start: float, end: float, host: str | None) -> Deferred[Report]:
        """See `IExplainer`."""
        return Deferred.fromCoroutine(self._explain(projects, start, end, host))

    async def _explain(self, projects: Projects, start: float, end: float, host: str | None) -> Report:
        return Report(
            verdict="Windows picked by hand are not explained yet",
            kind="none",
            provisional=False,
            coverage=0.0,
            unexplained=0.0,
            measure="tasks",
            onset=start,
            peak=start,
            end=end,
            level=0.0,
            baseline=0.0,
            causes=[],
            quality=Quality(frames=0, baseline_frames=0),
        )
