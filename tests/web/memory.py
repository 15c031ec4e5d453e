"""A store, keys and an explainer in memory, which remember what they were asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bitville_apm import reading, requests
from bitville_apm.analysis.report import Report
from bitville_apm.interfaces import IExplainer
from bitville_apm.store.interface import (
    BadCursor,
    Drifts,
    Found,
    IStore,
    Load,
    Page,
    Point,
    Projects,
    Search,
    Spike,
    Stored,
    TopRow,
)
from tests.web.made import NOW


@implementer(IStore)
@attrs.define(eq=False, slots=False)
class Memory:
    """A store that keeps what it is given, and remembers what it was asked."""

    kept: list[Stored] = attrs.field(factory=list)
    observed: list[Stored] = attrs.field(factory=list)
    tops: dict[str, list[TopRow]] = attrs.field(factory=dict)
    loads: list[Load] = attrs.field(factory=list)
    risen: list[Spike] = attrs.field(factory=list)
    points: list[Point] = attrs.field(factory=list)
    nights: list[Drifts] = attrs.field(factory=list)
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)

    def add(self, project: str, body: Mapping[str, Any], kind: str = "end") -> Found:
        """Keep a record as a collector would."""
        raw = json.dumps(body).encode()
        line = reading.read_body(kind, raw, int(NOW * 1000))
        request = requests.request_of(line)
        found = Found(
            id=line.id,
            project=project,
            source="php_agent",
            at=request.at,
            endpoint=request.endpoint,
            method=request.method,
            url=request.uri,
            status=request.status,
            duration_ms=request.ms,
            cpu_ms=None if request.cpu_us is None else request.cpu_us / 1000,
            sql_count=request.sql_n,
            sql_ms=request.sql_ms,
            memory_peak_bytes=request.memory_peak,
            host=body.get("host", "web1"),
            release=request.release,
            died=request.died,
        )
        self.kept.append(Stored(found=found, kind=kind, recv_ms=int(NOW * 1000), client_id=None, body=raw))
        return found

    def _seen(self, projects: Projects) -> list[Stored]:
        return [s for s in self.kept if projects is None or s.found.project in projects]

    def search(self, projects: Projects, search: Search) -> Deferred[Page]:
        self.asked.append(("search", projects, search))
        if search.after is not None and not search.after.isdecimal():
            raise BadCursor(search.after)
        rows = [s.found for s in self._seen(projects) if search.correlation_id in (None, s.found.id)]
        if search.source == "postgres_agent":
            rows = [s.found for s in self.observed if search.endpoint in (None, s.found.endpoint)]
        rows.sort(key=lambda f: -(f.duration_ms or 0.0) if search.sort == "duration" else -f.at)
        begin = int(search.after or 0)
        end = begin + search.limit
        return succeed(Page(items=rows[begin:end], cursor=str(end) if end < len(rows) else None))

    def request(self, projects: Projects, id: str) -> Deferred[Stored | None]:
        known = [*self._seen(projects), *self.observed]
        return succeed(next((s for s in known if s.found.id == id), None))

    def correlated(self, projects: Projects, id: str) -> Deferred[Sequence[Stored]]:
        return succeed([s for s in self.observed if msgspec.json.decode(s.body).get("correlation_id") == id])

    def observe(self, source: str, data: Any, id: str | None = None, at: float = NOW - 118) -> None:
        """Keep what a database was seen doing."""
        body = {"host": "db1", "server": "main", "at": at, "source": source, "data": data, "correlation_id": id}
        found = msgspec.structs.replace(
            self.kept[0].found, id=f"observed-{len(self.observed)}", source="postgres_agent", at=at, endpoint=source,
            host="db1",
        )  # fmt: skip
        self.observed.append(Stored(found=found, kind="pg", recv_ms=0, client_id=None, body=json.dumps(body).encode()))

    def top(
        self, projects: Projects, dimension: str, start: float, end: float, host: str | None, limit: int
    ) -> Deferred[Sequence[TopRow]]:
        self.asked.append(("top", projects, dimension, start, end, host, limit))
        return succeed(self.tops.get(dimension, [])[:limit])

    def series(
        self, projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Deferred[Sequence[Point]]:
        self.asked.append(("series", projects, dimension, value, start, end, host))
        return succeed(self.points)

    def load(
        self, projects: Projects, start: float, end: float, step: int, host: str | None
    ) -> Deferred[Sequence[Load]]:
        self.asked.append(("load", projects, start, end, step, host))
        wanted = [load for load in self.loads if host in (None, load.host) and start <= load.at < end]
        steps = {(load.host, load.at // step * step): load for load in reversed(wanted)}
        return succeed([msgspec.structs.replace(steps[key], at=key[1]) for key in sorted(steps)])

    def spikes(
        self, projects: Projects, start: float, end: float, host: str | None, limit: int, signature: str | None = None
    ) -> Deferred[Sequence[Spike]]:
        self.asked.append(("spikes", projects, start, end, host, limit))
        found = [
            msgspec.structs.replace(spike, report=b"")
            for spike in sorted(self.risen, key=lambda spike: -spike.onset)
            if (projects is None or spike.project in projects)
            and spike.onset < end
            and (spike.end is None or spike.end >= start)
            and (host is None or host in spike.hosts)
        ]
        return succeed(found[:limit])

    def spike(self, projects: Projects, id: str) -> Deferred[Spike | None]:
        own = (spike for spike in self.risen if projects is None or spike.project in projects)
        return succeed(next((spike for spike in own if spike.id == id), None))

    def drifts(self, projects: Projects) -> Deferred[Sequence[Drifts]]:
        return succeed([night for night in self.nights if projects is None or night.project in projects])

    def projects(self, projects: Projects) -> Deferred[Sequence[str]]:
        return succeed(list({s.found.project for s in self._seen(projects)}))

    def hosts(self, projects: Projects) -> Deferred[Sequence[str]]:
        return succeed(list({s.found.host for s in self._seen(projects)}))


@attrs.define(eq=False)
class Keyring:
    """Keys, links and sessions in memory, as `Auth` wants them."""

    kept: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    users: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    links: dict[bytes, tuple[str, float]] = attrs.field(factory=dict)
    sessions: dict[bytes, tuple[str, float]] = attrs.field(factory=dict)

    def key(self, id: str) -> Deferred[Any]:
        return succeed(self.kept.get(id))

    def user(self, name: str) -> Deferred[Any]:
        return succeed(self.users.get(name))

    def saw_user(self, name: str, now: float) -> Deferred[None]:
        self.users[name]["seen"] = now
        return succeed(None)

    def take_link(self, hash: bytes, now: float) -> Deferred[str | None]:
        user, expires = self.links.pop(hash, (None, 0.0))
        return succeed(user if now < expires else None)

    def add_session(self, hash: bytes, user: str, expires: float) -> Deferred[None]:
        self.sessions[hash] = (user, expires)
        return succeed(None)

    def session(self, hash: bytes, now: float) -> Deferred[Any]:
        user, expires = self.sessions.get(hash, ("", 0.0))
        return succeed(self.users.get(user) if now < expires else None)

    def drop_session(self, hash: bytes) -> Deferred[None]:
        self.sessions.pop(hash, None)
        return succeed(None)


@implementer(IExplainer)
@attrs.define(eq=False)
class Explainer:
    """Explains every window alike, and remembers what it was asked."""

    report: Report
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)

    def explain(self, projects: Projects, start: float, end: float, host: str | None) -> Deferred[Report]:
        self.asked.append((projects, start, end, host))
        return succeed(self.report)
