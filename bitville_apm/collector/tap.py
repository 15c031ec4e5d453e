"""`twistd bitville-collector`: reads the configuration, wires store, keys, routes and pages, and listens."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from OpenSSL import SSL
from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from bitville_apm import __version__, limits
from bitville_apm.clock import WallClock, make_steady
from bitville_apm.collector.agents import Agents
from bitville_apm.collector.alerts import Alerts
from bitville_apm.collector.app import App
from bitville_apm.collector.auth import Auth
from bitville_apm.collector.cleanup import Cleanup
from bitville_apm.collector.config import CollectorConfig, CollectorSection, read_collector
from bitville_apm.collector.datagrams import Datagrams
from bitville_apm.collector.explainer import Explainer
from bitville_apm.collector.first import ensure_local_key, ensure_way_in
from bitville_apm.collector.gate import Gate
from bitville_apm.collector.graylog.service import Graylog
from bitville_apm.collector.graylog.wiring import graylog_of, ways_of
from bitville_apm.collector.ingest import Ingest
from bitville_apm.collector.nightly import Nightly, spread_of
from bitville_apm.collector.spikes import Spikes
from bitville_apm.garbage import Garbage
from bitville_apm.http import LimitedSite
from bitville_apm.ini import ConfigError, unusable
from bitville_apm.peers import Peers
from bitville_apm.rates import Rates
from bitville_apm.store.sqlite import SqliteStore
from bitville_apm.store.sqlite.files import StoreError
from bitville_apm.web.app import resource

T = TypeVar("T")
_log = Logger()
_M_MMAP_THRESHOLD = -3


class CannotStart(Exception):
    """What a person must mend before the collector can start: one line."""


class Options(usage.Options):
    """The command line."""

    synopsis = "[--config collector.ini]"
    optParameters = [["config", "c", None, "The configuration file; without it every setting has its default."]]  # noqa: RUF012

    def postOptions(self) -> None:
        """Read the configuration: what is wrong with it is one line."""
        path = self["config"]
        try:
            self["read"] = read_collector(Path(path) if path else None, os.environ)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: Options, reactor: Any = None) -> service.IService:
    """The collector as a service, on the process's reactor if no other is given."""
    if reactor is None:
        from twisted.internet import reactor

        make_steady(reactor)
    return Collector(options["read"], reactor)


@attrs.define(eq=False, slots=False)
class Collector(service.Service):
    """The running collector."""

    config: CollectorConfig
    reactor: Any
    _store: SqliteStore | None = None
    _ingest: Ingest | None = None
    _cleanup: Cleanup | None = None
    _spikes: Spikes | None = None
    _nightly: Nightly | None = None
    _alerts: Alerts | None = None
    _graylog: Graylog | None = None
    _port: Any = None
    _udp: Any = None
    _datagrams: Datagrams | None = None
    _garbage: Garbage = attrs.field(factory=Garbage)
    _collecting: LoopingCall | None = None

    def startService(self) -> None:
        """Open, listen, and say so. What keeps it from doing that ends the process with one line."""
        super().startService()  # type: ignore[no-untyped-call]
        _return_large_blocks()
        section = self.config.collector
        try:
            _make_directory(section.data)
            clock: Any = WallClock(self.reactor)
            self._store = store = SqliteStore.open(
                section.data, clock, self.config.retention.days, self.config.retention.gigabytes
            )
            now = clock.seconds()
            ensure_local_key(store.keyring.main, section.data / "local.key", now)
            auth = Auth(store.keyring, clock, self.config.keys)
            agents, rates = Agents(), Rates()
            explainer = Explainer(store, agents, clock)
            ways = _with_ca("graylog", ways_of, self.config.graylog, self.reactor)
            self._alerts = alerts = _with_ca("alerts", Alerts.of, self.config.alerts, section.base_url, clock, ways)
            self._spikes = spikes = Spikes(store, explainer, clock, alerts.tell)
            self._ingest = ingest = Ingest(store, auth, agents, clock, rates, spikes.saw)
            self._cleanup = cleanup = Cleanup(store, clock, self.config.retention.days)
            self._nightly = nightly = Nightly(store, clock, spread_of(section.data))
            self._graylog = graylog = _with_ca(
                "graylog", graylog_of, self.config.graylog, store.feed, section.data, self.reactor, clock.seconds
            )
            app = App(
                store, store.keyring, auth, ingest, cleanup, self._udp_state, agents, spikes, nightly, alerts,
                graylog, self._garbage, clock, section.data, environment_keys=len(self.config.keys), started=now,
            )  # fmt: skip
            peers = Peers(section.allow, section.trusted_proxies)
            gate = Gate(app.resource(resource(store, auth, clock, explainer)), peers, rates, self.reactor)
            self._port = self._listen(section, LimitedSite(gate, self.reactor, peers=peers))
            if section.udp is not None:
                self._datagrams = Datagrams(ingest, auth.by_signature, peers, clock.seconds)
                self._udp = self.reactor.listenUDP(
                    section.udp.port, self._datagrams, section.udp.host, maxPacketSize=limits.DATAGRAM_BYTES
                )
            listens = attrs.evolve(section.listen, port=self._port.getHost().port)
            base_url = attrs.evolve(section, listen=listens).base_url
            alerts.base_url = self.config.alerts.base_url or base_url
            for work in (ingest, cleanup, alerts, spikes, nightly):
                work.start()
            if graylog is not None:
                graylog.start()
            self._collect_garbage(clock)
            url = ensure_way_in(store.keyring.main, section.data / "login.url", base_url, now)
        except (StoreError, CannotStart) as error:
            self._give_up(str(error))
        except CannotListenError as error:
            where = section.listen if self._port is None else f"udp {section.udp}"
            self._give_up(f"cannot listen on {unusable(where, error.socketError)}")
        except OSError as error:
            self._give_up(f"{error.filename or section.data}: {error.strerror}; [collector] data must be writable")
        _log.info(
            "Bitville APM collector {version} listens on {address}, data in {data}",
            version=__version__,
            address=str(listens),
            data=str(section.data),
        )
        if url:
            _log.info("open {url} to log in", url=url)

    def _collect_garbage(self, clock: Any) -> None:
        """From here on beside the work."""
        self._garbage.start()
        self._collecting = LoopingCall(self._garbage.collect)
        self._collecting.clock = getattr(clock, "steady", clock)
        self._collecting.start(limits.GC_COLLECTOR_S, now=False)

    def _listen(self, section: CollectorSection, site: LimitedSite) -> Any:
        """Listen at once. Raises `CannotListenError`, and `CannotStart` for a certificate that cannot be used."""
        where = f"{section.listen.port}:interface={quoteStringArgument(section.listen.host)}"
        where += f":backlog={limits.LISTEN_BACKLOG}"
        if section.certificate is not None:
            files = [quoteStringArgument(str(path)) for path in (section.private_key, section.certificate)]
            description = f"ssl:{where}:privateKey={files[0]}:certKey={files[1]}"
        else:
            description = f"tcp:{where}"
        try:
            endpoint = serverFromString(self.reactor, description)
        except Exception as error:  # noqa: BLE001 - OpenSSL has its own kinds; a person must mend the file
            raise CannotStart(f"[collector] certificate or private_key cannot be used: {_unread(error)}") from None
        return _result(endpoint.listen(site))

    def _udp_state(self) -> dict[str, Any]:
        if self._datagrams is None:
            return {"enabled": False, "port": None, "received": 0, "errors": 0}
        return self._datagrams.state(self._udp.getHost().port)

    def _give_up(self, why: str) -> None:
        _log.critical("bitville-collector: {why}", why=why)
        raise SystemExit(1)

    async def _stop(self) -> None:
        if self._udp is not None:
            await self._udp.stopListening()
        if self._port is not None:
            await self._port.stopListening()
        if self._collecting is not None:
            self._collecting.stop()
            self._garbage.stop()
        if self._cleanup is not None:
            self._cleanup.stop()
        if self._ingest is not None:
            await self._ingest.stop()
        if self._graylog is not None:
            await self._graylog.stop()
        if self._nightly is not None:
            await self._nightly.stop()
        if self._alerts is not None:
            await self._alerts.stop()
        if self._spikes is not None:
            await self._spikes.stop()
        if self._store is not None:
            await self._store.close()
        _log.info("Bitville APM collector stopped")

    def stopService(self) -> Deferred[None]:
        """Take nothing more, commit what was taken, close the files."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())


def _with_ca(section: str, make: Callable[..., T], *arguments: object) -> T:
    """What a section makes that may have a `ca`. Raises `CannotStart` for one that cannot be used."""
    try:
        return make(*arguments)
    except (OSError, SSL.Error) as error:
        raise CannotStart(f"[{section}] ca cannot be used: {_unread(error)}") from None


def _make_directory(path: Path) -> None:
    """The data directory: its group may look for `local.key`, whatever the umask (twistd's own is 077)."""
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(0o750)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _unread(error: Exception) -> str:
    """What is wrong with a file of a certificate or a key; OpenSSL says it in a list."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    why = ", ".join(reason for *_, reason in reasons) or str(error)
    return f"{why}; PEM files are wanted, and the key must be the certificate's own"


def _return_large_blocks() -> None:
    """Let glibc give large blocks back as soon as they are free, so that one large body is not held for ever.

    By itself it would move its threshold up to the largest block it ever saw. Another C library does as it does.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, limits.LARGE_BLOCK_BYTES)


def _result(listening: Deferred[IListeningPort]) -> Any:
    """The port of an endpoint that listens at once, as those of TCP and TLS do."""
    results: list[Any] = []
    listening.addBoth(results.append)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
