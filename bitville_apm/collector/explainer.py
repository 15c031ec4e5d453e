"""Asks the store for what a report needs, and has it explained in a thread, one report at a time."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bitville_apm.analysis.report import Report
from bitville_apm.collector.agents import Agents
from bitville_apm.http import HttpProblem
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
        raise HttpProblem(503, "windows cannot be explained yet")
