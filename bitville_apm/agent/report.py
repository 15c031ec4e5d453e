"""What the agent says of itself: to `/health`, to `bitville agent status`, and to its log once a minute.

Numbers that are in memory anyway: no file, no waiting, whatever the disk and the collector do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from bitville_apm import __version__, limits
from bitville_apm.agent.lifecycle import Lifecycle
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.spool import Spool
from bitville_apm.agent.vitals import Vitals
from bitville_apm.interfaces import ISource

_log = Logger()
_WORSE = ("ok", "degraded", "failing")


@attrs.define(eq=False)
class Report:
    """`now` is unix seconds, `clock` monotonic.

    `started` is when this process began, by that clock; `waited` how long clients waited for it, seconds.
    """

    pipelines: Sequence[Pipeline]
    php: Sequence[PhpSource]
    sources: Sequence[ISource]
    spools: Sequence[Spool]
    vitals: Vitals
    lifecycle: Lifecycle
    clock: IReactorTime
    now: Callable[[], float]
    started: float = 0.0
    waited: float = 0.0
    _overflows: int = 0

    @property
    def requests(self) -> int:
        """Records taken or refused since start."""
        return sum(p.ledger.received for p in self.pipelines)

    def troubles(self) -> Iterator[tuple[str, str]]:
        """What is not as it should be: how bad it is, and what it is."""
        for pipeline in self.pipelines:
            forward = pipeline.forward
            if forward.status != "ok":
                yield forward.status, f"pipeline {pipeline.name}: {_trouble(pipeline)}"
            if pipeline.unbalanced:
                yield "degraded", f"pipeline {pipeline.name}: its ledger does not add up: {dict(pipeline.unbalanced)}"
        for source in self.php:
            status = source.health()["status"]
            if status != "ok":
                what = "does not listen" if not source.listening else "reads no more until the disk has caught up"
                yield status, f"php {source.name}: {what}"
        for other in self.sources:
            told = other.health()
            if told["status"] != "ok":
                yield told["status"], f"{other.name}: {told.get('why', 'does not work')}"
        for spool in self.spools:
            if spool.failing:
                yield "degraded", f"spool {spool.directory}: {spool.failing}"
        if self.stalled_for > limits.STALLED_S:
            yield "degraded", f"the journal's disk has not answered for {self.stalled_for:.0f} s"

    @property
    def stalled_for(self) -> float:
        """Seconds that the slowest journal's write in hand has taken."""
        now = self.clock.seconds()
        return max((p.journal.appends.stalled_for(now) for p in self.pipelines), default=0.0)

    def status(self) -> str:
        """The worst of all parts."""
        return max((bad for bad, _ in self.troubles()), key=_WORSE.index, default="ok")

    def health(self) -> Mapping[str, Any]:
        """The body of `/health` (DAEMON-11)."""
        first = self.pipelines[0]
        sources: dict[str, dict[str, Any]] = {s.name: s.health() for s in self.php}
        for spool, php in zip(self.spools, self.php, strict=True):
            sources[php.name]["spool"] = spool.health()
        sources.update((other.name, dict(other.health())) for other in self.sources)
        return {
            "status": self.status(),
            "timestamp": datetime.fromtimestamp(self.now(), timezone.utc).isoformat(),
            "uptime_seconds": self._uptime(),
            "version": __version__,
            "stats": {
                "worker": {
                    "request_count": self.requests,
                    "memory_usage_mb": round(self.vitals.memory_mb, 1),
                    "memory_limit_mb": self.lifecycle.memory_mb,
                    "gc_runs": self.vitals.gc_runs,
                    "max_requests": self.lifecycle.max_requests,
                    "restarts": self.lifecycle.restarts,
                },
                "buffer": {
                    "memory_buffer_count": sum(p.journal.backlog.memory_count for p in self.pipelines),
                    "memory_buffer_limit": limits.MEMORY_RECORDS,
                    "disk_overflow_count": sum(p.journal.backlog.disk_count for p in self.pipelines),
                    "disk_buffer_path": str(first.journal.disk.directory.parent),
                    "disk_file_count": sum(p.journal.segments for p in self.pipelines),
                },
                "circuit_breaker": {
                    **first.forward.statistics(),
                    "by_pipeline": {p.name: p.forward.breaker.state for p in self.pipelines},
                },
                "ledger": {p.name: p.numbers() for p in self.pipelines},
                "sources": sources,
            },
        }

    def told(self) -> Mapping[str, Any]:
        """For the one who runs it, who may know more than `/health` tells everybody on the machine."""
        before = self.lifecycle.before
        health = dict(self.health())
        return {
            **health,
            "pid": os.getpid(),
            "why": [what for _, what in self.troubles()],
            "transmitters": {p.name: p.forward.told() for p in self.pipelines},
            "sockets": {s.name: {"path": str(s.file.path), "held_by_supervisor": s.file.lent} for s in self.php},
            "last_restart": None
            if before is None
            else {"at": before.at, "because": before.why, "clients_waited_s": round(self.waited, 3)},
        }

    def say(self) -> None:
        """The log's line of a minute (DAEMON-14)."""
        overflows = sum(p.journal.backlog.overflows for p in self.pipelines)
        if overflows > self._overflows:
            _log.info("overflow of {n} records to disk", n=overflows - self._overflows)
            self._overflows = overflows
        _log.info(
            "statistics: {requests} requests, {mb:.1f} MB, {gc} gc runs, buffer {n}/{limit}, "
            "{disk} on disk, {overflows} overflows, circuit {circuit}",
            requests=self.requests,
            mb=self.vitals.memory_mb,
            gc=self.vitals.gc_runs,
            n=sum(p.journal.backlog.memory_count for p in self.pipelines),
            limit=limits.MEMORY_RECORDS,
            disk=sum(p.journal.backlog.disk_count for p in self.pipelines),
            overflows=overflows,
            circuit=", ".join(p.forward.breaker.state for p in self.pipelines),
        )

    def _uptime(self) -> float:
        return round(self.clock.seconds() - self.started, 1)


def _trouble(pipeline: Pipeline) -> str:
    forward = pipeline.forward
    if forward.held:
        return f"the collector refuses its key: {forward.held}"
    if forward.keyless:
        return "there is no key yet, nothing is sent"
    if pipeline.journal.failing:
        return f"journal: {pipeline.journal.failing}"
    return f"{forward.breaker.failure_count} sendings failed in a row, circuit {forward.breaker.state}"
