"""`twistd bitville-agent`: puts the agent's objects together; `pipelines.py` does for each key, `options.py` reads."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IListeningPort

from bitville_apm import clock, limits
from bitville_apm.agent.commands import Commands
from bitville_apm.agent.config import AgentConfig, PhpSection
from bitville_apm.agent.control import CONTROL, Control
from bitville_apm.agent.daemon import AgentService
from bitville_apm.agent.datagrams import Datagrams
from bitville_apm.agent.eyes import Eyes
from bitville_apm.agent.fpm import FpmSource
from bitville_apm.agent.handover import Handover, Holds
from bitville_apm.agent.health import Health
from bitville_apm.agent.host.host import Host
from bitville_apm.agent.inflight import InFlight
from bitville_apm.agent.inherited import Inheritance
from bitville_apm.agent.lifecycle import Lifecycle
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.looks import Looks
from bitville_apm.agent.options import Options
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.pipelines import Pipelines
from bitville_apm.agent.processes import alive
from bitville_apm.agent.report import Report
from bitville_apm.agent.socketfile import SocketFile
from bitville_apm.agent.spool import Spool
from bitville_apm.agent.vitals import Vitals
from bitville_apm.agent.worker import Worker
from bitville_apm.http import LimitedSite
from bitville_apm.interfaces import ISource


def makeService(options: Options, reactor: Any = None) -> IService:
    """The agent, ready to be started."""
    if reactor is None:
        from twisted.internet import reactor
    clock.make_steady(reactor)
    descriptors = _raise_descriptor_limit()
    settings, inherited = options.settings, options.inheritance
    pipelines = Pipelines(settings, options.policy, reactor, time.time)
    php = [_php(section, reactor, pipelines, inherited, descriptors) for section in settings.php]
    spools, readers = _spools(settings, reactor, php)
    pools = [pool for section in settings.php for pool in _pools(section, reactor, pipelines.of(section.key))]
    servers, lanes = _servers(settings, reactor, pipelines)
    # Sections above have made those they need; the host alone needs one, too.
    made = pipelines.all()
    beat, checker, looking = Worker(reactor, "heartbeat"), Worker(reactor, "check"), Worker(reactor, "looks")
    service = AgentService(
        reactor=reactor,
        pipelines=made,
        php=php,
        sources=[_looks(settings, reactor, php, made, looking, descriptors), *pools, *servers],
        spools=spools,
        workers=[*pipelines.workers, *readers, *lanes, beat, checker, looking],
        listen_health=_health_listener(settings, reactor, inherited.handed),
        health_address=str(settings.agent.health),
        state=settings.agent.state,
        now=time.time,
        inheritance=inherited,
    )
    _complete(service, options, reactor, beat, checker)
    return service


def _complete(service: AgentService, options: Options, reactor: Any, beat: Worker, checker: Worker) -> None:
    """The service's parts that ask the service itself."""
    settings = options.settings
    service.vitals = Vitals(
        settings.agent.heartbeat, beat, reactor, lambda: service.report.stalled_for, lambda: service.report.requests
    )
    service.lifecycle = _lifecycle(service, options, reactor, checker)
    service.report = Report(
        service.pipelines,
        service.php,
        service.sources,
        service.spools,
        service.vitals,
        service.lifecycle,
        reactor,
        now=time.time,
    )
    commands = Commands(service.report, service.lifecycle, service.php, service.pipelines, reactor, _boottime)
    service.control = Control(settings.agent.state / CONTROL, reactor, commands.by_name())


def _lifecycle(service: AgentService, options: Options, reactor: Any, checker: Worker) -> Lifecycle:
    """When it replaces itself, and what it takes along."""
    settings = options.settings
    return Lifecycle(
        command=options.command,
        clock=reactor,
        run=checker,
        holds=Holds(
            health=str(settings.agent.health),
            state=str(settings.agent.state),
            sockets=[address for source in service.php for address in source.addresses],
            lent={str(source.file.path): source.file.given for source in service.php if source.file.lent},
        ),
        max_requests=settings.limits.max_requests,
        min_lifetime=settings.limits.min_lifetime,
        memory_mb=settings.limits.memory_mb,
        requests=lambda: service.report.requests,
        memory=lambda: service.vitals.memory_mb,
        busy=service.busy,
        suspend=service.suspend,
        before=options.inheritance.handed,
    )


def _php(
    section: PhpSection, reactor: Any, pipelines: Pipelines, inherited: Inheritance, descriptors: int
) -> PhpSource:
    """A `[php NAME]` section's socket."""
    pipeline, flight = pipelines.of(section.key), InFlight()
    return PhpSource(
        name=section.name,
        reactor=reactor,
        file=inherited.file(section.name, section.socket, section.mode, section.group),
        pipeline=pipeline,
        boottime=_boottime,
        alive=alive,
        in_flight=flight,
        datagrams=_datagrams(section, reactor, pipeline, flight, inherited),
        descriptors=descriptors,
    )


def _spools(settings: AgentConfig, reactor: Any, php: Sequence[PhpSource]) -> tuple[list[Spool], list[Worker]]:
    """What clients of each section left behind, and the threads that read it."""
    spools: list[Spool] = []
    workers: list[Worker] = []
    for section, source in zip(settings.php, php, strict=True):
        if section.spool is not None:
            source.pipeline.spools += 1
            reading = Worker(reactor, f"spool {section.name}")
            workers.append(reading)
            spools.append(
                Spool(section.spool, section.group, source.pipeline, reading, reactor, source.in_flight.found)
            )
    return spools, workers


def _looks(
    settings: AgentConfig,
    reactor: Any,
    php: Sequence[PhpSource],
    pipelines: Sequence[Pipeline],
    looking: Worker,
    descriptors: int,
) -> Looks:
    """Looks at the processes of requests, and at the host."""
    # Half of the descriptors are for clients, a quarter for two files of each process in a request, some for others.
    eyes = Eyes(descriptors // 8, time.time, _boottime)
    host = Host(str(settings.host.proc), descriptors * 3 // 16) if settings.host.enabled else None
    return Looks(php, pipelines, eyes, looking, reactor, _boottime, host)


def _servers(settings: AgentConfig, reactor: Any, pipelines: Pipelines) -> tuple[list[ISource], list[Worker]]:
    """The `[postgres NAME]` sections and their threads; psycopg is loaded only where there are any."""
    if not settings.postgres:
        return [], []
    from bitville_apm.agent.postgres.tap import servers

    return servers(settings, reactor, pipelines.of)


def _pools(section: PhpSection, reactor: Any, pipeline: Pipeline) -> Iterator[FpmSource]:
    """The pools of a section that have a status page."""
    for n, status in enumerate(section.fpm_status, 1):
        name = f"fpm {section.name}" if n == 1 else f"fpm {section.name} {n}"
        yield FpmSource(name, status, pipeline.sealing, reactor, time.time)


def _datagrams(
    section: PhpSection, reactor: Any, pipeline: Pipeline, flight: InFlight, inherited: Inheritance
) -> Datagrams | None:
    """A section's datagram sockets, where it has any."""
    if section.datagram is None and section.udp is None:
        return None
    file = SocketFile(section.datagram, section.mode, section.group) if section.datagram else None
    before = inherited.state(section.name, section.socket)
    handed = before.datagrams if before is not None else ()
    return Datagrams(section.name, reactor, pipeline, flight.found, file, section.udp, handed)


def _health_listener(
    settings: AgentConfig, reactor: Any, handed: Handover | None
) -> Callable[[AgentService], Deferred[IListeningPort]]:
    address = settings.agent.health
    endpoint = TCP6ServerEndpoint if ":" in address.host else TCP4ServerEndpoint

    def listen(service: AgentService) -> Deferred[IListeningPort]:
        site = LimitedSite(Health(service.report.health), reactor)
        if handed is not None and handed.health >= 0:
            if handed.health_address == str(address):
                family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
                adopted: IListeningPort = reactor.adoptStreamPort(handed.health, family, site)
                os.close(handed.health)
                return succeed(adopted)
            os.close(handed.health)
        port = endpoint(reactor, address.port, interface=address.host)
        listening: Deferred[IListeningPort] = port.listen(site)  # type: ignore[no-untyped-call]
        return listening

    return listen


def _boottime() -> float:
    """Seconds on the clock that process start times are told in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _raise_descriptor_limit() -> int:
    """Let this process hold as many connections as it is meant to, where the system allows it: its files at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.DESCRIPTORS if hard == resource.RLIM_INFINITY else min(limits.DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
