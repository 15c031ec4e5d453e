"""Arrivals as a collector makes them, and a reactor that a synchronous test turns by hand."""

from __future__ import annotations

import json
import queue
import uuid
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bitville_apm import cells, reading, requests
from bitville_apm.store.interface import Arrival, Drifts, Spike

NOON = 1_800_014_400.0
"""Noon of a day, UTC: 2027-01-15 12:00."""
DAY = 86_400.0


class Pump:
    """Stands for the reactor: threads hand their answers to it, and `ask` delivers them in the caller's thread."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now
        self._calls: queue.SimpleQueue[tuple[Any, tuple[Any, ...], dict[str, Any]]] = queue.SimpleQueue()

    def seconds(self) -> float:
        return self.now

    def callFromThread(self, call: Any, *args: Any, **kwargs: Any) -> None:
        self._calls.put((call, args, kwargs))

    def ask(self, deferred: Deferred[Any]) -> Any:
        """The result of a Deferred that a thread will fire; raises its failure."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            call, args, kwargs = self._calls.get(timeout=30)
            call(*args, **kwargs)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]


def new_id(n: int | None = None) -> str:
    """A canonical id; the same for the same `n`."""
    return str(uuid.uuid4() if n is None else uuid.UUID(int=n))


def end_body(id: str, at: float = NOON, ms: float = 100.0, **more: Any) -> dict[str, Any]:
    """An end record (wire.md 2)."""
    body = {"t": "end", "v": 2, "id": id, "at": at, "ms": ms, "request": {"method": "GET", "uri": "/cart"}}
    return {**body, **more}


def request(
    kind: str, body: dict[str, Any], *, project: str = "shop", recv: float | None = None, framed: bool = False,
    host: str = "web1", **more: Any,
) -> Arrival:  # fmt: skip
    """An arrival of kind end, died or v1, received half a second after its end unless told otherwise."""
    recv_ms = int(1000 * (recv if recv is not None else body["at"] + body["ms"] / 1000 + 0.5))
    line = reading.read_body(kind, json.dumps(body).encode(), recv_ms)
    made = requests.request_of(line)
    added = {} if framed else cells.of_request(made, requests.profile_of(line.message))
    return Arrival(
        project=project, kind=kind, id=line.id, recv_ms=recv_ms, host=host, body=line.body, request=made,
        cells=added, client_id=requests.client_id(line), **more,
    )  # fmt: skip


def end(id: str | None = None, at: float = NOON, ms: float = 100.0, **more: Any) -> Arrival:
    """An end; `body` holds further fields of the record, all else goes to `request`."""
    fields = more.pop("body", {})
    return request("end", end_body(id or new_id(), at, ms, **fields), **more)


def died(id: str, at: float = NOON, ms: float = 50.0, **more: Any) -> Arrival:
    """A request that was taken for dead."""
    body = {"id": id, "at": at, "ms": ms, "method": "GET", "uri": "/cart"}
    return request("died", body, **more)


def frame(
    at: float = NOON, *, project: str = "shop", host: str = "web1", id: str | None = None, **more: Any
) -> Arrival:
    """A frame (wire.md 6)."""
    body = {"id": id or new_id(), "at": at, "secs": 10, "v": 2, **more}
    line = reading.read_body("frame", json.dumps(body).encode(), 0)
    return Arrival(
        project=project, kind="frame", id=line.id, recv_ms=int(at * 1000) + 11_000, host=host, body=line.body,
        frame=line.message,
    )  # fmt: skip


def spike(id: str, onset: float = NOON, *, project: str = "shop", **more: Any) -> Spike:
    """A spike of half a minute, its report no more than its id."""
    made: dict[str, Any] = {
        "hosts": ["web1"], "opened": onset + 10, "peak": onset + 20, "end": onset + 30, "measure": "tasks",
        "level": 9.5, "baseline": 1.25, "kind": "load", "verdict": f"spike {id}", "provisional": False,
        "signature": "s", "revision": 1, "report": json.dumps({"id": id}).encode(),
    }  # fmt: skip
    return Spike(id=id, project=project, onset=onset, **(made | more))


def drifts(project: str, day: float = NOON - 1.5 * DAY, **more: Any) -> Drifts:
    """What the night after a day found, no more than the project's name."""
    made: dict[str, Any] = {"made": day + 1.1 * DAY, "days": 9, "left_out": 1, "found": json.dumps([project]).encode()}
    return Drifts(project=project, day=day, **(made | more))


def postgres(at: float = NOON, *, project: str = "shop", host: str = "db1", **more: Any) -> Arrival:
    """An observation of a database."""
    body = {"id": new_id(), "source": "pg_locks", "at": at, "data": [{"pid": 1}], **more}
    line = reading.read_body("pg", json.dumps(body).encode(), int(at * 1000))
    return Arrival(
        project=project, kind="pg", id=line.id, recv_ms=int(at * 1000), host=host, body=line.body,
        postgres=line.message,
    )  # fmt: skip
