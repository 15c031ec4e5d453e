"""Row 26: every route asked by everybody who may not, made from the routes themselves; what is refused shows no row."""

from __future__ import annotations

import time
from collections.abc import Iterator

import attrs
import pytest

from bitville_apm.collector.app import App
from bitville_apm.store.sqlite import Main
from bitville_apm.web.api import Api
from bitville_apm.web.login import Login
from bitville_apm.web.pages import Pages
from tests.collector.rig import Rig, item, running
from tests.web.made import night, regression
from tests.web.sent import IDS, record

SECRET = "x7Qsecret-of-shop"
ROWS = [SECRET.encode(), IDS[0].encode()]
"""What no answer to a stranger may hold."""

# Open to everybody on purpose: what they say is static, or numbers.
OPEN = {"/health", "/ready", "/metrics", "/api/openapi.json", "/favicon.ico"}
PARAMETERS = {
    "/api/top": "?dimension=endpoint",
    "/api/stats": f"?endpoint=GET%20/{SECRET}",
    "/api/compare": f"?correlation_id={IDS[0]}",
    "/api/explain": "?from=1000000000&to=1000000060",
    "/top": "?dimension=endpoint",
    "/top.json": "?dimension=endpoint",
}


@attrs.frozen
class Route:
    """One address with one method."""

    method: str
    path: str
    scope: str

    @property
    def address(self) -> str:
        """With an id that exists, and the parameters it needs."""
        return self.path.replace("<id>", IDS[0]).replace("<token>", "no-token") + PARAMETERS.get(self.path, "")


def routes() -> Iterator[Route]:
    """All routes of the collector but the open ones and those for logging in."""
    for app, prefix in ((App.app, ""), (Api.app, "/api"), (Pages.app, "")):
        for rule in app.url_map.iter_rules():
            path = prefix + rule.rule
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                if path not in OPEN:
                    scope = "admin" if "/admin/" in path else "ingest" if method == "POST" else "read"
                    yield Route(method, path, scope)


ROUTES = sorted(routes(), key=lambda route: (route.path, route.method))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector with a record of project shop, and something of another."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        mine = record(0, request={"method": "GET", "uri": f"/{SECRET}"}, release=SECRET)
        assert rig.post(rig.key("shop"), item(mine, host=SECRET)).json["stored"] == 1
        assert rig.post(rig.key("blog"), item(record(1))).json["stored"] == 1
        main = Main.open(rig.data)
        main.keep_drifts(night("shop", regression(f"GET /{SECRET}")))
        main.close()
        yield rig


@pytest.fixture(scope="module")
def strangers(rig: Rig) -> dict[str, str | None]:
    """Everybody who may not see shop's rows."""
    revoked = rig.key("shop", "ingest,read,admin")
    rig.revoke(revoked)
    return {
        "no key": None,
        "a wrong key": "bv_000000000000_wrong",
        "the id of a key with another secret": rig.key("shop", "read").rpartition("_")[0] + "_wrong",
        "another project's key": rig.key("blog", "ingest,read"),
        "a revoked key": revoked,
        "an expired key": rig.key("shop", "ingest,read,admin", time.time() - 1),
    }


def test_there_are_routes() -> None:
    """Row 26: the matrix is made from the routes; one that is new is in it by itself."""
    assert {"/ingest", "/admin/cleanup", "/api/search", "/requests/<id>", "/"} <= {route.path for route in ROUTES}
    assert {rule.rule for rule in Login.app.url_map.iter_rules()} == {"/", "/<token>"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_strangers(rig: Rig, strangers: dict[str, str | None], route: Route) -> None:
    """LIST-03, STOR-04: nobody gets a row that is not theirs, on any route, whatever key they bring."""
    for who, key in strangers.items():
        answer = rig.ask(route.method, route.address, b"{}" if route.method == "POST" else None, key=key)
        for row in ROWS:
            assert row not in answer.body or row in route.address.encode(), (who, answer.body)
        if "another project" not in who:
            # Pages send people without a session to the log-in page.
            assert answer.status in (401, 403) or (answer.status, answer.headers["location"]) == (303, "/login"), who


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.json",
        "/api/search",
        "/api/requests/<id>",
        "/api/hosts",
        "/api/compare",
        "/api/regressions",
        "/regressions",
    ],
)
def test_the_owner_sees_them(rig: Rig, path: str) -> None:
    """STOR-04: what strangers are not shown is there, for a key of its project."""
    answer = rig.ask("GET", Route("GET", path, "read").address, key=rig.key("shop", "read"))
    assert any(row in answer.body for row in ROWS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_scopes(rig: Rig, route: Route) -> None:
    """LIST-03: a key does what its scopes say and nothing else: an ingest key reads nothing, a reading one sends
    nothing, neither cleans up."""
    if route.path == "/logout":
        return  # a session's, not a key's
    for scope in ("ingest", "read", "admin"):
        body = b"{}" if route.method == "POST" else None
        answer = rig.ask(route.method, route.address, body, key=rig.key("shop", scope))
        refused = answer.status in (401, 403)
        assert refused == (scope != route.scope), (scope, answer.status, answer.body[:200])
