"""The JSON API over the pages' own answers."""

from __future__ import annotations

import json

import msgspec
import pytest
from twisted.internet.defer import fail

from bitville_apm import limits
from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Report
from bitville_apm.records import canonical_id
from bitville_apm.store.interface import TooSlow
from tests.web.made import NOW, end_record, top_row
from tests.web.reports import full_report, kept_spike
from tests.web.world import World

ID = end_record()["id"]


def world() -> World:
    made = World()
    for i in range(5):
        made.store.add("shop", end_record(id=f"{i}", ms=100.0 * (i + 1)))
    made.store.add("shop", end_record())
    return made


def test_a_search() -> None:
    """QUERY-02: `{items, cursor, hasMore}`, slowest first, and the cursor continues where the page ended."""
    w = world()
    key = w.key("shop")
    first = w.ask("/api/search?limit=4", key=key).json()
    assert list(first) == ["items", "cursor", "hasMore"]
    assert list(first["items"][0]) == [
        "id", "project", "source", "at", "endpoint", "method", "url", "status", "duration_ms", "cpu_ms", "sql_count",
        "sql_ms", "memory_peak_bytes", "host", "release", "died",
    ]  # fmt: skip
    rest = w.ask(f"/api/search?limit=4&after={first['cursor']}", key=key).json()
    assert (first["hasMore"], rest["hasMore"], rest["cursor"]) == (True, False, None)
    durations = [item["duration_ms"] for item in first["items"] + rest["items"]]
    assert durations == sorted(durations, reverse=True)
    assert len(durations) == 6
    wrong = w.ask("/api/search?after=nonsense", key=key)
    assert (wrong.status, wrong.json()["details"][0]["field"]) == (400, "after")


def test_ids_are_canonical() -> None:
    """QUERY-02: a search by id finds a record under the spelling its client gave."""
    w = world()
    found = w.ask("/api/search?correlation_id=3", key=w.key("shop")).json()["items"]
    assert [item["id"] for item in found] == [canonical_id("3")]
    assert w.ask(f"/api/requests/{ID.upper()}", key=w.key("shop")).json()["id"] == ID


def test_one_request() -> None:
    """PHP-03, PHP-06: a request comes as it was sent, with self and inclusive times and added-up statements."""
    got = world().ask(f"/api/requests/{ID}", key=None, session=None)
    assert got.status == 401
    w = world()
    one = w.ask(f"/api/requests/{ID}", key=w.key("shop")).json()
    assert one["record"] == end_record()
    assert (one["endpoint"], one["duration_ms"], one["sql_count"]) == ("GET /list/{}", 2310.5, 43)
    assert one["functions"][0] == {
        "name": "Shop\\Brand::load", "self_ms": 1900.0, "inclusive_ms": 1900.0, "calls": 42, "memory_bytes": 0
    }  # fmt: skip
    assert {f["name"]: f["self_ms"] for f in one["functions"]}["Shop\\Listing::show"] == 300.0
    statement = one["statements"][0]
    assert statement["statement"] == "SELECT name FROM brand WHERE id = ?"
    assert (statement["count"], statement["total_ms"], len(statement["fingerprint"])) == (42, 1200.0, 16)


def test_a_record_of_another_kind() -> None:
    """PHP-11: a request that died is shown with what is known of it."""
    w = World()
    died = {"id": "d1", "at": NOW - 60, "ms": 30_000.0, "method": "GET", "uri": "/export", "state": "D", "looks": 29}
    found = w.store.add("shop", died, kind="died")
    one = w.ask(f"/api/requests/{found.id}", key=w.key("shop")).json()
    assert (one["died"], one["functions"], one["record"]["state"]) == (True, [], "D")
    assert "died" in w.ask(f"/requests/{found.id}", session=w.session()).text


def test_top() -> None:
    """QUERY-01: the heaviest values; the last hour by default, whole hours beyond six, and that is said."""
    w = World()
    w.store.tops["function"] = [top_row("Shop\\Brand::load", wall_ms=5.0)]
    key = w.key("shop")
    top = w.ask("/api/top?dimension=function", key=key).json()
    assert (top["to"] - top["from"], top["widened"], top["items"][0]["value"]) == (3600, False, "Shop\\Brand::load")
    assert list(top["items"][0])[:2] == ["value", "requests"]
    wide = w.ask(
        "/api/top?dimension=function&from=2026-01-01T00:30:00Z&to=2026-01-01T12:10:00Z&host=web1", key=key
    ).json()
    assert (wide["from"], wide["to"], wide["widened"]) == (1767225600, 1767225600 + 13 * 3600, True)
    assert [asked for asked in w.store.asked if asked[0] == "top"][-1] == (
        "top", frozenset({"shop"}), "function", 1767225600, 1767225600 + 13 * 3600, "web1", limits.SEARCH_DEFAULT
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "dimension"), ("dimension=colour", "dimension"), ("dimension=function&from=now", "from"),
        ("dimension=function&to=soon", "to"), ("dimension=function&from=5&to=4", "to"),
        ("dimension=function&limit=201", "limit"), ("dimension=function&sort=x", "sort"),
        ("dimension=function&from=60&to=60", "to"),
    ],
)  # fmt: skip
def test_wrong_parameters_of_top(query: str, field: str) -> None:
    """QUERY-02: a wrong parameter is 400 with its name."""
    w = World()
    answer = w.ask(f"/api/top?{query}", key=w.key("shop"))
    assert answer.status == 400
    assert answer.json()["details"][0]["field"] == field


@pytest.mark.parametrize("path", ["/api/search", f"/api/requests/{ID}", "/api/projects", "/api/hosts"])
def test_unknown_parameters(path: str) -> None:
    """QUERY-02: a parameter that does not exist is refused, so that a typo never looks like an answer."""
    w = world()
    answer = w.ask(f"{path}?colour=red", key=w.key("shop"))
    assert (answer.status, answer.json()["details"]) == (400, [{"field": "colour", "problem": "unknown parameter"}])


def test_projects_and_hosts() -> None:
    """QUERY-01: what there is to choose from, of what the caller may see."""
    w = world()
    w.store.add("blog", end_record(id="b", host="web2"))
    admin = w.session()
    assert w.ask("/api/projects", session=admin).json() == {"items": ["blog", "shop"]}
    assert w.ask("/api/hosts?project=blog", session=admin).json() == {"items": ["web2"]}
    assert w.ask("/api/projects", key=w.key("blog")).json() == {"items": ["blog"]}


def test_routes_that_do_not_exist() -> None:
    """LIST-04: 404 names the route."""
    answer = world().ask("/api/nothing")
    assert answer.status == 404
    assert "/api/nothing" in answer.json()["message"]


def test_a_question_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIST-04: a question given up by the store says what to do, and is not called our failure."""
    w = world()
    monkeypatch.setattr(w.store, "search", lambda *_: fail(TooSlow()))
    answer = w.ask("/api/search", key=w.key("shop"))
    assert (answer.status, "shorter time" in answer.json()["message"]) == (503, True)


def test_our_own_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIST-04: a failure of ours says that it is one, and nothing of our insides."""
    w = world()
    monkeypatch.setattr(w.store, "search", lambda *_: json.loads("{"))
    for answer in (w.ask("/api/search", key=w.key("shop")), w.ask("/", session=w.session())):
        assert answer.status == 500
        assert "Traceback" not in answer.text
        assert "JSONDecodeError" not in answer.text


def test_spikes() -> None:
    """ADV-05, STOR-04: the spikes of a time, of the caller's projects, newest first, by default those of a day."""
    w = World()
    for id, project, at in (("a", "shop", NOW - 600), ("b", "shop", NOW - 900), ("c", "shop", NOW - 2 * 86_400)):
        w.store.risen.append(kept_spike(id, project, onset=at, opened=at + 5, end=at + 60))
    w.store.risen.append(kept_spike("d", "blog"))
    key = w.key("shop")
    items = w.ask("/api/spikes", key=key).json()["items"]
    assert [item["id"] for item in items] == ["a", "b"]
    assert {"project": "shop", "measure": "tasks", "level": 31.4, "revision": 3}.items() <= items[0].items()
    assert "report" not in items[0]
    assert [item["id"] for item in w.ask(f"/api/spikes?from=0&to={NOW - 800}", key=key).json()["items"]] == ["b", "c"]
    assert [item["id"] for item in w.ask(f"/api/spikes?to={NOW - 800}", key=key).json()["items"]] == ["b"]
    assert w.ask("/api/spikes?host=db1", key=key).json() == {"items": []}
    assert len(w.ask("/api/spikes?from=0&limit=1", key=key).json()["items"]) == 1
    assert w.ask("/api/spikes?project=blog", key=key).status == 403
    for query, field in (("from=x", "from"), ("from=9&to=8", "to"), ("limit=0", "limit"), ("id=a", "id")):
        wrong = w.ask(f"/api/spikes?{query}", key=key)
        assert (wrong.status, wrong.json()["details"][0]["field"]) == (400, field)


def test_one_spike() -> None:
    """VIZ-04: a spike's report by its permanent link, as JSON or Markdown; nobody else's."""
    w = World()
    w.store.risen += [kept_spike("a"), kept_spike("b", "blog")]
    key = w.key("shop")
    one = w.ask("/api/spikes/a", key=key).json()
    assert {"id": "a", "project": "shop", "hosts": ["web1", "web2"], "revision": 3}.items() <= one.items()
    assert msgspec.convert(one, Report) == full_report()
    text = w.ask("/api/spikes/a?format=md", key=key)
    assert (text.header("content-type"), text.text) == ("text/markdown; charset=utf-8", markdown(full_report()))
    assert w.ask("/api/spikes/b", key=key).status == 404
    assert w.ask("/api/spikes/a?format=pdf", key=key).json()["details"][0]["field"] == "format"


def test_any_window_is_explained() -> None:
    """spikes.md: a window picked by hand is explained like a spike; one that is of no use is 400 with its name."""
    w = World()
    key = w.key("shop")
    answer = w.ask(f"/api/explain?from={NOW - 300}&to={NOW - 200}&host=web1", key=key)
    assert msgspec.convert(answer.json(), Report) == full_report()
    assert w.ask(f"/api/explain?from={NOW - 60}&format=md", key=key).text == markdown(full_report())
    shop = frozenset({"shop"})
    assert w.explainer.asked == [(shop, NOW - 300, NOW - 200, "web1"), (shop, NOW - 60, NOW, None)]
    for query, field in (
        ("", "from"), (f"from={NOW - 5}", "to"), (f"from={NOW - 90}&to={NOW - 100}", "to"),
        (f"from={NOW - limits.EXPLAIN_WINDOW_S - 1}", "to"), ("from=1&to=yesterday", "to"), ("start=1", "start"),
        (f"from={NOW - 60}&host=", "host"),
    ):  # fmt: skip
        wrong = w.ask(f"/api/explain?{query}", key=key)
        assert (wrong.status, wrong.json()["details"][0]["field"]) == (400, field)
    assert w.ask(f"/api/explain?from={NOW - 60}&project=blog", key=key).status == 403
