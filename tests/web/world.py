"""A collector's web part without a collector: its real resource and real `Auth`, over a store in memory.

Only tests of pages and routes use it; what is said about a real store is tested over one (test_real.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from bitville_apm import reading, requests
from bitville_apm.collector.auth import Auth, new_key, new_link
from bitville_apm.store.interface import (
    BadCursor,
    Found,
    IStore,
    Load,
    Page,
    Point,
    Projects,
    Search,
    Stored,
    TopRow,
)
from bitville_apm.web.app import resource

NOW = 1_790_000_000.0
HOST = "https://apm.example:8443"


def end_record(**changes: Any) -> dict[str, Any]:
    """An end line (wire.md 2) of a slow page of a shop, with everything a page can show."""
    return {
        "t": "end",
        "v": 2,
        "id": "11111111-1111-4111-8111-111111111111",
        "at": NOW - 120,
        "ms": 2310.5,
        "request": {
            "method": "GET",
            "uri": "/list/shoes?page=2",
            "route": "GET /list/{}",
            "query": {"page": "2"},
            "headers": {"Accept": "text/html"},
            "post": {"items": [{"id": "5"}]},
        },
        "response": {"status": 200},
        "ss": [310_000_000, 40_000_000],
        "memory": {"peak_bytes": 41_943_040},
        "sql": {
            "n": 43,
            "ms": 1600.0,
            "connections": [{"driver": "pgsql", "host": "db1", "port": 5432, "database": "shop", "user": "shop"}],
            "queries": [
                {"sql": "SELECT * FROM product WHERE category = ?", "ms": 400.0, "n": 1, "c": 0},
                {"sql": "SELECT name FROM brand WHERE id = ?", "ms": 1200.0, "n": 42, "c": 0},
            ],
        },
        "calls": [{"kind": "http", "target": "stock.example", "n": 1, "ms": 120.0}],
        "profile": {
            "kind": "xhprof",
            "edges": {
                "main()": {"ct": 1, "wt": 2_300_000},
                "main()==>Shop\\Listing::show": {"ct": 1, "wt": 2_200_000},
                "Shop\\Listing::show==>Shop\\Brand::load": {"ct": 42, "wt": 1_900_000},
            },
        },
        "release": "2026-11-01",
        "context": {"customer": "gold"},
        **changes,
    }


@implementer(IStore)
@attrs.define(eq=False, slots=False)
class Memory:
    """A store that keeps what it is given, and remembers what it was asked."""

    kept: list[Stored] = attrs.field(factory=list)
    tops: dict[str, list[TopRow]] = attrs.field(factory=dict)
    loads: list[Load] = attrs.field(factory=list)
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
            rows = []
        rows.sort(key=lambda f: -(f.duration_ms or 0.0) if search.sort == "duration" else -f.at)
        begin = int(search.after or 0)
        end = begin + search.limit
        return succeed(Page(items=rows[begin:end], cursor=str(end) if end < len(rows) else None))

    def request(self, projects: Projects, id: str) -> Deferred[Stored | None]:
        return succeed(next((s for s in self._seen(projects) if s.found.id == id), None))

    def top(
        self, projects: Projects, dimension: str, start: float, end: float, host: str | None, limit: int
    ) -> Deferred[Sequence[TopRow]]:
        self.asked.append(("top", projects, dimension, start, end, host, limit))
        return succeed(self.tops.get(dimension, [])[:limit])

    def series(
        self, projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Deferred[Sequence[Point]]:
        self.asked.append(("series", projects, dimension, value, start, end, host))
        return succeed([])

    def load(
        self, projects: Projects, start: float, end: float, step: int, host: str | None
    ) -> Deferred[Sequence[Load]]:
        self.asked.append(("load", projects, start, end, step, host))
        return succeed([load for load in self.loads if host in (None, load.host)])

    def projects(self, projects: Projects) -> Deferred[Sequence[str]]:
        return succeed(list({s.found.project for s in self._seen(projects)}))

    def hosts(self, projects: Projects) -> Deferred[Sequence[str]]:
        return succeed(list({s.found.host for s in self._seen(projects)}))


def top_row(value: str, **changes: Any) -> TopRow:
    """A row of `top` with plausible numbers."""
    numbers: dict[str, Any] = {
        "requests": 40, "executions": None, "wall_ms": 9000.0, "cpu_ms": 900.0, "queue_ms": 10.0, "sql_ms": 4000.0,
        "running_s": 0.91, "blocked_s": 0.0, "waiting_s": 0.0, "max_ms": 2310.5, "errors": 1, "p50_ms": 100.0,
        "p95_ms": 1900.0, "p99_ms": 2300.0,
    }  # fmt: skip
    return TopRow(value=value, **{**numbers, **changes})


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


@attrs.frozen
class Answer:
    """What came back."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return ", ".join(self.headers.get(name.lower(), [])) or None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        assert self.header("content-type") == "application/json"
        return msgspec.json.decode(self.body)


@attrs.define(eq=False)
class World:
    """One installation."""

    secure: bool = True
    clock: Clock = attrs.field(factory=Clock)
    store: Memory = attrs.field(factory=Memory)
    keyring: Keyring = attrs.field(factory=Keyring)
    auth: Auth = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock.advance(NOW)
        self.auth = Auth(self.keyring, self.clock)  # type: ignore[arg-type]

    def key(self, project: str, scopes: str = "read", expires: float | None = None) -> str:
        """A new key."""
        new = new_key()
        self.keyring.kept[new.id] = {
            "id": new.id, "project": project, "hash": new.hash, "scopes": scopes, "expires": expires, "revoked": None
        }  # fmt: skip
        return new.text

    def link(self, user: str = "admin", role: str = "admin", projects: str | None = None) -> str:
        """A one-time link for a user; its token."""
        self.keyring.users[user] = {"name": user, "role": role, "projects": projects}
        token, hashed = new_link()
        self.keyring.links[hashed] = (user, self.clock.seconds() + 3600)
        return token

    def session(self, user: str = "admin", role: str = "admin", projects: str | None = None) -> str:
        """The cookie of a new session."""
        token = self.link(user, role, projects)
        return self.result(self.auth.log_in(token))

    def result(self, deferred: Deferred[Any]) -> Any:
        """What a Deferred that has fired gives."""
        got: list[Any] = []
        deferred.addCallback(got.append)
        assert got, "nothing in this world waits"
        return got[0]

    def ask(
        self,
        path: str,
        key: str | None = None,
        session: str | None = None,
        method: str = "GET",
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request through the real resource."""
        sent = {name: [value] for name, value in (headers or {}).items()}
        if key is not None:
            sent["Authorization"] = [f"Bearer {key}"]
        if session is not None:
            sent["Cookie"] = [f"bitville_session={session}"]
        stub = StubTreq(resource(self.store, self.auth, self.clock))
        body = dict(form) if form is not None else None
        address = HOST if self.secure else HOST.replace("https:", "http:")
        options: dict[str, Any] = {"headers": sent, "data": body, "allow_redirects": False}
        response = self.result(stub.request(method, address + path, **options))
        stub.flush()
        raw = response.headers.getAllRawHeaders()
        return Answer(
            response.code,
            {name.decode().lower(): [value.decode() for value in values] for name, values in raw},
            self.result(stub.content(response)),
        )
