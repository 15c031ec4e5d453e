"""The agent's health page (DAEMON-11) and metrics: numbers that are in memory anyway, no file, no waiting.

It answers only requests that name this machine as their host: a web page elsewhere that makes a browser ask
127.0.0.1 names its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

from bitville_apm.metrics import METRICS_TYPE, Measure, metrics

_HOSTS = (b"127.0.0.1", b"localhost")
_GAUGES = ("pending", "waiting", "in_windows", "framed_pending", "error")
_STATES = {"closed": 0, "half_open": 1, "open": 2}


class Health(Resource):
    """`snapshot` gives the body of `/health`; the status code follows its `status`.

    Three paths need no router: importing one would be a tenth of the agent's start, for which clients wait.
    """

    isLeaf = True

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._snapshot = snapshot

    def render_GET(self, request: Request) -> bytes:
        """Whatever is asked for."""
        if not _is_for_us(request):
            return _not_found(request)
        if request.path in (b"/", b"/health"):
            return self._health(request)
        if request.path == b"/metrics":
            return self._metrics(request)
        return _not_found(request)

    def _health(self, request: Request) -> bytes:
        """How the agent is, for people and monitoring."""
        body = self._snapshot()
        request.setResponseCode(503 if body["status"] == "failing" else 200)
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(body, indent=2).encode() + b"\n"

    def _metrics(self, request: Request) -> bytes:
        """The same numbers for Prometheus."""
        request.setHeader(b"Content-Type", METRICS_TYPE)
        return metrics(_measures(self._snapshot()))


def _is_for_us(request: Request) -> bool:
    host: bytes = request.getHeader(b"host") or b""
    return host.rsplit(b":", 1)[0] in _HOSTS


def _not_found(request: Request) -> bytes:
    request.setResponseCode(404)
    request.setHeader(b"Content-Type", b"text/plain")
    return b"Not found"


def _measures(body: Mapping[str, Any]) -> Iterator[Measure]:
    stats = body["stats"]
    yield Measure("bitville_agent_uptime_seconds", "Since the agent started", body["uptime_seconds"])
    yield Measure("bitville_agent_memory_mb", "Resident memory", stats["worker"]["memory_usage_mb"])
    yield Measure(
        "bitville_agent_requests", "Lines journalled or refused", stats["worker"]["request_count"], counter=True
    )
    yield Measure("bitville_agent_memory_records", "Held ahead of the sender", stats["buffer"]["memory_buffer_count"])
    yield Measure("bitville_agent_disk_records", "Waiting on disk only", stats["buffer"]["disk_overflow_count"])
    for pipeline, ledger in stats["ledger"].items():
        for name, value in ledger.items():
            yield Measure(
                f"bitville_agent_ledger_{name}",
                f"Ledger: {name.replace('_', ' ')}",
                value,
                {"pipeline": pipeline},
                counter=name not in _GAUGES,
            )
    for name, state in stats["circuit_breaker"]["by_pipeline"].items():
        help_ = "0 closed, 1 half open, 2 open"
        yield Measure("bitville_agent_breaker_state", help_, _STATES[state], {"pipeline": name})
    for source, numbers in stats["sources"].items():
        for name, value in numbers.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Measure(
                    f"bitville_agent_source_{name}", f"Source: {name.replace('_', ' ')}", value, {"source": source}
                )
