"""The collector's own addresses; what is none of them goes to the web pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
from klein import Klein
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import bitville_apm
from bitville_apm import limits
from bitville_apm.collector.agents import Agents
from bitville_apm.collector.alerts import Alerts
from bitville_apm.collector.cleanup import Cleanup
from bitville_apm.collector.graylog.service import Graylog, off
from bitville_apm.collector.ingest import Ingest, caller_of
from bitville_apm.collector.metrics import measures
from bitville_apm.collector.nightly import Nightly
from bitville_apm.collector.spikes import Spikes
from bitville_apm.garbage import Garbage
from bitville_apm.http import HttpProblem, answer_problem
from bitville_apm.interfaces import IAuth
from bitville_apm.metrics import METRICS_TYPE, metrics
from bitville_apm.store.interface import IStore, NoSpace
from bitville_apm.store.keyring import IKeyring

_log = Logger()


@attrs.define(eq=False, slots=False)
class App:
    """The routes. `udp` tells of datagrams for `/ready`, `started` is the unix time of the start, `data` the directory
    whose disk counts."""

    store: IStore
    keyring: IKeyring
    auth: IAuth
    ingest: Ingest
    cleanup: Cleanup
    udp: Callable[[], Mapping[str, Any]]
    agents: Agents
    spikes: Spikes
    nightly: Nightly
    alerts: Alerts
    graylog: Graylog | None
    garbage: Garbage
    reactor: Any
    data: Path
    environment_keys: int
    started: float
    app: ClassVar[Klein] = Klein()

    @app.route("/ingest", methods=["POST"])
    @app.route("/ingest/php", methods=["POST"])
    @app.route("/ingest/frames", methods=["POST"])
    @app.route("/api/profiling", methods=["POST"])
    async def take(self, request: IRequest) -> bytes:
        """Records of any kind."""
        return await self.ingest.handle(request)

    @app.route("/ingest/postgres", methods=["POST"])
    async def take_postgres(self, request: IRequest) -> bytes:
        """The same; a bare record here is an observation of a database."""
        return await self.ingest.handle(request, postgres=True)

    @app.route("/health", methods=["GET"])
    def health(self, request: IRequest) -> bytes:
        """The reactor turns; nothing else is looked at."""
        return _json(request, {"status": "healthy"})

    @app.route("/ready", methods=["GET"])
    async def ready(self, request: IRequest) -> bytes:
        """Whether records can be stored, and what it stands on (LIST-07); 503 when they cannot.

        Names of agents are for keys that may read; everybody else gets their number.
        """
        agents = []
        if request.getHeader(b"authorization") is not None:
            agents = self.agents.shown_to((await caller_of(self.auth, request, "read")).projects)
        state = await self._state()
        if not state["ready"]:
            request.setResponseCode(503)
        return _json(request, {**state, "agents": agents})

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: IRequest) -> bytes:
        """The same in numbers, for Prometheus."""
        state = await self._state()
        request.setHeader(b"Content-Type", METRICS_TYPE)
        request.setHeader(b"Cache-Control", b"no-store")
        return metrics(measures(state, self.ingest.counted, self.ingest.rates.refused))

    async def _state(self) -> dict[str, Any]:
        """What `/ready` tells everybody. Raises `HttpProblem` 503."""
        now = self.reactor.seconds()
        try:
            database, disk = await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), self._measured)
            keys = [key for key in await self.keyring.keys() if key["revoked"] is None]
        except Exception:  # noqa: BLE001 - whatever it is, the answer is: not ready
            _log.failure("the store's state cannot be told")
            raise HttpProblem(503, "the store does not answer; the collector's log says more") from None
        return {
            "ready": database["ok"],
            "uptime": round(now - self.started, 1),
            "gc_runs": self.garbage.runs,
            "version": bitville_apm.__version__,
            "database": database,
            "api_keys": len(keys) + self.environment_keys,
            "cleanup": self.cleanup.state(),
            "udp": self.udp(),
            "rate_limit": {
                "per_second": limits.REQUESTS_PER_S,
                "burst": limits.REQUESTS_BURST,
                "refused": self.ingest.rates.refused,
            },
            "agents_seen": len(self.agents),
            "spikes": self.spikes.state(),
            "drifts": self.nightly.state(),
            "alerts": self.alerts.state(),
            **(off() if self.graylog is None else self.graylog.state()),
            "disk": disk,
        }

    @app.route("/admin/cleanup", methods=["POST"])
    async def clean_up(self, request: IRequest) -> bytes:
        """Drop what is no longer kept, now instead of within the hour; scope admin."""
        await caller_of(self.auth, request, "admin")
        try:
            cleaned = await self.cleanup.now()
        except Exception:  # noqa: BLE001 - the log has it; an answer never tells internals
            raise HttpProblem(503, "cleaning up failed; the collector's log says more") from None
        return _json(
            request,
            {
                "success": True,
                "dropped": cleaned.dropped,
                "dropped_for_space": cleaned.dropped_for_space,
                "added_up": cleaned.added_up,
            },
        )

    @app.route("/admin/backup", methods=["POST"])
    async def back_up(self, request: IRequest) -> bytes:
        """Copy everything that is stored into a new folder of the data directory; scope admin."""
        await caller_of(self.auth, request, "admin")
        try:
            made = await self.store.back_up()
        except NoSpace as error:
            raise HttpProblem(507, f"there is no room for a copy: {error}") from None
        except Exception:  # noqa: BLE001 - the log has it; an answer never tells internals
            _log.failure("a backup failed")
            raise HttpProblem(503, "the backup failed; the collector's log says more") from None
        return _json(request, {"success": True, "folder": made.folder, "files": made.files})

    def _measured(self) -> tuple[dict[str, Any], dict[str, int]]:
        """In a thread: looks at the disk."""
        disk = shutil.disk_usage(self.data)
        return dict(self.store.health()), {"free_bytes": disk.free, "total_bytes": disk.total}

    @app.handle_errors(HttpProblem)
    def problem(self, request: IRequest, failure: Failure) -> bytes:
        """An answer that is an error."""
        problem: Any = failure.value
        return answer_problem(request, problem)

    @app.handle_errors(HTTPException)
    def no_route(self, request: IRequest, failure: Failure) -> bytes:
        """No such route, or not with this method."""
        method, path = request.method.decode("latin-1"), request.path.decode("latin-1")[: limits.PROBLEM_CHARACTERS]
        error: Any = failure.value
        headers = {}
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return answer_problem(request, HttpProblem(error.code, f"no route {method} {path}", headers=headers))

    def resource(self, fallback: IResource | None) -> IResource:
        """All of it as one resource; `fallback` answers every other path."""
        paths = {rule.rule.encode() for rule in self.app.url_map.iter_rules()}
        return _Root(self.app.resource(), paths, fallback)


class _Root(Resource):
    """Our own paths, and the fallback for the rest."""

    def __init__(self, own: IResource, paths: set[bytes], fallback: IResource | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = own
        self._paths = paths
        self._fallback = fallback

    def getChildWithDefault(self, path: bytes, request: IRequest) -> IResource:
        """Ours or the fallback's."""
        if self._fallback is not None and request.path not in self._paths:
            child: IResource = self._fallback.getChildWithDefault(path, request)
            return child
        request.postpath.insert(0, request.prepath.pop())
        return self._own


def _json(request: IRequest, value: Any) -> bytes:
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Cache-Control", b"no-store")
    return json.dumps(value).encode() + b"\n"
