"""What a store answers beside searching and ranking, held against a plain recount; see `contract.py`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.cells import added, bucket
from bitville_apm.store.interface import Arrival, Projects
from tests.store.contract import BLOG, SHOP, Contract, Open, quick, some_ends
from tests.store.make import DAY, NOON, end, frame, new_id, postgres


class QuestionsContract(Contract):
    """Series, statistics, and what belongs to one request."""

    @quick
    @given(some_ends(), st.sampled_from([SHOP, BLOG, None]), st.sampled_from([None, "GET /a", "GET /b", "GET /c"]))
    def test_series(self, batch: list[Arrival], projects: Projects, value: str | None) -> None:
        """QUERY-05: a series has each minute's requests, wall time and histogram, exactly those of its projects."""
        with self.open() as opened:
            outcomes = opened.write(*batch)
            wanted: dict[int, tuple[int, int, dict[int, int]]] = {}
            for arrival, outcome in zip(batch, outcomes, strict=True):
                request = arrival.request
                assert request is not None
                visible = projects is None or arrival.project in projects
                counted = outcome == "stored" and arrival.cells and visible
                if counted and value in (None, request.endpoint):
                    minute = int(request.end // 60) * 60
                    n, us, histogram = wanted.get(minute, (0, 0, {}))
                    ms = request.ms
                    wanted[minute] = (n + 1, us + round(ms * 1000), added(histogram, {bucket(ms * 1000): 1}))
            found = {}
            for day in (0, -1):
                start = NOON + day * DAY - 3600
                points = opened.pump.ask(opened.store.series(projects, "endpoint", value, start, start + 7200, None))
                assert [p.at for p in points] == sorted(p.at for p in points)
                found.update({p.at: (p.row.requests, round(p.row.wall_ms * 1000), p.histogram) for p in points})
            assert found == wanted

    def test_series_of_one_host_and_of_frames(self, opened: Open) -> None:
        """QUERY-05: frames count like records do, hosts apart; beyond six hours a row is an hour."""
        for host, requests in (("web1", 2), ("web2", 5)):
            cells = {"endpoint": {"values": ["GET /x"], "columns": {"requests": [requests], "histogram": [[[90, 1]]]}}}
            opened.write(frame(NOON, host=host, cells=cells), frame(NOON + 130, host=host, cells=cells))

        def asked(end: float, host: str | None) -> list[tuple[int, int]]:
            points = opened.pump.ask(opened.store.series(None, "endpoint", "GET /x", NOON, end, host))
            return [(p.at, p.row.requests) for p in points]

        assert asked(NOON + 600, None) == [(NOON, 7), (NOON + 120, 7)]
        assert asked(NOON + 600, "web2") == [(NOON, 5), (NOON + 120, 5)]
        assert asked(NOON + 600, "web3") == []
        assert asked(NOON + limits.MINUTES_WINDOW_S + 3600, None) == [(NOON, 14)]
        assert opened.pump.ask(opened.store.series(None, "nothing", None, NOON, NOON + 60, None)) == []

    @quick
    @given(some_ends(), st.sampled_from([SHOP, BLOG, None]))
    def test_statistics(self, batch: list[Arrival], projects: Projects) -> None:
        """QUERY-05: records are counted once each, and the oldest and newest are those of the asker's projects."""
        with self.open() as opened:
            seen = [postgres(NOON - 7, project="shop"), postgres(NOON + 9, project="blog")]
            outcomes = opened.write(*batch, *seen)
            kept = [
                a
                for a, outcome in zip([*batch, *seen], outcomes, strict=True)
                if outcome == "stored" and (projects is None or a.project in projects)
            ]
            times = [a.request.at if a.request else a.postgres.at for a in kept]  # type: ignore[union-attr]
            got = opened.pump.ask(opened.store.statistics(projects))
            assert got.requests == sum(a.request is not None for a in kept)
            assert got.observations == sum(a.postgres is not None for a in kept)
            assert (got.oldest, got.newest) == (min(times), max(times))

    def test_statistics_of_nothing(self, opened: Open) -> None:
        """An empty store has no oldest record."""
        got = opened.pump.ask(opened.store.statistics(None))
        assert (got.requests, got.observations, got.oldest, got.newest) == (0, 0, None, None)

    def test_correlated(self, opened: Open) -> None:
        """LIST-05: a request finds what Postgres was seen doing for it, oldest first, and no other project's."""
        mine, other = new_id(1), new_id(2)
        opened.write(
            end(mine, NOON),
            postgres(NOON + 2, correlation_id=mine, data=[{"pid": 2}]),
            postgres(NOON + 1, correlation_id=mine, data=[{"pid": 1}]),
            postgres(NOON + 1, correlation_id=other, data=[{"pid": 3}]),
            postgres(NOON + 1, correlation_id=mine, project="blog", data=[{"pid": 4}]),
            postgres(NOON + DAY, correlation_id=mine, data=[{"pid": 5}]),
        )

        def pids(projects: Projects) -> list[int]:
            bodies = [found.body for found in opened.pump.ask(opened.store.correlated(projects, mine))]
            return [int(body.partition(b'"pid": ')[2].partition(b"}")[0]) for body in bodies]

        assert pids(SHOP) == [1, 2, 5]
        assert pids(BLOG) == [4]
        assert sorted(pids(None)) == [1, 2, 4, 5]
        assert opened.pump.ask(opened.store.correlated(None, new_id(9))) == []

    def loads(
        self, opened: Open, step: int = 60, projects: Projects = None, host: str | None = None, s: float = 60.0
    ) -> Any:
        """What hosts ran from noon on."""
        return opened.pump.ask(opened.store.load(projects, NOON, NOON + s, step, host))

    def test_load_of_a_host(self, opened: Open) -> None:
        """Wire.md 6: a host's load by steps is the mean and the most of the seconds that were looked at."""
        opened.write(
            frame(
                NOON,
                seconds={"tasks": [1.0, 3.0, None, 8.0], "db": [2.0], "in_flight": [5.0, 4.0]},
                load={"running": 3.0, "blocked": 1.5, "load1": 7.2, "cores": 4},
            ),
            frame(NOON + 50, seconds={"tasks": [None] * 9 + [12.0]}),
            frame(NOON + 60, seconds={"tasks": [0.0] * 10}),
        )
        first, second = self.loads(opened, s=120.0)
        assert (first.at, first.host, first.cores) == (NOON, "web1", 4)
        assert (first.tasks, first.tasks_most, first.blocked, first.load1) == (6.0, 12.0, 1.5, 7.2)
        assert (first.db, first.db_most, first.in_flight, first.in_flight_most) == (2.0, 2.0, 4.5, 5.0)
        assert (second.at, second.tasks, second.db, second.in_flight, second.load1) == (
            NOON + 60,
            0.0,
            None,
            None,
            None,
        )
        assert [(load.at - NOON, load.tasks) for load in self.loads(opened, 10, s=60.0)] == [(0.0, 4.0), (50.0, 12.0)]
        assert [(load.at - NOON, load.tasks) for load in self.loads(opened, 1, s=2.0)] == [(0.0, 1.0), (1.0, 3.0)]
        (hour,) = self.loads(opened, 3600, s=120.0)
        assert (hour.at, hour.tasks, hour.tasks_most) == (NOON, 24 / 14, 12.0)

    def test_load_never_adds(self, opened: Open) -> None:
        """Wire.md 6: frames of one host and window fill each other's gaps, in any order; projects repeat the host's."""
        told = [
            frame(NOON, seconds={"tasks": [1.0, None, 3.0]}),
            frame(NOON, seconds={"tasks": [None, 2.0, 3.0]}, late=True),
            frame(NOON, project="blog", seconds={"tasks": [1.0, 2.0]}),
            frame(NOON, host="web2", seconds={"tasks": [9.0]}),
        ]
        opened.write(*told[::-1])
        assert opened.write(*told) == ["duplicate"] * 4
        assert [(load.host, load.tasks) for load in self.loads(opened)] == [("web1", 2.0), ("web2", 9.0)]
        assert [(load.host, load.tasks) for load in self.loads(opened, projects=BLOG)] == [("web1", 1.5)]
        assert [(load.host, load.tasks) for load in self.loads(opened, 1, SHOP, "web1")] == [
            ("web1", 1.0), ("web1", 2.0), ("web1", 3.0)
        ]  # fmt: skip
        assert self.loads(opened, projects=frozenset({"other"})) == self.loads(opened, host="web9") == []

    def test_load_that_is_none(self, opened: Open) -> None:
        """Refused on arrival: whatever a frame calls its load, only numbers count, and none is too large."""
        odd = {"cores": "many", "blocked": [1], "load1": 1e300}
        opened.write(
            frame(NOON, seconds={"tasks": [1e300, 1.0] + [5.0] * 90, "other": [1.0]}, load=odd),
            frame(NOON + 10, load={"blocked": 3.0, "cores": 8}),
        )
        (load,) = self.loads(opened)
        assert load.tasks_most == load.load1 > 1000
        assert (load.cores, load.blocked, load.db) == (None, None, None)
