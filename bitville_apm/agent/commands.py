"""What `bitville agent` can ask of a running agent, by name (`control.Command`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from bitville_apm import limits
from bitville_apm.agent.control import Command, Refused
from bitville_apm.agent.lifecycle import Lifecycle, NotRestarted
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.live import live
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.report import Report


@attrs.frozen(eq=False)
class Commands:
    """`boottime` is seconds on the clock in which requests begin."""

    report: Report
    lifecycle: Lifecycle
    php: Sequence[PhpSource]
    pipelines: Sequence[Pipeline]
    reactor: IReactorTime
    boottime: Callable[[], float]

    def by_name(self) -> Mapping[str, Command]:
        """All of them."""
        return {
            "status": self._status,
            "restart": self._restart,
            "reload": self._reload,
            "reset-breaker": self._reset_breaker,
            "live": self._live,
        }

    async def _status(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.report.told()

    async def _live(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"requests": live(self.php, self.boottime())}

    async def _restart(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._restarted("bitville agent restart")

    async def _reload(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._restarted("new configuration")

    async def _restarted(self, why: str) -> Mapping[str, Any]:
        try:
            await self.lifecycle.check()
        except NotRestarted as problem:
            raise Refused(str(problem)) from None
        self.reactor.callLater(limits.RESTART_ANSWER_S, self.lifecycle.go, why)
        return {"pid": os.getpid(), "restarts": self.lifecycle.restarts}

    async def _reset_breaker(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        before = {p.name: p.forward.breaker.state for p in self.pipelines}
        for pipeline in self.pipelines:
            await pipeline.forward.reset()
        return {"before": before, "now": {p.name: p.forward.breaker.state for p in self.pipelines}}
