"""A collector's web part without a collector: its real resource and real `Auth`, over a store in memory.

Only tests of pages and routes use it; what is said about a real store is tested over one (test_real.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bitville_apm.collector.auth import Auth, new_key, new_link
from bitville_apm.web.app import resource
from tests.web.made import NOW, end_record, top_row
from tests.web.memory import Explainer, Keyring, Memory
from tests.web.reports import full_report, kept_spike, loads

HOST = "https://apm.example:8443"


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


def shop() -> World:
    """Two requests of a shop, and its heaviest."""
    made = World()
    made.store.add("shop", end_record())
    made.store.add("shop", end_record(id="b", ms=80.0, request={"method": "GET", "uri": "/cart"}, profile=None))
    made.store.tops["endpoint"] = [top_row("GET /list/{}"), top_row("GET /cart", wall_ms=80.0)]
    made.store.tops["function"] = [top_row("Shop\\Brand::load", p50_ms=None, p95_ms=None, p99_ms=None)]
    return made


def spiked(**changes: Any) -> World:
    """A spike of the shop, and what its hosts ran; `changes` are the report's."""
    made = World()
    made.store.add("shop", end_record())
    made.store.risen.append(kept_spike(**changes))
    made.store.loads += loads(NOW - 3600, 3600)
    return made


def page_of(w: World, path: str, **visitor: Any) -> str:
    """A page that is there, as somebody who is logged in sees it."""
    answer = w.ask(path, session=w.session(**visitor))
    assert answer.status == 200, answer.text
    return answer.text
