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
from bitville_apm.analysis.baseline import Regression
from bitville_apm.analysis.report import (
    Before,
    Blocking,
    Cause,
    Change,
    Example,
    Factor,
    Flying,
    Part,
    Quality,
    Report,
    Split,
    Step,
    Victim,
    Waits,
)
from bitville_apm.collector.auth import Auth, new_key, new_link
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
from bitville_apm.web.app import resource

NOW = 1_790_000_000.0
NIGHT = (NOW // 86_400 - 1) * 86_400
"""The beginning of the day before, which the last night compared."""
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
            rows = [s.found for s in self.observed if s.found.endpoint == search.endpoint]
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


def top_row(value: str, **changes: Any) -> TopRow:
    """A row of `top` with plausible numbers."""
    numbers: dict[str, Any] = {
        "requests": 40, "executions": None, "wall_ms": 9000.0, "cpu_ms": 900.0, "queue_ms": 10.0, "sql_ms": 4000.0,
        "running_s": 0.91, "blocked_s": 0.0, "waiting_s": 0.0, "max_ms": 2310.5, "errors": 1, "p50_ms": 100.0,
        "p95_ms": 1900.0, "p99_ms": 2300.0,
    }  # fmt: skip
    return TopRow(value=value, **{**numbers, **changes})


@implementer(IExplainer)
@attrs.define(eq=False)
class Explainer:
    """Explains every window alike, and remembers what it was asked."""

    report: Report
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)

    def explain(self, projects: Projects, start: float, end: float, host: str | None) -> Deferred[Report]:
        self.asked.append((projects, start, end, host))
        return succeed(self.report)


def full_report(**changes: Any) -> Report:
    """A report in which every part has something to say, with names that a page must escape."""
    made = Report(
        verdict="GET /search: 3 times the requests, on web1 and web2 <b>",
        kind="load",
        provisional=False,
        coverage=0.87,
        unexplained=0.13,
        measure="tasks",
        onset=NOW - 600,
        opened=NOW - 593,
        peak=NOW - 570,
        end=NOW - 420,
        level=31.4,
        baseline=2.1,
        causes=[
            Cause(
                dimension="endpoint", value="GET /search|`<i>", score=0.8, share=0.83, lift=4.2, confidence=0.97,
                level=25.0, baseline=1.5, mechanism="traffic", hosts=["web1", "web2"],
                factors={
                    "n": Factor(before=12, after=36, part=22.0), "q": Factor(before=4, after=4.2, part=1.0),
                    "c": Factor(before=0.03, after=0.031, part=0.5),
                },
                story=[
                    Step(dimension="client", value="203.0.113.0/24"),
                    Step(dimension="endpoint", value="GET /search|`<i>"),
                    Step(dimension="function", value="Shop\\Search::run"),
                ],
            ),
            Cause(
                dimension="process", value="backup", score=0.12, share=0.12, lift=None, confidence=0.8, level=3.5,
                baseline=0.0, mechanism="not php", hosts=["web1"],
            ),
        ],
        victims=[Victim(dimension="endpoint", value="GET /cart", requests=120, wall_ms_before=80.0, wall_ms=950.0)],
        split=[
            Split(
                host="web1", running=24.0, blocked=3.0, baseline_running=2.0, baseline_blocked=0.1, cores=4, load1=18.2,
                coverage=0.9, pressure={"cpu": 88.0, "io": 12.0},
                parts=[
                    Part(kind="php", name="php", running=20.0, blocked=0.5),
                    Part(kind="process", name="backup", running=1.0, blocked=2.5),
                    Part(kind="unknown", name="unknown", running=3.0, blocked=0.0),
                ],
            )
        ],
        waits=[Waits(wait="Lock:transactionid", level=6.0, baseline=0.1)],
        changes=[Change(dimension="release", value="2026-11-28", level=2.0)],
        ruled_out=["memory: nothing was swapped"],
        quality=Quality(
            frames=18, baseline_frames=360, lost_looks=4.0, silent=["web3"], clock_skew_s={"web2": -5.0},
            notes=["no look inside the database"],
        ),
        signature="c0ffee",
        examples=[
            Example(
                why="slowest", id="11111111-1111-4111-8111-111111111111", at=NOW - 570, host="web1",
                endpoint="GET /search|`<i>", method="GET", url="/search?q=<script>", status=200, duration_ms=9500.0,
            )
        ],
        in_flight=[
            Flying(
                id="11111111-1111-4111-8111-111111111111", endpoint="GET /search|`<i>", host="web1", age_ms=4200.0
            )
        ],
        locks=[
            Blocking(
                depth=0, session="shop@shop 4711", state="idle in transaction", statement="UPDATE stock", blocked=2
            ),
            Blocking(depth=1, session="shop@shop 4712", state="active", statement="SELECT 1", blocked=0),
        ],
        seen_before=[Before(id="5b0c", onset=NOW - 86_400, verdict="GET /search: the same yesterday")],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def regression(value: str = "GET /checkout", **changes: Any) -> Regression:
    """What costs twice as much since three days ago."""
    made: dict[str, Any] = {
        "dimension": "endpoint", "measure": "cpu", "per": "request", "before_ms": 12.5, "now_ms": 25.5, "factor": 2.04,
        "confidence": 0.93, "since": NIGHT - 2 * 86_400, "lost_s": 185.0, "share": 0.42,
    }  # fmt: skip
    return Regression(value=value, **(made | changes))


def night(project: str = "shop", *found: Regression, **changes: Any) -> Drifts:
    """What the last night found of a project."""
    made: dict[str, Any] = {"day": NIGHT, "made": NIGHT + 87_300, "days": 20, "left_out": 0} | changes
    return Drifts(project=project, found=msgspec.json.encode(found), **made)


def kept_spike(id: str = "77777777-7777-4777-8777-777777777777", project: str = "shop", **changes: Any) -> Spike:
    """A spike as it is kept; `changes` are the report's."""
    report = full_report(**changes)
    return Spike(
        id=id, project=project, hosts=["web1", "web2"], opened=report.opened or report.onset, onset=report.onset,
        peak=report.peak, end=report.end, measure=report.measure, level=report.level, baseline=report.baseline,
        kind=report.kind, verdict=report.verdict, provisional=report.provisional, signature=report.signature,
        revision=3, report=msgspec.json.encode(report),
    )  # fmt: skip


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
    explainer: Explainer = attrs.field(factory=lambda: Explainer(full_report()))
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
        stub = StubTreq(resource(self.store, self.auth, self.clock, self.explainer))
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
