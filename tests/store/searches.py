"""What a store's searches find, page by page and for whom; see `contract.py`."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.store.interface import Arrival, BadCursor, Search
from tests.store.contract import SHOP, Contract, Open, quick, recounted, some_ends
from tests.store.make import DAY, NOON, end, frame, new_id, postgres


class SearchesContract(Contract):
    """QUERY-02: every parameter, cursors, and projects that are seen by those who may."""

    @quick
    @given(arrivals=some_ends(), limit=st.integers(1, 5), sort=st.sampled_from(["duration", "time"]))
    def test_a_cursor_neither_skips_nor_repeats(self, arrivals: list[Arrival], limit: int, sort: str) -> None:
        """QUERY-02: the pages of a search together are all rows once and in order, however many tie."""
        with self.open() as opened:
            opened.write(*arrivals, *(postgres(NOON, project=a.project) for a in arrivals[:4]))
            pages = list(opened.pages(None, limit=limit, sort=sort))
            rows = [item for page in pages for item in page]
            assert all(len(page) <= limit for page in pages)
            assert len({(r.project, r.id) for r in rows}) == len(rows)
            assert len(rows) == len({(a.project, a.id) for a in arrivals}) + len(arrivals[:4])
            keys = [-1 if r.duration_ms is None else r.duration_ms for r in rows] if sort == "duration" else None
            keys = keys if keys is not None else [r.at for r in rows]
            assert keys == sorted(keys, reverse=True)

    @quick
    @given(arrivals=some_ends(("shop", "blog", "wiki")), seen=st.sets(st.sampled_from(["shop", "blog", "none"])))
    def test_a_project_is_seen_by_those_who_may(self, arrivals: list[Arrival], seen: set[str]) -> None:
        """STOR-04, QUERY-06: every answer comes from the caller's projects only, and lacks nothing of them."""
        projects = frozenset(seen)
        with self.open() as opened:
            more = [postgres(project="shop"), frame(project="wiki", host="wikihost"), frame(project="blog")]
            opened.write(*arrivals, *more)
            own = [a for a in {(a.project, a.id): a for a in reversed(arrivals)}.values() if a.project in projects]
            rows = [item for page in opened.pages(projects, limit=100) for item in page]
            assert {r.project for r in rows} <= projects
            assert len([r for r in rows if r.source == "php_agent"]) == len(own)
            assert {row.value: (row.requests, row.wall_ms) for row in opened.top(projects=projects)} == recounted(own)
            assert set(opened.pump.ask(opened.store.projects(projects))) <= projects
            hosts = opened.pump.ask(opened.store.hosts(projects))
            assert "wikihost" not in hosts
            assert len(opened.frames(0, 1e10, projects)) == ("blog" in projects)
            for arrival in arrivals:
                stored = opened.request(arrival.id, projects)
                assert stored is None or stored.found.project in projects
                assert (stored is not None) == any(a.id == arrival.id for a in own)

    @pytest.mark.parametrize(
        ("parameters", "wanted"),
        [
            ({"source": "php_agent"}, "abc"),
            ({"source": "postgres_agent"}, "p"),
            ({"correlation_id": new_id(1).upper()}, "ap"),
            ({"url": "basket"}, "b"),
            ({"url": "/a%=1"}, "a"),
            ({"url": "a_x"}, ""),
            ({"endpoint": "GET /basket"}, "b"),
            ({"endpoint": "pg_locks"}, "p"),
            ({"status": 404}, "b"),
            ({"host": "web2"}, "c"),
            ({"host": "nowhere"}, ""),
            ({"release": "r1"}, "a"),
            ({"duration_min": 20}, "bc"),
            ({"duration_max": 20}, "ab"),
            ({"duration_min": 20, "duration_max": 20}, "b"),
            ({"timestamp_start": NOON}, "acp"),
            ({"timestamp_end": NOON - 1}, "b"),
            ({"timestamp_start": NOON, "timestamp_end": NOON, "source": "php_agent"}, "ac"),
        ],
    )
    def test_each_parameter_of_a_search(self, opened: Open, parameters: dict[str, Any], wanted: str) -> None:
        """QUERY-02, STOR-03: every parameter keeps what it names and leaves out the rest."""
        a = end(new_id(1), NOON, 10, body={"request": {"method": "GET", "uri": "/axx?k=1"}, "release": "r1"})
        b_request = {"request": {"method": "GET", "uri": "/basket"}, "response": {"status": 404}}
        b = end(new_id(2), NOON - DAY, 20, body=b_request)
        c = end(new_id(3), NOON, 30, host="web2")
        p = postgres(NOON + 1, correlation_id=a.id)
        names = {a.id: "a", b.id: "b", c.id: "c", p.id: "p"}
        opened.write(a, b, c, p)
        assert sorted(names[f.id] for f in opened.search(**parameters)) == sorted(wanted)
        by_time = opened.search(sort="time", **parameters)
        assert sorted(names[f.id] for f in by_time) == sorted(wanted)

    @quick
    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([5.0, 6.0, 7.0]), st.sampled_from(["/one", "/ONE/two", "/x"])),
            max_size=30,
        ),
        st.sampled_from(["one", "/one", "e/tw", "two", "o%w", "none"]),
        st.sampled_from(["duration", "time"]),
    )
    def test_a_url_is_found_on_every_day(self, made: list[tuple[int, float, str]], url: str, sort: str) -> None:
        """QUERY-02: a search by URL has every match of every day once, in order, however many days tie."""
        with self.open() as opened:
            ends = [
                end(at=NOON - day * DAY, ms=ms, body={"request": {"method": "GET", "uri": uri}})
                for day, ms, uri in made
            ]
            opened.write(*ends)
            found = [item for page in opened.pages(SHOP, url=url, sort=sort, limit=2) for item in page]
            wanted = [
                a for a, (_, _, uri) in zip(ends, made, strict=True) if re.search(url.replace("%", ".*"), uri, re.I)
            ]
            assert sorted(f.id for f in found) == sorted(a.id for a in wanted)
            keys = [(f.duration_ms if sort == "duration" else f.at, f.id) for f in found]
            assert keys == sorted(keys, reverse=True)

    @pytest.mark.parametrize("after", ["", "x", "!!!", "bnVsbA", "WzFd", "\u00fc", "A" * 3000, "[]"])
    def test_garbage_is_no_cursor(self, opened: Open, after: str) -> None:
        """QUERY-02: a wrong cursor is told, never taken for a beginning."""
        with pytest.raises(BadCursor):
            opened.search(after=after)

    def test_a_cursor_belongs_to_its_order(self, opened: Open) -> None:
        """QUERY-02: the cursor of one order does not continue another."""
        opened.write(end(), end())
        cursor = opened.pump.ask(opened.store.search(None, Search(limit=1))).cursor
        with pytest.raises(BadCursor):
            opened.search(after=cursor, sort="time")

    def test_projects_and_hosts(self, opened: Open) -> None:
        """STOR-04: the names of what sent something, of the caller's projects only."""
        opened.write(end(), end(project="blog", host="web2"), frame(host="web3"), postgres(NOON - DAY, host="db1"))
        ask = opened.pump.ask
        assert sorted(ask(opened.store.projects(None))) == ["blog", "shop"]
        assert sorted(ask(opened.store.hosts(None))) == ["db1", "web1", "web2", "web3"]
        assert sorted(ask(opened.store.hosts(SHOP))) == ["db1", "web1", "web3"]
