"""What runs right now: the requests in flight, and what looks have seen of each so far (`bitville top --live`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitville_apm.agent.inflight import Open
from bitville_apm.agent.listener import PhpSource
from bitville_apm.cells import Looked
from bitville_apm.endpoints import endpoint


def live(sources: Sequence[PhpSource], boottime: float) -> list[dict[str, Any]]:
    """All requests in flight, the oldest first. `boottime` is seconds on the clock in which they began."""
    found = [
        _told(source.name, request, source.pipeline.sealing.rollup.seen_of(request.id), boottime)
        for source in sources
        for request in source.in_flight.open()
    ]
    return sorted(found, key=lambda told: -float(told["age_s"]))


def _told(source: str, request: Open, spent: Looked | None, boottime: float) -> dict[str, Any]:
    """One request; what is not known yet is null."""
    begin = request.begin
    return {
        "id": request.id,
        "source": source,
        "endpoint": endpoint(begin.method, begin.uri, request.route),
        "uri": begin.uri,
        "client": begin.client,
        "release": begin.release,
        "pid": request.peer.pid or None,
        "age_s": round(max(0.0, boottime - request.since), 3),
        "state": request.state,
        "cpu_s": round(spent.cpu_us / 1e6, 3) if spent is not None else None,
        "queue_s": round(spent.queue_us / 1e6, 3) if spent is not None else None,
        "blocked_s": round(spent.blocked_s, 3) if spent is not None else None,
        "waiting_s": round(spent.waiting_s, 3) if spent is not None else None,
    }
