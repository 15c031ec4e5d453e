"""The API and the pages over a real collector and its real store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from tests.collector.rig import Rig, item, running
from tests.web.sent import IDS, NOW, record


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running(tmp_path_factory.mktemp("collector")) as running_rig:
        items = [item(record(n), n=n, host=f"web{n % 2}") for n in range(3)]
        assert running_rig.post(running_rig.key("shop"), *items).json["stored"] == 3
        assert running_rig.post(running_rig.key("blog"), item(record(3))).json["stored"] == 1
        yield running_rig


@pytest.fixture(scope="module")
def key(rig: Rig) -> str:
    return rig.key("shop", "read")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1, 0]), ("project=shop", [2, 1, 0]), ("source=php_agent", [2, 1, 0]), ("source=postgres_agent", []),
        (f"correlation_id={IDS[1].upper()}", [1]), (f"correlation_id={IDS[3]}", []), ("url=page/1", [1]),
        ("url=%25page%25x=2", [2]), ("endpoint=GET%20/page/even", [2, 0]), ("endpoint=GET%20/page", []),
        ("status=300", [1]), ("host=web0", [2, 0]), ("release=r1", [1]), ("duration_min=200", [2, 1]),
        ("duration_max=150.5", [0]), ("timestamp_start={middle}", [1, 0]), ("timestamp_end={middle}", [2]),
        ("sort=time", [0, 1, 2]), ("sort=time&limit=2", [0, 1]), ("limit=1", [2]),
    ],
)  # fmt: skip
def test_every_parameter_of_a_search(rig: Rig, key: str, query: str, found: list[int]) -> None:
    """QUERY-02: each parameter narrows the search to what it says; a key's project bounds it (STOR-04)."""
    answer = rig.ask("GET", f"/api/search?{query.format(middle=NOW - 1500)}", key=key)
    assert answer.status == 200
    assert [one["id"] for one in answer.json["items"]] == [IDS[n] for n in found]


@pytest.mark.parametrize("sort", ["time", "duration"])
def test_a_cursor_goes_through_all(rig: Rig, key: str, sort: str) -> None:
    """QUERY-02: page by page everything is seen once; a cursor of nobody's is 400 with the parameter's name."""
    seen: list[str] = []
    query = f"/api/search?sort={sort}&limit=1"
    page = rig.ask("GET", query, key=key).json
    seen += [one["id"] for one in page["items"]]
    while page["hasMore"]:
        page = rig.ask("GET", f"{query}&after={page['cursor']}", key=key).json
        seen += [one["id"] for one in page["items"]]
    assert sorted(seen) == IDS[:3]
    wrong = rig.ask("GET", f"{query}&after=nonsense", key=key)
    assert (wrong.status, wrong.json["details"][0]["field"]) == (400, "after")


def test_one_request(rig: Rig, key: str) -> None:
    """PHP-03, PHP-06: a request comes back as it was sent, with its functions and statements; never to others."""
    one = rig.ask("GET", f"/api/requests/{IDS[2]}", key=key).json
    assert one["record"] == record(2)
    assert (one["functions"][0]["name"], one["functions"][0]["self_ms"]) == ("f2", 300.0)
    assert [(s["count"], s["total_ms"]) for s in one["statements"]] == [(2, 10.0)]
    assert rig.ask("GET", f"/api/requests/{IDS[3]}", key=key).status == 404


@pytest.mark.parametrize(
    ("dimension", "value"), [("endpoint", "GET /page/even"), ("function", "f2"), ("release", "r2")]
)
@pytest.mark.parametrize("hours", [1, 12])
def test_top(rig: Rig, key: str, dimension: str, value: str, hours: int) -> None:
    """QUERY-01: the heaviest value of the time asked for is first, from minutes or from whole hours."""
    top = rig.ask("GET", f"/api/top?dimension={dimension}&from={NOW - 3600 * hours}", key=key).json
    assert top["items"][0]["value"] == value
    assert top["widened"] == (hours > 6)
    assert not any(row["value"] in ("GET /page/odd3", "f3", "r3") for row in top["items"])


def test_choices(rig: Rig, key: str) -> None:
    """QUERY-01, STOR-04: projects and hosts to choose from are those of the caller."""
    assert rig.ask("GET", "/api/projects", key=key).json == {"items": ["shop"]}
    assert rig.ask("GET", "/api/hosts", key=key).json == {"items": ["web0", "web1"]}


def test_a_revoked_key_stops_reading(rig: Rig) -> None:
    """LIST-03: a revoked key is refused within a second, without a restart."""
    given = rig.key("shop", "read")
    assert rig.ask("GET", "/api/search", key=given).status == 200
    rig.revoke(given)
    until = time.monotonic() + 5
    while rig.ask("GET", "/api/search", key=given).status == 200 and time.monotonic() < until:
        time.sleep(0.05)
    assert rig.ask("GET", "/api/search", key=given).status == 401


def test_series(rig: Rig, key: str) -> None:
    """QUERY-05: minute by minute, all values or one, with percentiles; a key sees its project only."""
    asked = f"/api/series?from={NOW - 3600}&to={NOW}"
    whole = rig.ask("GET", asked, key=key).json
    assert (whole["dimension"], whole["name"], whole["step_s"]) == ("endpoint", None, 60)
    assert sum(point["requests"] for point in whole["items"]) == 3
    odd = rig.ask("GET", f"{asked}&name=GET%20/page/odd", key=key).json["items"]
    assert [(p["requests"], p["wall_ms"], p["max_ms"]) for p in odd] == [(1, 200.0, 200.0)]
    assert odd[0]["at"] == int((NOW - 1200 + 0.2) // 60) * 60
    assert odd[0]["p95_ms"] == pytest.approx(200, rel=0.05)
    assert rig.ask("GET", f"/api/series?from={NOW - 86_400}&name=GET%20/page/odd", key=key).json["step_s"] == 3600
    assert rig.ask("GET", asked + "&dimension=colour", key=key).status == 400


def test_stats(rig: Rig, key: str) -> None:
    """QUERY-05: an endpoint's durations, over all of its requests, named by itself or by a URL it has."""
    by_name = rig.ask("GET", "/api/stats?endpoint=GET%20/page/even", key=key).json
    assert (by_name["count"], by_name["avg_duration"], by_name["max_duration"]) == (2, 200.0, 300.0)
    assert by_name["min_duration"] == pytest.approx(100, rel=0.05)
    assert [by_name[p] for p in ("p50", "p95", "p99")] == pytest.approx([100, 300, 300], rel=0.05)
    by_url = rig.ask("GET", "/api/stats?url=/page/2", key=key).json
    assert by_url == {**by_name, "url": "/page/2", "from": by_url["from"], "to": by_url["to"]}
    nothing = rig.ask("GET", "/api/stats?url=/never/17", key=key).json
    assert (nothing["endpoint"], nothing["count"], nothing["p50"]) == ("GET /never/{}", 0, None)
    for query in ("", "url=/a&endpoint=b", "endpoint=b&colour=red"):
        assert rig.ask("GET", f"/api/stats?{query}", key=key).status == 400


def test_statistics(rig: Rig, key: str) -> None:
    """QUERY-05: how much there is, of the asker's project."""
    got = rig.ask("GET", "/api/statistics", key=key).json
    assert got == {
        "total_records": 3, "total_php_requests": 3, "total_postgres_records": 0, "counted_requests": 3,
        "oldest_timestamp": pytest.approx(NOW - 1800), "newest_timestamp": pytest.approx(NOW - 600),
        "avg_duration": 200.0, "by_source": {"php_agent": 3, "postgres_agent": 0},
    }  # fmt: skip
    assert rig.ask("GET", "/api/statistics?project=blog", key=key).status == 403


def test_compare_a_request(rig: Rig, key: str) -> None:
    """QUERY-05: a request's rank is the share of its endpoint's requests that were at most as slow."""
    slow = rig.ask("GET", f"/api/compare?correlation_id={IDS[2]}", key=key).json
    assert slow["request"]["correlation_id"] == IDS[2]
    ranks = slow["comparison"]
    assert (ranks["percentile_rank"], ranks["faster_than_percent"]) == (100.0, 0.0)
    # The day up to its end in whole hours: the faster one, twenty minutes later, may or may not be in it.
    assert (ranks["avg_duration"], ranks["sample_size"]) in [(300.0, 1), (200.0, 2)]
    fast = rig.ask("GET", f"/api/compare?correlation_id={IDS[0]}", key=key).json["comparison"]
    assert (fast["percentile_rank"], fast["faster_than_percent"], fast["sample_size"]) == (50.0, 50.0, 2)
    assert rig.ask("GET", f"/api/compare?correlation_id={IDS[3]}", key=key).status == 404


def test_compare_two_windows(rig: Rig, key: str) -> None:
    """QUERY-05: what grew between two windows comes first, values that only one of them has too."""
    query = f"a={NOW - 2400},{NOW - 1500}&b={NOW - 900},{NOW}"
    got = rig.ask("GET", f"/api/compare?{query}&dimension=release", key=key).json
    assert [(item["value"], item["a"] is None, item["b"] is None) for item in got["items"]] == [
        ("r2", False, True), ("r0", True, False)
    ]  # fmt: skip
    assert got["items"][0]["change"] < 0 < got["items"][1]["change"]
    for wrong in ("a=1,2", "a=2,1&b=1,2", "a=1&b=1,2", f"{query}&limit=0"):
        assert rig.ask("GET", f"/api/compare?{wrong}", key=key).status == 400


def test_means_are_over_the_time_that_is_known(rig: Rig) -> None:
    """QUERY-01: a minute after the first agent was started a mean is that of a minute, not of the hour asked for; where
    something was counted before, the time since then is known.
    """
    young, reader = rig.key("young"), rig.key("young", "read")
    begin = int(NOW) // 10 * 10 - 70
    seconds = {"tasks": [3] * 10, "in_flight": [1] * 10}
    cells = {"endpoint": {"values": ["GET /a"], "columns": {"requests": [20], "cpu_us": [30_000_000]}}}
    told = [
        {"id": str(uuid.uuid4()), "at": at, "secs": 10, "v": 2, "seconds": seconds, "load": {}, "cells": cells}
        for at in range(begin, begin + 50, 10)
    ]
    items = [item(one, k="frame", n=n) for n, one in enumerate(told)]
    assert rig.post(young, *items).json["stored"] == 5
    for range_ in ("", f"&from={NOW - 86_400}"):
        top = rig.ask("GET", f"/api/top?dimension=endpoint{range_}", key=reader).json
        assert top["known_s"] == 50
        assert sum(row["running_s"] for row in top["items"]) / top["known_s"] == 3.0
    change = rig.ask("GET", f"/api/compare?a={NOW - 7200},{NOW - 3600}&b={NOW - 3600},{NOW + 60}", key=reader).json
    assert change["items"][0]["change"] == 3.0
    sent = rig.post(young, item(record(2, id=str(uuid.uuid4()), at=NOW - 1801)))
    assert sent.json["stored"] == 1
    counted = (NOW - 1801 + 0.3) // 60 * 60
    assert rig.ask("GET", "/api/top?dimension=endpoint", key=reader).json["known_s"] == begin + 50 - counted
    assert rig.ask("GET", "/api/top?dimension=endpoint", key=rig.key("none", "read")).json["known_s"] == 3600


def test_correlation(rig: Rig, key: str) -> None:
    """LIST-05: a request with its statements and what its database was seen doing; 404 for another project's."""
    observed = {
        "source": "pg_stat_activity", "at": NOW - 600, "correlation_id": IDS[0], "data": [{"wait_event_type": "Lock"}],
    }  # fmt: skip
    assert rig.post(rig.key("shop"), observed, path="/ingest/postgres").json["stored"] == 1
    got = rig.ask("GET", f"/api/correlation/{IDS[0]}", key=key).json
    assert got["trace"]["php_request"]["record"] == record(0)
    assert [s["count"] for s in got["trace"]["sql_queries"]] == [2]
    assert [r["data"]["data"] for r in got["trace"]["other_records"]] == [[{"wait_event_type": "Lock"}]]
    assert got["summary"] == {"total_records": 2, "php_count": 1, "postgres_count": 1, "total_sql_time_ms": 10.0}
    assert rig.ask("GET", f"/api/correlation/{IDS[3]}", key=key).status == 404


def test_sessions_on_a_requests_page(rig: Rig, key: str) -> None:
    """LIST-05, PG-06: a request's page has its sessions and, of the lock trees while it ran, who held it up; so has the
    API.
    """
    own = {"pid": 7, "user": "shop", "database": "shop", "statement": "UPDATE stock", "correlation_id": IDS[2]}
    tree = [{"session": "shop@shop 6", "depth": 0, "blocked": 1, "correlation_id": IDS[1]}, {**own, "depth": 1}]
    ran = {
        "source": "pg_stat_activity",
        "correlation_id": IDS[2],
        "data": {"sessions": [{**own, "waits_s": {"CPU": 2}}]},
    }
    for observed in ({**ran, "at": NOW - 1799}, {"source": "pg_locks", "at": NOW - 1795, "data": {"tree": tree}}):
        assert rig.post(rig.key("shop"), observed, path="/ingest/postgres").json["stored"] == 1
    page = rig.ask("GET", f"/requests/{IDS[2]}", key=key).body.decode()
    for text in ("UPDATE stock", "shop@shop 7", "2.00\u202fs", "shop@shop 6", f'href="/requests/{IDS[1]}"'):
        assert text in page
    told = rig.ask("GET", f"/api/requests/{IDS[2]}", key=key).json["database"]
    assert [one["seconds"] for one in told["sessions"]] == [2.0]
    assert [one["request"] for one in told["held_up_by"]] == [IDS[1]]


@pytest.mark.parametrize("form", ["speedscope", "folded", "xhprof"])
def test_exports(rig: Rig, key: str, form: str) -> None:
    """VIZ-01: a profile is given to other tools in their formats, with all of its time, as a file."""
    got = rig.ask("GET", f"/api/requests/{IDS[1]}?format={form}", key=key)
    assert got.status == 200
    assert f'filename="{IDS[1]}.{form}.' in got.headers["content-disposition"]
    if form == "folded":
        assert got.body == b"main;f1 20\n"
    elif form == "xhprof":
        assert {edge: entry["wt"] for edge, entry in got.json.items()} == {
            "main()": 200_000, "main()==>main": 200_000, "main==>f1": 200_000
        }  # fmt: skip
    else:
        (profile,) = got.json["profiles"]
        assert [f["name"] for f in got.json["shared"]["frames"]] == ["main", "f1"]
        assert (profile["samples"], profile["weights"], profile["endValue"]) == ([[0, 1]], [200_000], 200_000)
