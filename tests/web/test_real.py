"""The API and the pages over a real collector and its real store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.collector.rig import Rig, item, running

NOW = time.time()
IDS = [f"{n}0000000-0000-4000-8000-000000000000" for n in range(4)]


def record(n: int, **changes: Any) -> dict[str, Any]:
    return {
        "t": "end", "v": 2, "id": IDS[n], "at": NOW - 600 * (n + 1), "ms": 100.0 * (n + 1),
        "request": {"method": "GET", "uri": f"/page/{n}?x={n}", "route": f"GET /page/{('even', 'odd')[n % 2]}"},
        "response": {"status": 200 + 100 * n}, "release": f"r{n}",
        "sql": {"n": 2, "ms": 10.0, "queries": [{"sql": f"SELECT {n} FROM t{n}", "ms": 10.0, "n": 2}]},
        "profile": {"kind": "excimer", "period_us": 10_000, "stacks": f"main;f{n} {10 * (n + 1)}\n"},
        **changes,
    }  # fmt: skip


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
        ("duration_max=150.5", [0]), (f"timestamp_start={NOW - 1500}", [1, 0]), (f"timestamp_end={NOW - 1500}", [2]),
        ("sort=time", [0, 1, 2]), ("sort=time&limit=2", [0, 1]), ("limit=1", [2]),
    ],
)  # fmt: skip
def test_every_parameter_of_a_search(rig: Rig, key: str, query: str, found: list[int]) -> None:
    """QUERY-02: each parameter narrows the search to what it says; a key's project bounds it (STOR-04)."""
    answer = rig.ask("GET", f"/api/search?{query}", key=key)
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
