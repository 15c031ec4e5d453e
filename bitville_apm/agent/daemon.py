"""The agent as one service: what starts and stops in which order, and how it comes to rest for another process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import __version__, limits
from bitville_apm.agent.control import Control
from bitville_apm.agent.handover import Handover
from bitville_apm.agent.inherited import Inheritance
from bitville_apm.agent.lifecycle import Lifecycle
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.report import Report
from bitville_apm.agent.socketfile import CannotListen, lock
from bitville_apm.agent.spool import Spool
from bitville_apm.agent.vitals import Vitals
from bitville_apm.agent.worker import Worker
from bitville_apm.ini import unusable
from bitville_apm.interfaces import ISource

_log = Logger()


@attrs.define(eq=False, slots=False)
class AgentService(Service):
    """Start: sockets (before the reactor runs), journals, senders, spools. Stop: the other way round.

    `php` are the sockets, `sources` what else tells frames something. `listen_health` makes the health port.
    Listening is all or nothing: an agent that cannot hear says why in one line and ends (exit code 1), so that its
    supervisor knows.
    """

    reactor: Any
    pipelines: Sequence[Pipeline]
    php: Sequence[PhpSource]
    sources: Sequence[ISource]
    spools: Sequence[Spool]
    workers: Sequence[Worker]
    listen_health: Callable[[AgentService], Deferred[IListeningPort]]
    health_address: str
    state: Path
    now: Callable[[], float]
    inheritance: Inheritance
    vitals: Vitals = attrs.field(init=False)
    lifecycle: Lifecycle = attrs.field(init=False)
    report: Report = attrs.field(init=False)
    control: Control = attrs.field(init=False)
    _lock: int = -1
    _health_port: Any = None
    _loop: LoopingCall | None = None
    _started: bool = False
    _suspending: bool = False
    _ended: bool = False

    # --- start ----------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Take the state directory and every address; `SystemExit` when one of them cannot be had."""
        try:
            self._lock = self._locked()
            for source in self.php:
                source.listen()
                if source.file.inherited >= 0:
                    source.file.open_up()
            outcome: list[IListeningPort | Failure] = []
            self.listen_health(self).addBoth(outcome.append)
            (port,) = outcome
            if isinstance(port, Failure):
                error = port.value
                why = error.socketError if isinstance(error, CannotListenError) else OSError(str(error))
                raise CannotListen(f"health {unusable(self.health_address, why)}")
            self._health_port = port
            self.control.listen()
        except CannotListen as error:
            _log.critical("cannot listen: {error}", error=error)
            for source in self.php:
                if source.listening:
                    source.file.remove()
            raise SystemExit(1) from None

    def _locked(self) -> int:
        handed = self.inheritance.handed
        descriptor = -1 if handed is None else handed.locks.get(str(self.state), -1)
        return descriptor if descriptor >= 0 else lock(self.state / "agent.lock")

    def startService(self) -> None:
        """Say what runs, and begin."""
        if self._health_port is None:
            # `twist`, unlike `twistd`, has no privileges to drop and does not ask for this.
            self.privilegedStartService()
        Service.startService(self)
        self.report.started = self.reactor.seconds()
        for worker in self.workers:
            worker.start()
        _log.info(
            "Bitville APM agent {version} started: {sockets}; health {health}; "
            "at most {n} records and {mb} MiB held in memory; restart after {requests} requests or above {memory} MB",
            version=__version__,
            sockets=", ".join(f"{s.name} {' '.join(s.addresses)}" for s in self.php) or "no PHP socket",
            health=self.health_address,
            n=limits.MEMORY_RECORDS,
            mb=limits.MEMORY_BYTES // limits.MIB,
            requests=self.lifecycle.max_requests,
            memory=self.lifecycle.memory_mb,
        )
        if self.inheritance.handed is not None:
            self._take_up(self.inheritance.handed)
        self.reactor.callWhenRunning(self._running)
        Deferred.fromCoroutine(self._start()).addErrback(self._not_started)

    def _take_up(self, handed: Handover) -> None:
        """Go on with what the process before left."""
        for source in self.php:
            state = self.inheritance.state(source.name, source.file.path)
            if state is not None:
                source.resume(state)
        self.inheritance.close((source.name, source.file.path) for source in self.php)

    def _running(self) -> None:
        # Twisted's own handler would end the process by the signal itself, once all is stopped: exit code 0 instead.
        signal.signal(signal.SIGTERM, lambda *_: self.reactor.callFromThread(self._end))
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self._reload))
        self.lifecycle.took_over()
        handed = self.inheritance.handed
        if handed is not None:
            self.report.waited = self.reactor.seconds() - handed.since
            _log.info(
                "restarted because of {why}: {n} connections taken over, clients waited {s:.2f} s",
                why=handed.why,
                n=sum(len(state.held) for state in handed.sources),
                s=self.report.waited,
            )

    async def _start(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.start()
        for source in self.php:
            source.start()
        for spool in self.spools:
            spool.start()
        for other in self.sources:
            other.start()
        self.vitals.start()
        self.lifecycle.start()
        self._loop = LoopingCall(self.report.say)
        self._loop.clock = self.reactor
        self._loop.start(limits.STATISTICS_S, now=False)
        self._started = True

    def _not_started(self, failure: Failure) -> None:
        _log.failure("the agent could not start", failure)
        self.reactor.stop()

    # --- stop -----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        _log.info("SIGTERM received")
        # A disk that hangs holds up the journal's thread, and with it the end: the alarm ends the process then.
        signal.alarm(limits.AGENT_STOP_S)
        self._ended = True
        if self.running and not self._suspending:
            self.reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Accept no more, answer what has begun, send what can be sent, make the rest durable."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping")
        Service.stopService(self)
        await self.control.stop()
        if not self._suspending:
            self._stop_loops()
            self.vitals.stop()
            for source in self.php:
                await source.stop_accepting()
            await self._drain()
            for spool in self.spools:
                await spool.stop()
            for source in self.php:
                await source.stop()
            await gatherResults([other.stop() for other in self.sources])
            await gatherResults([Deferred.fromCoroutine(pipeline.stop()) for pipeline in self.pipelines])
            for worker in self.workers:
                worker.stop()
        if self._health_port is not None:
            await maybeDeferred(self._health_port.stopListening)
        _log.info("stopped")

    def _stop_loops(self) -> None:
        self.lifecycle.stop()
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    async def _drain(self) -> None:
        """Let clients finish what they are saying, 2 s at most."""
        until = self.reactor.seconds() + limits.DRAIN_S
        quiet = 0
        lines = -1
        while quiet < 2 and self.reactor.seconds() < until:
            await deferLater(self.reactor, 0.05)
            heard = sum(s.lines for s in self.php)
            quiet = 0 if heard != lines or any(s.busy for s in self.php) else quiet + 1
            lines = heard

    # --- restart --------------------------------------------------------------------------------------------

    def busy(self) -> str:
        """Why this is no moment for a restart; empty when it is one."""
        if not self._started:
            return "the agent is still starting"
        if self.report.stalled_for > limits.STALLED_S:
            return "the journal's disk does not answer"
        failing = [p.journal.failing for p in self.pipelines if p.journal.failing]
        if failing:
            return f"the journal's disk refuses: {failing[0]}"
        return "the agent is stopping" if self._ended else ""

    async def suspend(self, why: str) -> Handover | None:
        """Come to rest: nothing is lost, nobody is refused, clients wait. None when the agent was told to end."""
        if self._ended:
            return None
        self._suspending = True
        self._stop_loops()
        for spool in self.spools:
            await spool.stop()
        await gatherResults([Deferred.fromCoroutine(p.forward.pause()) for p in self.pipelines])
        syncing = [Deferred.fromCoroutine(p.journal.sync()) for p in self.pipelines]
        await gatherResults([d.addErrback(lambda failure: failure.trap(OSError)) for d in syncing])
        await gatherResults([other.stop() for other in self.sources])
        # From here on clients wait.
        since = self.reactor.seconds()
        states = await gatherResults([source.suspend() for source in self.php])
        await gatherResults([Deferred.fromCoroutine(p.close()) for p in self.pipelines])
        self.vitals.stop()
        for worker in self.workers:
            worker.stop()
        if self._ended:
            for source in self.php:
                source.file.remove()
            self.reactor.stop()
            return None
        for state in states:
            with socket.socket(fileno=os.dup(state.listening)) as listening:
                listening.listen(limits.RESTART_BACKLOG)
        locks = {str(source.file.path): source.file.held for source in self.php if source.file.held >= 0}
        return Handover(
            why=why,
            restarts=self.lifecycle.restarts + 1,
            at=self.now(),
            since=since,
            sources=states,
            locks={**locks, str(self.state): self._lock},
            lent={str(source.file.path): source.file.given for source in self.php if source.file.lent},
            health=os.dup(self._health_port.fileno()),
            health_address=self.health_address,
        )

    def _reload(self) -> None:
        _log.info("SIGHUP received")
        self.lifecycle.begin("new configuration")
