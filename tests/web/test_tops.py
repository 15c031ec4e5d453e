"""Pages of the heaviest: each dimension has the columns it knows, and what ranks its rows comes first."""

from __future__ import annotations

import re

import pytest

from bitville_apm import limits
from tests.web.html import HOSTILE, assert_harmless, shown
from tests.web.made import top_row
from tests.web.world import World, shop


def test_php_outside_of_requests_has_words() -> None:
    """QUERY-01: what PHP ran in no request is an endpoint that nobody can search for; it is said in words."""
    w = World()
    w.store.tops["endpoint"] = [top_row("~php"), top_row("~other")]
    page = w.ask("/top?dimension=endpoint", session=w.session()).text
    assert "PHP outside of requests" in page
    assert "all others together" in page
    assert "endpoint=~php" not in page.replace("%7E", "~")


def test_tops() -> None:
    """QUERY-01: the heaviest functions, with what a profiler cannot know left open rather than zero."""
    w = shop()
    text = shown(w.ask("/top?dimension=function", session=w.session()).text)
    assert "Shop\\Brand::load" in text
    assert "Self time" in text
    assert "p95" not in text
    assert "p95" in shown(w.ask("/top?dimension=endpoint", session=w.session()).text)
    assert "whole hours" in shown(w.ask("/top?dimension=function&last=24h", session=w.session()).text)


@pytest.mark.parametrize("dimension", limits.DIMENSION_CAPS)
def test_every_dimension_has_a_page(dimension: str) -> None:
    """QUERY-01: each dimension of wire.md 6 can be looked at, empty or not, whatever its values are called."""
    w = World()
    empty = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert ("No database is watched" if dimension in ("wait", "blocker") else "Nothing was counted") in empty
    w.store.tops[dimension] = [top_row(HOSTILE), top_row("~other")]
    page = w.ask(f"/top?dimension={dimension}", session=w.session())
    assert page.status == 200
    assert_harmless(page.text)


@pytest.mark.parametrize("dimension", ["wait", "blocker", "function"])
def test_no_database_is_watched(dimension: str) -> None:
    """CFG-02, LIST-05: where no agent ever told of a database, its pages say how one is watched; where one did, and on
    other pages, they do not.
    """
    w = shop()
    page = w.ask(f"/top?dimension={dimension}&project=shop", session=w.session())
    assert ("[postgres NAME]" in page.text) == (dimension in ("wait", "blocker"))
    assert ("bitville postgres setup" in page.text) == (dimension in ("wait", "blocker"))
    w.store.observe("pg_stat_activity", {"sessions": []})
    watched = w.ask(f"/top?dimension={dimension}&project=shop", session=w.session())
    assert "Nothing was counted" in watched.text or dimension == "function"
    assert "[postgres NAME]" not in watched.text


@pytest.mark.parametrize("dimension", ["endpoint", "function"])
def test_what_rows_are_ranked_by_comes_first(dimension: str) -> None:
    """QUERY-01: where anything has a load, that is the first number and the bar; else wall time is."""
    w = World()
    w.store.tops[dimension] = [
        top_row("waits little", running_s=3.0, blocked_s=1.0, wall_ms=5000.0),
        top_row("waits long", running_s=1.0, wall_ms=90_000.0),
    ]
    loaded = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert re.findall(r"<th[^>]*>([A-Z][^<]*)<", loaded)[1] == "Load"
    assert re.findall(r'<td class="num strong">([^<]+)<', loaded) == ["4.00\u202fs", "1.00\u202fs"]
    w.store.tops[dimension] = [top_row("waits long", running_s=0.0, wall_ms=90_000.0)]
    waited = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert ">Load<" not in waited
    assert re.findall(r'<td class="num strong">([^<]+)<', waited) == ["1\u202fm 30\u202fs"]


@pytest.mark.parametrize(
    ("dimension", "columns"),
    [
        ("process", ["Process", "Load", "CPU", "Waited for a CPU", "Blocked"]),
        ("wait", ["Database wait", "Session time", "Running", "Disk", "Waiting"]),
        ("blocker", ["Blocker", "Held up"]),
        ("external", ["External call", "Load", "Total time", "Calls", "Requests", "Mean", "Max", "CPU", "Errors"]),
    ],
)
def test_columns_that_a_dimension_has(dimension: str, columns: list[str]) -> None:
    """QUERY-01: what only looks know (processes, database waits, blockers) has no columns of requests; what waits the
    longest comes first, though it is no load.
    """
    w = World()
    w.store.tops[dimension] = [
        top_row("short", cpu_ms=910.0, queue_ms=0.0, waiting_s=0.0),
        top_row("long", cpu_ms=910.0, queue_ms=0.0, waiting_s=9.0),
    ]
    page = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert re.findall(r"<th[^>]*>([^<]+)<", page) == columns
    waited = dimension in ("wait", "blocker")
    assert (page.index(">long<") < page.index(">short<")) == waited
    assert ("9.91" in page) == waited
