"""Differences of a server's sums, over every way they begin anew."""

from __future__ import annotations

from typing import Any

import pytest

from bitville_apm import limits
from bitville_apm.agent.postgres.counters import VIEWS, Counters
from bitville_apm.agent.postgres.observations import heaviest, statements_json
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import Cost, Extension, Statements, Texts

SUMS = ["calls", "total_ms"]


def row(
    query: int, calls: float, ms: float, since: float | None = None, reset: float | None = None, at: float = 1e9
) -> Any:
    return (10, 5, query, True, since, reset, at, calls, ms)


def calls(costs: list[Cost]) -> dict[int, float]:
    return {cost.key[2]: cost.sums["calls"] for cost in costs}


def test_the_first_reading_says_nothing() -> None:
    """PG-02: what statements cost before the agent came is no news; what they cost since is, and nothing else."""
    statements = Statements()
    assert statements.read(SUMS, [row(1, 100, 500.0), row(2, 7, 3.0)]) == []
    assert calls(statements.read(SUMS, [row(1, 103, 530.0), row(2, 7, 3.0), row(3, 2, 1.0)])) == {1: 3, 3: 2}
    assert statements.read(SUMS, [row(1, 103, 530.0), row(2, 7, 3.0), row(3, 2, 1.0)]) == []
    assert statements.resets == 0


@pytest.mark.parametrize("way", ["fell", "told by the view", "told, and past where it was"])
def test_a_reset_costs_nothing_and_adds_nothing(way: str) -> None:
    """PG-02: after a reset everything counted since it is told, once, however the reset is known."""
    statements = Statements()
    before, after = (None, None) if way == "fell" else (100.0, 200.0)
    statements.read(SUMS, [row(1, 50, 500.0, reset=before), row(2, 5, 5.0, reset=before)])
    now = 80 if way == "told, and past where it was" else 4
    found = statements.read(SUMS, [row(1, now, 40.0, reset=after), row(2, 1, 1.0, reset=after)])
    assert calls(found) == {1: now, 2: 1}
    assert statements.resets == 1


def test_one_that_comes_back_does_not_bring_its_past() -> None:
    """PG-02: of a view longer than what is read, one that was not among those read before counts from now on only,
    unless the server says that it began since.
    """
    statements = Statements()
    full = [row(n, 10, 10.0, since=1.0, at=50.0) for n in range(limits.PG_STATEMENTS_HELD)]
    statements.read(SUMS, full)
    full[0] = row(-1, 9999, 9999.0, since=1.0, at=60.0)
    full[1] = row(-2, 3, 3.0, since=55.0, at=60.0)
    assert calls(statements.read(SUMS, full)) == {-2: 3}


def test_columns_of_every_version() -> None:
    """PG-02: the sums asked for are those that the view has, under names that stay."""
    old = Extension("public", "1.4", frozenset(["calls", "total_time", "rows", "blk_read_time"]), False)
    new = Extension("public", "1.12", frozenset(["calls", "total_exec_time", "rows", "shared_blk_read_time",
                                                 "stats_since", "toplevel"]), True)  # fmt: skip
    assert old.sums == {"calls": "calls", "total_ms": "total_time", "rows": "rows", "read_ms": "blk_read_time"}
    assert set(new.sums) == set(old.sums)
    assert "stats_since" in new.sql()
    assert "NULL::float8" in old.sql()


def test_what_is_sent_is_bounded_and_the_rest_is_added_up() -> None:
    """PG-02: the dearest and the most frequent are told one by one, all others as their sum."""
    costs = [Cost((10, 5, n, True), {"calls": float(1000 - n), "total_ms": float(n)}) for n in range(1000)]
    told = statements_json(costs, 10.0, {}, {("user", 10): "shop", ("database", 5): "shop"})
    assert len(told["statements"]) == limits.PG_STATEMENTS_SENT == len(heaviest(costs))
    assert {"999", "0"} <= {item["query_id"] for item in told["statements"]}
    total = sum(item["calls"] for item in told["statements"]) + told["others"]["calls"]
    assert total == sum(cost.sums["calls"] for cost in costs)
    assert told["left_out"] == 1000 - limits.PG_STATEMENTS_SENT
    assert told["statements"][0]["user"] == "shop"


def test_texts_are_asked_for_once() -> None:
    """PG-02: a query id's text is asked for when it is new; one without a text is not asked for again."""
    texts = Texts()
    assert texts.of(7) is None
    assert texts.wanted() == [7]
    assert texts.missing([1, 7, 1]) == [1, 7]
    texts.learn([1, 7], [(7, "/* correlation:x */ SELECT 'secret'")])
    assert texts.of(7) == "SELECT ?"
    assert texts.of(1) is None
    assert texts.missing([1, 7, 8]) == [8]
    texts.learn(range(limits.PG_TEXTS_HELD + 5), [])
    assert texts.missing([7, limits.PG_TEXTS_HELD + 4]) == [7]


def test_counters_of_views_with_and_without_rows() -> None:
    """LIST-02: sums of a server are told as what was added; one that fell began anew."""
    counters, view = Counters(), next(view for view in VIEWS if view.name == "databases")
    before = {
        "datname": "shop",
        "datid": 5,
        "numbackends": 3,
        "xact_commit": 100,
        "blk_read_time": 1.5,
        "stats_reset": None,
    }
    assert counters.read(view, [before]) == {}
    now = {**before, "xact_commit": 130, "numbackends": 90, "blk_read_time": 0.5}
    assert counters.read(view, [now, {"datname": "new", "xact_commit": 2}]) == {
        "shop": {"xact_commit": 30.0, "blk_read_time": 0.5},
        "new": {"xact_commit": 2.0},
    }
    assert counters.read(view, [now]) == {}


def test_looks_become_rarer_until_they_cost_a_hundredth_of_a_core() -> None:
    """PG-07: 2 ms a look are taken each second, 25 ms each fourth second; neither a slow answer nor the first looks of
    a session, which read catalogues, change anything.
    """
    pace = Pace(1.0)
    for _ in range(4):
        pace.took(0.03, 0.1, 0.03)
    assert not pace.stretched
    for _ in range(20):
        pace.took(0.001, 0.002, 0.001)
    assert not pace.stretched
    pace.took(0.001, 0.9, None)
    assert pace.period == 1.0
    for _ in range(20):
        pace.took(0.015, 0.5, 0.010)
    assert pace.period == 4.0
    assert pace.cost / pace.period <= limits.PG_BUDGET
    for _ in range(20):
        pace.took(30.0, 1.0, 1.0)
    assert pace.period == limits.PG_PERIOD_MOST_S


def test_a_server_that_is_away_is_asked_less_and_less() -> None:
    """PG-07: one second, two, four … up to ten between tries; an answer begins anew."""
    pace = Pace(1.0)
    assert [pace.failed() for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    pace.took(0.001, 0.001, None)
    assert pace.failed() == 1.0
