"""The agent as one service: what starts and stops in which order, and what it says of itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import __version__, limits
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.socketfile import CannotListen, lock
from bitville_apm.agent.spool import Spool
from bitville_apm.agent.vitals import Vitals
from bitville_apm.agent.worker import Worker

_log = Logger()
_WORSE = ("ok", "degraded", "failing")


@attrs.define(eq=False, slots=False)
class AgentService(Service):
    """Start: sockets (before the reactor runs), journals, senders, spools. Stop: the other way round.

    `listen_health` makes the health port. Listening is all or nothing: an agent that cannot hear says why in
    one line and ends (exit code 1), so that its supervisor knows.
    """

    reactor: Any
    pipelines: Sequence[Pipeline]
    sources: Sequence[PhpSource]
    spools: Sequence[Spool]
    workers: Sequence[Worker]
    listen_health: Callable[[AgentService], Deferred[IListeningPort]]
    health_address: str
    state: Path
    now: Callable[[], float]
    vitals: Vitals = attrs.field(init=False)
    started: float = 0.0
    _health_port: IListeningPort | None = None
    _loop: LoopingCall | None = None
    _overflows: int = 0

    # --- life -----------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Take the state directory and every address; `SystemExit` when one of them cannot be had."""
        try:
            lock(self.state / "agent.lock")
            for source in self.sources:
                source.listen()
            outcome: list[IListeningPort | Failure] = []
            self.listen_health(self).addBoth(outcome.append)
            (port,) = outcome
            if isinstance(port, Failure):
                raise CannotListen(f"health {self.health_address}: {port.getErrorMessage()}")
            self._health_port = port
        except CannotListen as error:
            _log.critical("cannot listen: {error}", error=error)
            for source in self.sources:
                if source.listening:
                    source.file.path.unlink(missing_ok=True)
            raise SystemExit(1) from None

    def startService(self) -> None:
        """Say what runs, and begin."""
        Service.startService(self)
        self.started = self.reactor.seconds()
        for worker in self.workers:
            worker.start()
        _log.info(
            "Bitville APM agent {version} started: {sockets}; health {health}; "
            "at most {n} records and {mb} MiB held in memory",
            version=__version__,
            sockets=", ".join(f"{s.name} {s.file.path}" for s in self.sources),
            health=self.health_address,
            n=limits.MEMORY_RECORDS,
            mb=limits.MEMORY_BYTES // limits.MIB,
        )
        # Twisted's own handler would end the process by the signal itself, once all is stopped: exit code 0 instead.
        self.reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._terminated)
        Deferred.fromCoroutine(self._start()).addErrback(self._not_started)

    def _terminated(self, *_: object) -> None:
        self.reactor.callFromThread(self._end)

    def _end(self) -> None:
        _log.info("SIGTERM received")
        # A disk that hangs holds up the journal's thread, and with it the end: the alarm ends the process then.
        signal.alarm(limits.AGENT_STOP_S)
        if self.running:
            self.reactor.stop()

    async def _start(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.start()
        for source in self.sources:
            source.start()
        for spool in self.spools:
            spool.start()
        self.vitals.start()
        self._loop = LoopingCall(self._say)
        self._loop.clock = self.reactor
        self._loop.start(limits.STATISTICS_S, now=False)

    def _not_started(self, failure: Failure) -> None:
        _log.failure("the agent could not start", failure)
        self.reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Accept no more, answer what has begun, send what can be sent, make the rest durable."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping")
        Service.stopService(self)
        if self._loop is not None:
            self._loop.stop()
        self.vitals.stop()
        for source in self.sources:
            await source.stop_accepting()
        await self._drain()
        for spool in self.spools:
            await spool.stop()
        for source in self.sources:
            await source.stop()
        await gatherResults([Deferred.fromCoroutine(pipeline.stop()) for pipeline in self.pipelines])
        if self._health_port is not None:
            await maybeDeferred(self._health_port.stopListening)
        for worker in self.workers:
            worker.stop()
        _log.info("stopped")

    async def _drain(self) -> None:
        """Let clients finish what they are saying, 2 s at most."""
        until = self.reactor.seconds() + limits.DRAIN_S
        quiet = 0
        lines = -1
        while quiet < 2 and self.reactor.seconds() < until:
            await deferLater(self.reactor, 0.05)
            heard = sum(s.lines for s in self.sources)
            quiet = 0 if heard != lines or any(s.busy for s in self.sources) else quiet + 1
            lines = heard

    # --- what it says of itself -----------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """Records taken or refused since start."""
        return sum(p.ledger.received for p in self.pipelines)

    @property
    def stalled_for(self) -> float:
        """Seconds that the slowest journal's write in hand has taken."""
        now = self.reactor.seconds()
        return max((p.journal.stalled_for(now) for p in self.pipelines), default=0.0)

    def status(self) -> str:
        """The worst of all parts."""
        states = [p.forward.status for p in self.pipelines]
        states += [s.health()["status"] for s in self.sources]
        states += ["degraded" for s in self.spools if s.failing]
        if self.stalled_for > limits.STALLED_S:
            states.append("degraded")
        return max(states, key=_WORSE.index, default="ok")

    def snapshot(self) -> Mapping[str, Any]:
        """The body of `/health` (DAEMON-11). Limits of restarts are null: it does not restart itself."""
        first = self.pipelines[0]
        sources = {s.name: s.health() for s in self.sources}
        for spool, source in zip(self.spools, self.sources, strict=True):
            sources[source.name]["spool"] = spool.health()
        return {
            "status": self.status(),
            "timestamp": datetime.fromtimestamp(self.now(), timezone.utc).isoformat(),
            "uptime_seconds": round(self.reactor.seconds() - self.started, 1),
            "version": __version__,
            "stats": {
                "worker": {
                    "request_count": self.requests,
                    "memory_usage_mb": round(self.vitals.memory_mb, 1),
                    "memory_limit_mb": None,
                    "gc_runs": self.vitals.gc_runs,
                    "max_requests": None,
                },
                "buffer": {
                    "memory_buffer_count": sum(p.journal.memory_count for p in self.pipelines),
                    "memory_buffer_limit": limits.MEMORY_RECORDS,
                    "disk_overflow_count": sum(p.journal.disk_count for p in self.pipelines),
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

    def _say(self) -> None:
        overflows = sum(p.journal.overflows for p in self.pipelines)
        if overflows > self._overflows:
            _log.info("overflow of {n} records to disk", n=overflows - self._overflows)
            self._overflows = overflows
        _log.info(
            "statistics: {requests} requests, {mb:.1f} MB, {gc} gc runs, buffer {n}/{limit}, "
            "{disk} on disk, {overflows} overflows, circuit {circuit}",
            requests=self.requests,
            mb=self.vitals.memory_mb,
            gc=self.vitals.gc_runs,
            n=sum(p.journal.memory_count for p in self.pipelines),
            limit=limits.MEMORY_RECORDS,
            disk=sum(p.journal.disk_count for p in self.pipelines),
            overflows=overflows,
            circuit=", ".join(p.forward.breaker.state for p in self.pipelines),
        )
