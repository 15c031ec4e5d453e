"""What every store keeps, whatever it is made of. A subclass says how to open one."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import cells, sqltext
from bitville_apm.store.interface import Arrival, BadCursor, Found, IStore, Projects, Search
from tests.store.make import DAY, NOON, Pump, died, end, frame, new_id, postgres, request

SHOP = frozenset({"shop"})
BLOG = frozenset({"blog"})
quick = settings(max_examples=30, deadline=None)


@attrs.define
class Open:
    """An open store, asked synchronously."""

    store: IStore
    pump: Pump

    def write(self, *batch: Arrival) -> list[str]:
        return list(self.pump.ask(self.store.write(batch)))

    def search(self, projects: Projects = None, **parameters: Any) -> list[Found]:
        return self.pump.ask(self.store.search(projects, Search(**parameters))).items

    def pages(self, projects: Projects, **parameters: Any) -> Iterator[list[Found]]:
        """All pages of a search."""
        after = None
        while True:
            page = self.pump.ask(self.store.search(projects, Search(after=after, **parameters)))
            yield page.items
            after = page.cursor
            if after is None:
                return

    def request(self, id: str, projects: Projects = None) -> Any:
        return self.pump.ask(self.store.request(projects, id))

    def top(
        self, dimension: str = "endpoint", start: float = 0, end: float = 1e10, *, projects: Projects = None,
        host: str | None = None, limit: int = 200,
    ) -> list[Any]:  # fmt: skip
        return self.pump.ask(self.store.top(projects, dimension, start, end, host, limit))

    def frames(self, start: float, end: float, projects: Projects = None, host: str | None = None) -> list[Any]:
        return [framed.frame for framed in self.pump.ask(self.store.frames(projects, start, end, host))]


def some_ends(projects: Sequence[str] = ("shop", "blog")) -> st.SearchStrategy[list[Arrival]]:
    """Requests of some projects whose ids, times and durations often coincide, over two days."""
    return st.lists(
        st.builds(
            lambda project, n, day, ms, minute, path, framed: end(
                new_id(n),
                NOON + day * DAY + minute * 60,
                ms,
                project=project,
                framed=framed,
                body={"request": {"method": "GET", "uri": path}},
            ),
            st.sampled_from(projects),
            st.integers(0, 12),
            st.sampled_from([0, -1]),
            st.sampled_from([10.0, 10.0, 20.0]),
            st.integers(0, 1),
            st.sampled_from(["/a", "/b?x=1"]),
            st.booleans(),
        ),
        max_size=25,
    )


def recounted(arrivals: Sequence[Arrival]) -> dict[str, tuple[int, float]]:
    """Endpoint -> requests and wall ms, of arrivals that are to be rolled up."""
    totals: dict[str, tuple[int, float]] = {}
    for arrival in arrivals:
        for (dimension, value), columns in arrival.cells.items():
            if dimension == "endpoint":
                n, ms = totals.get(value, (0, 0.0))
                totals[value] = (n + columns.requests, ms + columns.wall_us / 1000)
    return totals


class Contract(abc.ABC):
    """Tests of any store."""

    @abc.abstractmethod
    def open(self) -> AbstractContextManager[Open]:
        """A new, empty store at noon of `NOON`'s day."""

    @pytest.fixture
    def opened(self) -> Iterator[Open]:
        with self.open() as opened:
            yield opened


class StoreContract(Contract):
    """See the module."""

    # --- Writing ------------------------------------------------------------------------------------------

    def test_a_record_comes_back_as_the_bytes_it_came_as(self, opened: Open) -> None:
        """STOR-03: a stored record is found by its id, whole, with what a search shows of it."""
        body = {"response": {"status": 503}, "release": "r7", "unknown": {"kept": [1, "ü"]}, "ss": [5_000_000, 0]}
        arrival = end(at=NOON, ms=250.5, body=body)
        assert opened.write(arrival) == ["stored"]
        stored = opened.request(arrival.id)
        assert stored.body == arrival.body
        assert json.loads(stored.body)["unknown"] == {"kept": [1, "ü"]}
        assert (stored.kind, stored.recv_ms, stored.client_id) == ("end", arrival.recv_ms, None)
        found = stored.found
        assert (found.project, found.source, found.endpoint) == ("shop", "php_agent", "GET /cart")
        assert (found.status, found.duration_ms, found.release, found.cpu_ms) == (503, 250.5, "r7", 5.0)
        assert opened.search() == [found]
        assert opened.request(new_id()) is None

    @quick
    @given(batches=st.lists(some_ends(), min_size=1, max_size=3))
    def test_a_duplicate_changes_nothing(self, batches: list[list[Arrival]]) -> None:
        """I1: of several arrivals of one identity the first is stored and counted, the others are duplicates;
        rolls equal a recount of what was stored and no frame counts.
        """
        with self.open() as opened:
            kept: dict[tuple[str, str], Arrival] = {}
            for batch in batches:
                wanted = []
                for arrival in batch:
                    new = (arrival.project, arrival.id) not in kept
                    kept.setdefault((arrival.project, arrival.id), arrival)
                    wanted.append("stored" if new else "duplicate")
                assert opened.write(*batch) == wanted
            found = [item for page in opened.pages(None, limit=7) for item in page]
            assert sorted((f.project, f.id) for f in found) == sorted(kept)
            counted = {row.value: (row.requests, row.wall_ms) for row in opened.top()}
            assert counted == recounted(list(kept.values()))
            for (project, id), arrival in kept.items():
                assert opened.request(id, frozenset({project})).body == arrival.body

    @pytest.mark.parametrize("apart", [0.0, DAY])
    @pytest.mark.parametrize("framed", [False, True])
    def test_an_end_takes_the_place_of_a_died(self, opened: Open, apart: float, framed: bool) -> None:
        """wire.md 5: an end replaces a died of its own day or the one before, in the rolls as well."""
        id = new_id()
        other = end(at=NOON, ms=30)
        first = died(id, NOON - apart, 50, framed=framed)
        assert opened.write(other, first) == ["stored", "stored"]
        assert opened.request(id).found.died
        last = end(id, NOON - apart, 50 + apart * 1000, framed=framed)
        assert opened.write(last) == ["stored"]
        assert opened.request(id).body == last.body
        assert [f.died for f in opened.search(correlation_id=id)] == [False]
        rows = {row.value: row for row in opened.top()}
        wanted = recounted([other, last])
        assert {value: (row.requests, row.wall_ms) for value, row in rows.items()} == wanted
        assert rows["GET /cart"].errors == 0
        assert opened.write(last, first) == ["duplicate", "duplicate"]
        assert opened.request(id).body == last.body

    @pytest.mark.parametrize("framed", [False, True])
    def test_a_batch_knows_what_came_earlier_in_it(self, opened: Open, framed: bool) -> None:
        """I1, wire.md 5: within one batch too a died gives way to its end, and what comes again is a duplicate."""
        id, other = new_id(), end(at=NOON, ms=30)
        first, last = died(id, NOON, 50, framed=framed), end(id, NOON, 50, framed=framed)
        written = opened.write(other, first, first, last, other, last, first)
        assert written == ["stored", "stored", "duplicate", "stored", "duplicate", "duplicate", "duplicate"]
        assert opened.request(id).body == last.body
        assert sorted((f.id, f.died) for f in opened.search()) == sorted([(id, False), (other.id, False)])
        assert opened.search(url="/cart") == opened.search()
        assert {row.value: (row.requests, row.errors) for row in opened.top()} == {"GET /cart": (2 - framed, 0)}

    def test_died_twice_is_a_duplicate(self, opened: Open) -> None:
        """A second `died` of an id changes nothing."""
        id = new_id()
        assert opened.write(died(id), died(id, ms=70)) == ["stored", "duplicate"]
        assert opened.request(id).found.duration_ms == 50

    def test_the_same_id_in_two_projects_is_two_records(self, opened: Open) -> None:
        """wire.md 5: identity is (project, id)."""
        id = new_id()
        assert opened.write(end(id, project="shop"), end(id, project="blog", ms=7)) == ["stored", "stored"]
        assert opened.request(id, BLOG).found.duration_ms == 7
        assert opened.request(id, SHOP).found.duration_ms == 100

    @pytest.mark.parametrize("later", [-DAY, DAY])
    def test_a_duplicate_is_seen_across_midnight(self, opened: Open, later: float) -> None:
        """I1: the same id received on a neighbouring day is a duplicate."""
        id = new_id()
        assert opened.write(end(id, recv=NOON)) == ["stored"]
        assert opened.write(end(id, recv=NOON + later)) == ["duplicate"]
        assert recounted([end(id)]) == {row.value: (row.requests, row.wall_ms) for row in opened.top()}

    def test_a_day_no_longer_kept_is_expired(self, opened: Open) -> None:
        """wire.md 5: what belongs to a day that is gone is refused as expired, its neighbours are stored."""
        assert opened.write(end(recv=NOON - 8 * DAY), end(), frame(NOON - 8 * DAY)) == ["expired", "stored", "expired"]
        assert len(opened.search()) == 1

    def test_odd_values_are_kept_or_cut(self, opened: Open) -> None:
        """Refused on arrival: no value that was accepted can break the store or its neighbours."""
        huge, text = 2**53, "x\x00y\u2028" * 20_000
        arrival = end(
            body={
                "cpu": {"user_us": huge, "system_us": huge},
                "memory": {"peak_bytes": huge},
                "sql": {"n": huge, "ms": 9e10, "queries": [{"sql": text, "ms": 1, "n": huge}] * 2},
                "request": {"method": text, "uri": text},
                "release": text,
            }
        )
        old = {"correlation_id": "x" * 5000, "timestamp": 1, "elapsed_ms": 1, "xhprof": {"memory": {"peak": 1e300}}}
        odd = request("v1", {**old, "response": {"status": "-1e300"}, "at": 1, "ms": 1}, recv=NOON)
        assert opened.write(arrival, odd, end()) == ["stored"] * 3
        assert opened.request(arrival.id).found.memory_peak_bytes == huge
        assert opened.request(odd.id).body == odd.body
        assert opened.request(odd.id).client_id == "x" * 5000
        assert opened.write(end(body={"cpu": {"user_us": huge}})) == ["stored"]
        assert len(opened.top("endpoint")) == 3
        assert len(opened.top("statement")) == 1

    # --- Asking -------------------------------------------------------------------------------------------

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

    def test_a_postgres_record_comes_back(self, opened: Open) -> None:
        """LIST-02: an observation is stored once, whole, and found by its id."""
        seen = postgres(NOON, server="main")
        assert opened.write(seen, seen) == ["stored", "duplicate"]
        assert opened.write(seen) == ["duplicate"]
        stored = opened.request(seen.id)
        assert (stored.kind, stored.body, stored.found.endpoint) == ("pg", seen.body, "pg_locks")
        assert stored.found.source == "postgres_agent"

    # --- Frames and rolls ---------------------------------------------------------------------------------

    def test_frames_of_a_window(self, opened: Open) -> None:
        """wire.md 6: frames come back in the order of their time, each once, from the start up to the end."""
        later, first, elsewhere = frame(NOON + 10), frame(NOON), frame(NOON, host="web2")
        day_before = frame(NOON - DAY)
        assert opened.write(later, first, elsewhere, first, day_before) == [*["stored"] * 3, "duplicate", "stored"]
        assert [f.at for f in opened.frames(NOON - DAY, NOON + 10)] == [NOON - DAY, NOON, NOON]
        assert [f.id for f in opened.frames(NOON, NOON + 20, host="web1")] == [first.id, later.id]
        assert opened.frames(NOON, NOON + 20, host="nowhere") == []
        opened.write(frame(NOON, project="blog", host="web2"))
        found = opened.pump.ask(opened.store.frames(None, NOON, NOON + 10, None))
        assert sorted((f.project, f.host) for f in found) == [("blog", "web2"), ("shop", "web1"), ("shop", "web2")]

    def test_frames_without_cells(self, opened: Open) -> None:
        """wire.md 6: asked without cells, or with some of their columns, a frame has everything else."""
        columns = {"histogram": [[[90, 3], [95, 1]], []], "requests": [4, 0], "wall_us": [4000, 0]}
        columns |= {"blocked_s": [0.25, 0.0], "waiting_s": [0.1, 1 / 3], "sql_us": [70_000, 5]}
        cells = {"endpoint": {"values": ["GET /a", "GET /b"], "columns": columns}}
        links = [["endpoint", "GET /a", "function", "f", 3, None, 0.5]]
        more = {"seconds": {"tasks": [1.0, None]}, "load": {"cores": 4}, "lost": {"looks": 1}}
        arrival = frame(cells=cells, links=links, **more)
        opened.write(arrival)
        (whole,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1"))
        (bare,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1", cells=False))
        assert whole.frame == arrival.frame
        assert bare.frame == msgspec.structs.replace(whole.frame, cells={}, links=[])
        assert bare.frame.seconds == more["seconds"]
        (some,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1", columns=["wall_us", "requests"]))
        assert some.frame.links == whole.frame.links
        assert some.frame.cells["endpoint"].values == ["GET /a", "GET /b"]
        kept = {name: columns[name] for name in ("requests", "wall_us")}
        assert some.frame.cells["endpoint"].columns == kept

    def test_a_frame_counts_once_and_framed_records_do_not(self, opened: Open) -> None:
        """I1: what a frame counted is in `top` through the frame alone, and once however often it comes."""
        counted = frame(
            cells={
                "endpoint": {
                    "values": ["GET /a", "~other"],
                    "columns": {
                        "requests": [3, 1],
                        "wall_us": [3000, 1000],
                        "cpu_us": [2_000_000, 0],
                        "queue_us": [500_000, 0],
                        "blocked_s": [0.5, 0],
                        "max_us": [1500, 1000],
                        "histogram": [[[cells.bucket(1000), 3]], []],
                        "later": ["unknown", None],
                    },
                }
            }
        )
        assert opened.write(counted, end(framed=True), counted) == ["stored", "stored", "duplicate"]
        first, other = opened.top()
        assert (first.value, first.requests, first.executions, first.wall_ms) == ("GET /a", 3, None, 3)
        assert (first.running_s, first.blocked_s, first.max_ms) == (2.5, 0.5, 1.5)
        assert first.p50_ms == pytest.approx(1, rel=0.05)
        assert (other.value, other.requests, other.p50_ms) == ("~other", 1, None)

    def test_top_is_ranked_by_load_where_there_is_any(self, opened: Open) -> None:
        """design: load is task-seconds; only where nobody measured them does wall time rank."""
        busy = {"request": {"method": "GET", "uri": "/busy"}, "ss": [90_000_000, 0]}
        idle = {"request": {"method": "GET", "uri": "/idle"}}
        opened.write(end(ms=100, body=busy), end(at=NOON + 60, ms=5000, body=idle))
        assert [row.value for row in opened.top()] == ["GET /busy", "GET /idle"]
        assert [row.value for row in opened.top(start=NOON + 60, end=NOON + 120)] == ["GET /idle"]
        assert [row.value for row in opened.top(limit=1)] == ["GET /busy"]
        assert opened.top(host="web2") == []
        assert opened.top("nonsense") == []

    def test_top_statements_and_percentiles(self, opened: Open) -> None:
        """wire.md 8: statements count executions; percentiles are right within the histogram's 5 %."""
        sql = {"n": 4, "ms": 40, "queries": [{"sql": "SELECT 1 FROM a WHERE b = 'x'", "ms": 40, "n": 4}]}
        opened.write(*(end(ms=ms, body={"sql": sql}) for ms in range(1, 101)))
        statement = opened.top("statement")[0]
        assert (statement.requests, statement.executions, statement.sql_ms) == (100, 400, 4000)
        assert statement.value == sqltext.statement("SELECT 1 FROM a WHERE b = 'x'", "unknown")
        endpoint = opened.top()[0]
        assert (endpoint.requests, endpoint.executions) == (100, None)
        assert endpoint.p50_ms == pytest.approx(50, rel=0.06)
        assert endpoint.p95_ms == pytest.approx(95, rel=0.06)
        assert endpoint.p99_ms == pytest.approx(99, rel=0.06)
        assert endpoint.max_ms == 100

    def test_a_late_record_counts_in_its_own_minute(self, opened: Open) -> None:
        """wire.md 6: the window is that of the end, clamped to six days before it was received and not after."""
        opened.write(end(at=NOON - DAY, ms=1000, recv=NOON))
        opened.write(end(at=NOON + 600, ms=1000, recv=NOON))
        opened.write(end(at=1.0, ms=1000, recv=NOON))
        assert opened.top(start=NOON - DAY, end=NOON - DAY + 60)[0].requests == 1
        assert opened.top(start=NOON, end=NOON + 60)[0].requests == 1
        assert opened.top(start=NOON - 6 * DAY, end=NOON - 6 * DAY + 60)[0].requests == 1

    def test_projects_and_hosts(self, opened: Open) -> None:
        """STOR-04: the names of what sent something, of the caller's projects only."""
        opened.write(end(), end(project="blog", host="web2"), frame(host="web3"), postgres(NOON - DAY, host="db1"))
        ask = opened.pump.ask
        assert sorted(ask(opened.store.projects(None))) == ["blog", "shop"]
        assert sorted(ask(opened.store.hosts(None))) == ["db1", "web1", "web2", "web3"]
        assert sorted(ask(opened.store.hosts(SHOP))) == ["db1", "web1", "web3"]

    def test_health_of_a_store_that_works(self, opened: Open) -> None:
        """LIST-07: a store that stores says so."""
        opened.write(end())
        assert opened.store.health()["ok"] is True
        assert opened.store.health()["problems"] == []
