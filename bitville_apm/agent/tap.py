"""`twistd bitville-agent`: options, and the only place where the agent's objects are put together."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.python import usage
from twisted.web.iweb import IPolicyForHTTPS

from bitville_apm import clock, limits
from bitville_apm.agent import handover
from bitville_apm.agent.checked import check
from bitville_apm.agent.config import AgentConfig, PhpSection, read_agent
from bitville_apm.agent.control import CONTROL, Control
from bitville_apm.agent.daemon import AgentService
from bitville_apm.agent.datagrams import Datagrams
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.eyes import Eyes
from bitville_apm.agent.forward import Forward
from bitville_apm.agent.fpm import FpmSource
from bitville_apm.agent.handover import Handover, Holds
from bitville_apm.agent.health import Health
from bitville_apm.agent.host.host import Host
from bitville_apm.agent.inflight import InFlight
from bitville_apm.agent.inherited import Inheritance, lent_sockets, unclaimed
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.lifecycle import CHECKED, Command, Lifecycle, handed_over
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.looks import Looks
from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.processes import alive
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.report import Report
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from bitville_apm.agent.spool import Spool
from bitville_apm.agent.transmitter import Transmitter, trust
from bitville_apm.agent.vitals import Vitals
from bitville_apm.agent.worker import Worker
from bitville_apm.http import LimitedSite
from bitville_apm.ini import ConfigError
from bitville_apm.interfaces import ISource


class Options(usage.Options):
    """What the command line takes."""

    synopsis = "twistd [twistd options] bitville-agent [--config FILE]"
    optParameters = [  # noqa: RUF012  # twisted's way
        ["config", "c", None, "agent.ini; without it the defaults and BITVILLE_… of the environment hold"],
    ]
    optFlags = [  # noqa: RUF012
        ["check", None, "only say whether an agent could start with this configuration, and end"],
    ]
    longdesc = (
        "Receives what PHP processes on this host tell of their requests, keeps it in a journal on disk, and "
        "forwards it to the collector."
    )
    settings: AgentConfig
    policy: IPolicyForHTTPS
    inheritance: Inheritance
    command: Command

    def postOptions(self) -> None:
        """Read the configuration, so that a mistake in it is one line and exit code 1."""
        path = Path(self["config"]) if self["config"] else None
        try:
            self.settings = read_agent(path, os.environ)
            self.policy = _policy(self.settings.collector.ca)
            if self["check"]:
                check(self.settings, os.environ)
                sys.stdout.write(f"{CHECKED} {handover.VERSION}\n")
                raise SystemExit(0)
            self.settings.agent.state.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._inherit()
        except (ConfigError, CannotListen) as error:
            raise usage.UsageError(str(error)) from None
        except OSError as error:
            raise usage.UsageError(f"state directory {error.filename}: {error.strerror}") from None

    def _inherit(self) -> None:
        """Here, because twistd goes to other directories and other processes after this."""
        twistd = self.parent if self.parent is not None else {}
        self.command = Command.of(twistd, sys.orig_argv, len(sys.argv) - 1, os.getcwd())
        self.inheritance = Inheritance(lent_sockets(os.environ), handed_over(os.environ))
        problem = unclaimed(self.inheritance.lent, [(php.name, php.socket) for php in self.settings.php])
        if problem:
            raise CannotListen(problem)


def _policy(ca: Path | None) -> IPolicyForHTTPS:
    if ca is None:
        return trust(None)
    try:
        return trust(ca.read_bytes())
    except OSError as error:
        raise ConfigError(ca, f"[collector] ca cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(ca, f"[collector] ca {error}") from None


def makeService(options: Options, reactor: Any = None) -> IService:
    """The agent, ready to be started."""
    if reactor is None:
        from twisted.internet import reactor
    clock.make_steady(reactor)
    descriptors = _raise_descriptor_limit()
    settings, inherited = options.settings, options.inheritance
    pipelines = Pipelines(options, reactor)
    sources: list[PhpSource] = []
    spools: list[Spool] = []
    workers: list[Worker] = []
    for php in settings.php:
        pipeline = pipelines.of(php.key)
        flight = InFlight()
        source = PhpSource(
            name=php.name,
            reactor=reactor,
            file=inherited.file(php.name, php.socket, php.mode, php.group),
            pipeline=pipeline,
            boottime=_boottime,
            alive=alive,
            in_flight=flight,
            datagrams=_datagrams(php, reactor, pipeline, flight, inherited),
            descriptors=descriptors,
        )
        sources.append(source)
        if php.spool is not None:
            pipeline.spools += 1
            reading = Worker(reactor, f"spool {php.name}")
            workers.append(reading)
            spools.append(Spool(php.spool, php.group, pipeline, reading, reactor, source.in_flight.found))
    pools = [pool for php in settings.php for pool in _pools(php, reactor, pipelines.of(php.key))]
    servers, lanes = _servers(settings, reactor, pipelines)
    workers += lanes
    # Sections above have made those they need; the host alone needs one, too.
    made = pipelines.all()
    beat, checker, looking = Worker(reactor, "heartbeat"), Worker(reactor, "check"), Worker(reactor, "looks")
    # Half of the descriptors are for clients, a quarter for two files of each process in a request, some for others.
    eyes = Eyes(descriptors // 8, time.time, _boottime)
    host = Host(str(settings.host.proc), descriptors * 3 // 16) if settings.host.enabled else None
    looks = Looks(sources, made, eyes, looking, reactor, _boottime, host)
    service = AgentService(
        reactor=reactor,
        pipelines=made,
        php=sources,
        sources=[looks, *pools, *servers],
        spools=spools,
        workers=[*pipelines.workers, *workers, beat, checker, looking],
        listen_health=_health_listener(settings, reactor, inherited.handed),
        health_address=str(settings.agent.health),
        state=settings.agent.state,
        now=time.time,
        inheritance=inherited,
        boottime=_boottime,
    )
    service.vitals = Vitals(
        settings.agent.heartbeat, beat, reactor, lambda: service.report.stalled_for, lambda: service.report.requests
    )
    service.lifecycle = Lifecycle(
        command=options.command,
        clock=reactor,
        run=checker,
        holds=Holds(
            health=str(settings.agent.health),
            state=str(settings.agent.state),
            sockets=[address for source in sources for address in source.addresses],
            lent={str(source.file.path): source.file.given for source in sources if source.file.lent},
        ),
        max_requests=settings.limits.max_requests,
        min_lifetime=settings.limits.min_lifetime,
        memory_mb=settings.limits.memory_mb,
        requests=lambda: service.report.requests,
        memory=lambda: service.vitals.memory_mb,
        busy=service.busy,
        suspend=service.suspend,
        before=inherited.handed,
    )
    service.report = Report(
        made, sources, service.sources, spools, service.vitals, service.lifecycle, reactor, now=time.time
    )
    service.control = Control(settings.agent.state / CONTROL, reactor, service.commands())
    return service


def _servers(settings: AgentConfig, reactor: Any, pipelines: Pipelines) -> tuple[list[ISource], list[Worker]]:
    """The `[postgres NAME]` sections and their threads; psycopg is loaded only where there are any."""
    if not settings.postgres:
        return [], []
    from bitville_apm.agent.postgres.tap import servers

    return servers(settings, reactor, pipelines.of)


def _pools(php: PhpSection, reactor: Any, pipeline: Pipeline) -> Iterator[FpmSource]:
    """The pools of a section that have a status page."""
    for n, status in enumerate(php.fpm_status, 1):
        name = f"fpm {php.name}" if n == 1 else f"fpm {php.name} {n}"
        yield FpmSource(name, status, pipeline.sealing, reactor, time.time)


def _datagrams(
    php: PhpSection, reactor: Any, pipeline: Pipeline, flight: InFlight, inherited: Inheritance
) -> Datagrams | None:
    """A section's datagram sockets, where it has any."""
    if php.datagram is None and php.udp is None:
        return None
    file = SocketFile(php.datagram, php.mode, php.group) if php.datagram else None
    before = inherited.state(php.name, php.socket)
    handed = before.datagrams if before is not None else ()
    return Datagrams(php.name, reactor, pipeline, flight.found, file, php.udp, handed)


class Pipelines:
    """One pipeline a key, made when a section asks for it; `workers` are their threads."""

    def __init__(self, options: Options, reactor: Any) -> None:
        self._options, self._reactor = options, reactor
        # One for all pipelines: they could not compute at once anyway.
        self._compute = Worker(reactor, "frames")
        self.workers = [self._compute]
        self._made: dict[str, Pipeline] = {}

    def of(self, own_key: str) -> Pipeline:
        """The one of a section with this key of its own, or (empty) of all those without."""
        key = own_key or self._options.settings.collector.key
        found = self._made.get(key)
        if found is None:
            worker = Worker(self._reactor, "journal")
            self.workers.append(worker)
            found = self._made[key] = self._pipeline(_name(own_key), key, worker)
        return found

    def all(self) -> list[Pipeline]:
        """All that were asked for, at least the one of no section."""
        if not self._made:
            self.of("")
        return list(self._made.values())

    def _pipeline(self, name: str, key: str, worker: Worker) -> Pipeline:
        options, reactor, settings = self._options, self._reactor, self._options.settings
        state, link = settings.agent.state, settings.collector
        bound = settings.limits.journal_mb * limits.MIB
        directory, fsync = state / "journal" / name, settings.limits.fsync
        journal = Journal(Disk(directory, fsync, bound, True), worker, reactor, time.time)
        frames = Journal(Disk(directory / "frames", fsync), worker, reactor, time.time)
        quarantine = Quarantine(state / "quarantine" / name)
        breaker_name = "central_listener" if name == "default" else f"central_listener-{name}"
        forward = Forward(
            journals=[Outgoing(frames, at_once=True), Outgoing(journal)],
            transmitter=Transmitter(reactor, worker, time.time, link.url, settings.agent.host, options.policy),
            quarantine=quarantine,
            run=worker,
            clock=reactor,
            now=time.time,
            read_key=_key_reader(key, link.key_file),
            state_file=state / "circuit-breaker-state" / f"{breaker_name}.state",
            flush_seconds=link.flush_seconds,
            breaker_name=breaker_name,
        )
        return Pipeline(name, journal, frames, forward, quarantine, worker, self._compute, reactor, time.time)


def _name(own_key: str) -> str:
    """A pipeline's directory: sections without a key of their own share one; a key is never in a path."""
    return f"key-{hashlib.sha256(own_key.encode()).hexdigest()[:12]}" if own_key else "default"


def _key_reader(key: str, key_file: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            return key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    return (lambda: key) if key else read


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
