"""Row 28: two projects in one store, asked ten thousand times for one of them (faults 28)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm.store.interface import Arrival
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, drifts, end, frame, new_id, postgres, spike
from tests.store.opened import sqlite_in

OWN, OTHER = "shop", "shop-2"
MINE = frozenset({OWN})
PATHS = ("/cart", "/cart/items", "/basket")
HOSTS = ("web1", "web2")


def made() -> list[Arrival]:
    """Records of both projects that have everything in common but their durations: odd ms are ours, even ms theirs."""
    chance, found = random.Random(28), []
    for n in range(160):
        for odd, project in ((1, OWN), (0, OTHER)):
            at = NOON - chance.choice((0, 0, DAY)) - 60 * chance.randrange(3)
            ms = float(2 * chance.randrange(50) + odd)
            sql = {"n": 1, "ms": ms, "queries": [{"sql": f"SELECT {project[4:] or 1} FROM a", "ms": ms, "n": 1}]}
            body = {
                "request": {"method": "GET", "uri": chance.choice(PATHS)}, "release": f"r{n % 3}", "sql": sql,
                "response": {"status": chance.choice((200, 404))},
            }  # fmt: skip
            found.append(end(new_id(n), at, ms, project=project, host=chance.choice(HOSTS), body=body))
            if n % 8 == 0:
                found.append(postgres(at, project=project, correlation_id=new_id(n)))
                found.append(frame(at, project=project, host=chance.choice(HOSTS), lost={"looks": odd}))
    return found


ARRIVALS = made()
OURS = [arrival for arrival in ARRIVALS if arrival.project == OWN]
REQUESTS = [(arrival, arrival.request) for arrival in OURS if arrival.request is not None]


SPIKES = [
    spike(f"{project}-{n}", NOON - 60 * (n % 7), project=project, hosts=[HOSTS[n % 2]], signature=f"s{n % 3}")
    for n in range(20)
    for project in (OWN, OTHER)
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with ExitStack() as stack:
        it = stack.enter_context(sqlite_in(Path(tmp_path_factory.mktemp("store")), Pump()))
        it.write(*ARRIVALS)
        for kept in SPIKES:
            it.pump.ask(it.store.keep_spike(kept))
        for project in (OWN, OTHER):
            it.pump.ask(it.store.keep_drifts(drifts(project)))
        yield it


def searched(opened: Open, draw: Callable[[Any], Any]) -> None:
    """Every condition of a search, taken from a record that is there."""
    arrival, like = draw(st.sampled_from(REQUESTS))
    conditions: dict[str, tuple[Any, Callable[[Arrival, Any], bool]]] = {
        "correlation_id": (arrival.id, lambda a, r: a.id == arrival.id),
        "url": (like.uri[:5], lambda a, r: like.uri[:5] in r.uri),
        "endpoint": (like.endpoint, lambda a, r: r.endpoint == like.endpoint),
        "status": (like.status, lambda a, r: r.status == like.status),
        "host": (arrival.host, lambda a, r: a.host == arrival.host),
        "release": (like.release, lambda a, r: r.release == like.release),
        "duration_min": (like.ms, lambda a, r: r.ms >= like.ms),
        "duration_max": (like.ms, lambda a, r: r.ms <= like.ms),
        "timestamp_start": (like.at, lambda a, r: r.at >= like.at),
        "timestamp_end": (like.at, lambda a, r: r.at <= like.at),
    }
    asked = draw(st.sets(st.sampled_from(sorted(conditions)), max_size=3))
    more = {"sort": draw(st.sampled_from(["duration", "time"])), "limit": draw(st.integers(20, 100))}
    values = {name: conditions[name][0] for name in asked}
    found = [row for page in opened.pages(MINE, source="php_agent", **values, **more) for row in page]
    wanted = {a.id: r.ms for a, r in REQUESTS if all(conditions[name][1](a, r) for name in asked)}
    assert {row.id: row.duration_ms for row in found} == wanted
    assert len(found) == len(wanted) > 0


def ranked(opened: Open, draw: Callable[[Any], Any]) -> None:
    """The heaviest values, and one of them over time."""
    dimension = draw(st.sampled_from(["endpoint", "statement", "release"]))
    day, host = draw(st.sampled_from([None, 0.0, DAY])), draw(st.sampled_from([None, *HOSTS]))
    start, behind = (0.0, 1e10) if day is None else (NOON - day - 3600, NOON - day + 3600)
    wanted: dict[str, tuple[int, int]] = {}
    for arrival, request in REQUESTS:
        if start <= request.end < behind and host in (None, arrival.host):
            for (its, value), columns in arrival.cells.items():
                if its == dimension:
                    n, us = wanted.get(value, (0, 0))
                    wanted[value] = (n + columns.requests, us + columns.wall_us)
    rows = opened.top(dimension, start, behind, projects=MINE, host=host)
    assert {row.value: (row.requests, round(row.wall_ms * 1000)) for row in rows} == wanted != {}
    value = draw(st.sampled_from(sorted(wanted)))
    points = opened.pump.ask(opened.store.series(MINE, dimension, value, start, behind, host))
    assert sum(p.row.requests for p in points) == wanted[value][0] > 0


def risen(opened: Open, draw: Callable[[Any], Any]) -> None:
    """Spikes, listed and one by one."""
    ask, store = opened.pump.ask, opened.store
    host, signature = draw(st.sampled_from([None, *HOSTS])), draw(st.sampled_from([None, "s0", "s1"]))
    found = ask(store.spikes(MINE, 0.0, 1e10, host, 100, signature))
    own = [kept for kept in SPIKES if kept.project == OWN]
    wanted = {kept.id for kept in own if host in (None, *kept.hosts) and signature in (None, kept.signature)}
    assert {kept.id for kept in found} == wanted != set()
    kept = draw(st.sampled_from(SPIKES))
    assert ask(store.spike(MINE, kept.id)) == (kept if kept.project == OWN else None)


def told(opened: Open, draw: Callable[[Any], Any]) -> None:
    """Everything else that can be asked."""
    arrival = draw(st.sampled_from(OURS))
    ask, store = opened.pump.ask, opened.store
    if arrival.frame is not None:
        found = opened.frames(arrival.frame.at, arrival.frame.at + 1, MINE)
        assert {frame.lost["looks"] for frame in found} == {1}
        assert arrival.id in {frame.id for frame in found}
    else:
        stored = opened.request(arrival.id, MINE)
        assert (stored.body, stored.found.project) == (arrival.body, OWN)
    wanted = {a.id for a in OURS if a.postgres is not None and a.postgres.correlation_id == arrival.id}
    assert {stored.found.id for stored in ask(store.correlated(MINE, arrival.id))} == wanted
    counted = ask(store.statistics(MINE))
    assert (counted.requests, counted.observations) == (len(REQUESTS), sum(a.postgres is not None for a in OURS))
    assert list(ask(store.projects(MINE))) == [OWN]
    assert [night.project for night in ask(store.drifts(MINE))] == [OWN]
    assert set(ask(store.hosts(MINE))) == {a.host for a in OURS}


def ask_everything(opened: Open, queries: int) -> None:
    """So many questions, each held against a plain filter of what was written."""

    @settings(max_examples=queries, deadline=None, database=None)
    @given(st.data())
    def one(data: st.DataObject) -> None:
        data.draw(st.sampled_from([searched, searched, ranked, risen, told]))(opened, data.draw)

    one()


def test_projects_never_mix(opened: Open) -> None:
    """STOR-04, QUERY-06, faults 28: every answer is exactly the caller's own, and never empty where something is."""
    ask_everything(opened, 300)


@pytest.mark.full
def test_projects_never_mix_ten_thousand_times(opened: Open) -> None:
    """STOR-04, QUERY-06, faults 28: the same at full count."""
    ask_everything(opened, 10_000)
