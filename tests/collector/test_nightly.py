"""The nightly look for slow drifts: when, what of, how it goes on after a restart, and what it leaves to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.clock import WallClock
from bitville_apm.collector.nightly import COUNTED, DIMENSIONS, Nightly, spread_of
from bitville_apm.store.interface import Arrival, Drifts, TooSlow, TopRow
from bitville_apm.store.sqlite import SqliteStore
from bitville_apm.store.sqlite.files import day_of, remove_day
from tests.collector.rig import running
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, frame
from tests.store.opened import sqlite_in
from tests.web.made import top_row

reactor: Any = real_reactor
MIDNIGHT = NOON - DAY / 2
SPREAD = 300.0
BEGINS = limits.NIGHTLY_AFTER_S + SPREAD


class Reactor:
    """Seconds that do not jump, and a wall clock that goes with them from a time on."""

    def __init__(self, begin: float) -> None:
        self.steady = Clock()
        self.begin = begin

    def seconds(self) -> float:
        return self.begin + self.steady.seconds()


@attrs.define
class Store:
    """Projects with one endpoint, twice as dear on the newest day; remembers what it was asked."""

    newest: float
    names: list[str]
    kept: dict[str, Drifts] = attrs.field(factory=dict)
    asked: list[tuple[str, str, float]] = attrs.field(factory=list)
    failing: set[str] = attrs.field(factory=set)
    broken: bool = False
    values: int = 1
    answer: Callable[[], None] = lambda: None

    def projects(self, projects: Any) -> Deferred[Any]:
        return succeed(self.names)

    def drifts(self, projects: Any) -> Deferred[Any]:
        return fail(OSError("gone")) if self.broken else succeed(list(self.kept.values()))

    def keep_drifts(self, drifts: Drifts) -> Deferred[None]:
        self.kept[drifts.project] = drifts
        return succeed(None)

    def top(self, projects: Any, dimension: str, start: float, end: float, host: Any, limit: int) -> Deferred[Any]:
        (project,) = projects
        self.asked.append((project, dimension, start))
        assert (end - start, host, limit) == (DAY, None, limits.DRIFT_VALUES)
        self.answer()
        if project in self.failing:
            return fail(TooSlow())
        if dimension != "endpoint" or start <= self.newest - 10 * DAY:
            return succeed([])
        cost = 20.0 if start == self.newest else 10.0
        return succeed([row(f"GET /{project}/{n}", cost) for n in range(self.values)])


def row(value: str, cost_ms: float) -> TopRow:
    return top_row(value, requests=1000, cpu_ms=1000 * cost_ms, wall_ms=2000 * cost_ms)


def found_by(night: Drifts) -> list[Regression]:
    return msgspec.json.decode(night.found, type=list[Regression])


def old(project: str, day: float) -> Drifts:
    """An earlier night that found nothing."""
    return Drifts(project=project, day=day, made=0.0, days=0, left_out=0, found=b"[]")


class NightlyTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        self.reactor = Reactor(MIDNIGHT - 7200)
        self.store: Any = Store(MIDNIGHT - DAY, ["shop", "blog"])
        self.store.kept = {name: old(name, MIDNIGHT - 2 * DAY) for name in self.store.names}
        self.nightly = self.begun()

    def begun(self) -> Nightly:
        nightly = Nightly(self.store, self.reactor, SPREAD)
        nightly.start()
        self.addCleanup(self.stop, nightly)
        return nightly

    def stop(self, nightly: Nightly) -> None:
        self.successResultOf(Deferred.fromCoroutine(nightly.stop()))

    def at(self, moment: float) -> None:
        """Let it be a time, look after look."""
        while self.reactor.seconds() < moment:
            self.reactor.steady.advance(min(limits.NIGHTLY_LOOK_S, moment - self.reactor.seconds()))

    def test_once_after_each_midnight(self) -> None:
        """ADV-02: the day that is over is compared once, after its last frames came and at the installation's own time,
        every project in each dimension with the days before it; the next night the next day is.
        """
        self.at(MIDNIGHT + BEGINS - 1)
        assert self.store.asked == []
        assert self.nightly.state()["next_run"] == MIDNIGHT + BEGINS
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        asked = [(project, dimension, MIDNIGHT - (ago + 1) * DAY) for project in ("blog", "shop")
                 for dimension in DIMENSIONS for ago in range(limits.DRIFT_WINDOW_DAYS)]  # fmt: skip
        assert self.store.asked == asked
        night = self.store.kept["shop"]
        assert (night.day, night.days, night.left_out) == (MIDNIGHT - DAY, 10, 0)
        assert MIDNIGHT + BEGINS <= night.made <= self.reactor.seconds()
        (one,) = found_by(night)
        assert (one.value, one.factor, one.since) == ("GET /shop/0", 2.0, MIDNIGHT - DAY)
        state = self.nightly.state()
        assert (state["day"], state["next_run"]) == (MIDNIGHT - DAY, MIDNIGHT + DAY + BEGINS)
        assert (state["projects"], state["found"], state["values"]) == (2, 2, 2)
        self.at(MIDNIGHT + DAY + BEGINS - 1)
        assert len(self.store.asked) == len(asked)
        self.store.newest += DAY
        self.at(MIDNIGHT + DAY + BEGINS + limits.NIGHTLY_LOOK_S)
        assert len(self.store.asked) == 2 * len(asked)
        assert self.store.kept["shop"].day == MIDNIGHT

    def days_kept(self) -> dict[str, float]:
        """Of each project the newest day that was compared."""
        return {name: night.day for name, night in self.store.kept.items()}

    def test_what_is_done_is_not_done_again(self) -> None:
        """ADV-02: after a restart in the middle of a night only the projects that are missing are compared."""
        self.store.answer = lambda: len(self.store.asked) == 100 and self.stop(self.nightly)
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        assert self.days_kept() == {"blog": MIDNIGHT - DAY, "shop": MIDNIGHT - 2 * DAY}
        assert len(self.store.asked) == 100
        self.store.asked.clear()
        self.store.answer = lambda: None
        self.begun()
        self.at(self.reactor.seconds() + limits.NIGHTLY_START_S - 1)
        assert self.store.asked == []
        self.at(self.reactor.seconds() + 1 + limits.NIGHTLY_LOOK_S)
        assert {project for project, _, _ in self.store.asked} == {"shop"}
        assert self.days_kept() == dict.fromkeys(self.store.names, MIDNIGHT - DAY)

    def test_a_night_that_was_missed(self) -> None:
        """ADV-02: a collector that was down at night compares the days soon after its start, whatever the hour."""
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        self.stop(self.nightly)
        self.at(NOON + 2 * DAY)
        self.store.newest += 2 * DAY
        again = self.begun()
        assert again.state()["next_run"] == NOON + 2 * DAY + limits.NIGHTLY_START_S
        self.at(NOON + 2 * DAY + limits.NIGHTLY_START_S + limits.NIGHTLY_LOOK_S)
        assert self.store.kept["shop"].day == MIDNIGHT + DAY
        assert again.state()["next_run"] == MIDNIGHT + 3 * DAY + BEGINS

    def test_what_fails_is_tried_again(self) -> None:
        """ADV-02: a project that cannot be compared costs no other its night; it is tried again some times, then
        the next night, and /ready says what was wrong.
        """
        self.store.failing.add("blog")
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        assert self.days_kept() == {"blog": MIDNIGHT - 2 * DAY, "shop": MIDNIGHT - DAY}
        assert "TooSlow" in str(self.nightly.state()["problem"])
        self.at(MIDNIGHT + 12 * 3600)
        assert self.nightly.state()["failed"] == limits.NIGHTLY_TRIES
        assert self.nightly.state()["day"] == MIDNIGHT - DAY
        self.store.failing.clear()
        self.at(MIDNIGHT + DAY + BEGINS + limits.NIGHTLY_LOOK_S)
        assert self.nightly.state()["problem"] is None
        assert self.store.kept["blog"].day == MIDNIGHT
        assert len(self.flushLoggedErrors(TooSlow)) == limits.NIGHTLY_TRIES

    def test_a_store_that_does_not_answer(self) -> None:
        """ADV-02: when nothing can be asked at all, the next try comes an hour later."""
        self.at(MIDNIGHT + BEGINS - 1)
        self.store.broken = True
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        assert "OSError" in str(self.nightly.state()["problem"])
        self.store.broken = False
        self.at(self.reactor.seconds() + limits.NIGHTLY_AGAIN_S + limits.NIGHTLY_LOOK_S)
        assert self.days_kept() == dict.fromkeys(self.store.names, MIDNIGHT - DAY)
        assert len(self.flushLoggedErrors(OSError)) == 1

    def test_it_rests_after_each_question(self) -> None:
        """design 6: a question of a second is followed by some of rest, so that people's questions find a reader free;
        stopping ends the rest.
        """
        steady = self.reactor.steady

        def slowly() -> None:
            steady.rightNow += 1.0

        self.at(MIDNIGHT + BEGINS - 1)
        self.store.answer = slowly
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        before = len(self.store.asked)
        for _ in range(10):
            steady.advance(limits.NIGHTLY_REST)
        assert len(self.store.asked) == before + 10
        assert self.nightly.state()["working"]
        self.stop(self.nightly)
        assert not self.nightly.state()["working"]
        assert MIDNIGHT - DAY not in self.days_kept().values()

    def test_bounds(self) -> None:
        """ADV-02: so many projects a night, the longest waiting first, and so many drifts of each; more are counted."""
        for name, most in (("NIGHTLY_PROJECTS", 1), ("DRIFTS_KEPT", 2), ("DRIFT_VALUES", 5)):
            self.patch(limits, name, most)
        self.store.values = 5
        del self.store.kept["shop"]
        self.at(MIDNIGHT + BEGINS - 1)
        self.store.kept["shop"] = old("shop", MIDNIGHT - 3 * DAY)
        self.nightly.counted.clear()
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        night = self.store.kept["shop"]
        assert (len(found_by(night)), night.left_out) == (2, 3)
        state = self.nightly.state()
        assert (state["skipped"], state["left_out"], state["capped"], state["found"]) == (1, 3, 10, 5)
        self.at(MIDNIGHT + DAY + BEGINS + limits.NIGHTLY_LOOK_S)
        assert self.store.kept["blog"].day == MIDNIGHT

    def test_a_clock_that_was_wrong(self) -> None:
        """Faults 17: a night of a day that is yet to come is no reason not to compare the days there are."""
        self.store.kept["shop"] = old("shop", MIDNIGHT + 99 * DAY)
        self.at(MIDNIGHT + BEGINS + limits.NIGHTLY_LOOK_S)
        assert self.store.kept["shop"].day == MIDNIGHT - DAY


def test_each_installation_has_its_own_time() -> None:
    """ADV-02: the moment is the same every night, another in another directory, and within the hour."""
    moments = [spread_of(Path(f"/var/lib/collector-{n}")) for n in range(20)]
    assert moments == [spread_of(Path(f"/var/lib/collector-{n}")) for n in range(20)]
    assert len(set(moments)) > 15
    assert all(0 <= moment < limits.NIGHTLY_SPREAD_S for moment in moments)


# --- Over a real store ------------------------------------------------------------------------------------


def day_of_project(day: float, project: str, cost_ms: float) -> Arrival:
    """What a host of a project counted on one day: an endpoint, a function and a statement."""
    cpu = round(1e6 * cost_ms)
    columns = {"requests": [1000], "cpu_us": [cpu], "wall_us": [2 * cpu]}
    cells = {
        "endpoint": {"values": [f"GET /{project}"], "columns": columns},
        "function": {"values": ["Price::of"], "columns": columns},
        "statement": {"values": ["SELECT 1"], "columns": {**columns, "executions": [4000]}},
    }
    return frame(day + 3600, project=project, cells=cells)


def night(opened: Open) -> Nightly:
    """One start of a collector, up to the end of its first night."""
    reactor: Any = Reactor(opened.pump.now)
    nightly = Nightly(opened.store, reactor)
    nightly.start()
    reactor.steady.advance(limits.NIGHTLY_START_S)
    if nightly._work is not None:
        opened.pump.ask(nightly._work)
    return nightly


def test_days_of_a_real_store(tmp_path: Path) -> None:
    """ADV-02, STOR-04: what each project's own days say is found over restarts and missed nights, also where of some
    days only their hours are left.
    """
    pump = Pump()
    with sqlite_in(tmp_path, pump, days=9) as opened:
        for ago in range(1, 9):
            shop = day_of_project(MIDNIGHT - ago * DAY, "shop", 20.0 if ago <= 2 else 10.0)
            assert opened.write(shop, day_of_project(MIDNIGHT - ago * DAY, "blog", 10.0)) == ["stored"] * 2
        nightly = night(opened)
        assert {name: nightly.counted[name] for name in COUNTED if nightly.counted[name]} == {
            "projects": 2, "values": 6, "found": 3,
        }  # fmt: skip
        blog, shop = opened.pump.ask(opened.store.drifts(None))
        assert (blog.project, blog.days, found_by(blog)) == ("blog", 8, [])
        told = {(one.dimension, one.value): one for one in found_by(shop)}
        assert set(told) == {("endpoint", "GET /shop"), ("function", "Price::of"), ("statement", "SELECT 1")}
        assert {one.since for one in told.values()} == {MIDNIGHT - 2 * DAY}
        each = told["statement", "SELECT 1"]
        assert (each.per, each.before_ms, each.now_ms, each.share) == ("execution", 2.5, 5.0, 1.0)
        assert night(opened).counted["projects"] == 0
        pump.ask(opened.store.clean_up())
    for ago in range(4, 9):
        remove_day(tmp_path, day_of(MIDNIGHT - ago * DAY))
    pump.now += 3 * DAY
    with sqlite_in(tmp_path, pump, days=9) as opened:
        assert len(opened.store.health()["days"]) == 3
        assert night(opened).counted["projects"] == 2
        (shop,) = opened.pump.ask(opened.store.drifts(frozenset({"shop"})))
        assert (shop.day, shop.days) == (MIDNIGHT + 2 * DAY, 8)
        assert len(found_by(shop)) == 3
        assert {one.since for one in found_by(shop)} == {MIDNIGHT - 2 * DAY}


class RealReactorTests(TestCase):
    """With real threads and a real clock."""

    async def test_a_night_beside_the_reactor(self) -> None:
        """ADV-02, design 4: days are asked for and compared in threads, with rests between; a night that a stop
        cuts short goes on where it was after the next start.
        """
        for name in ("NIGHTLY_START_S", "NIGHTLY_AFTER_S"):
            self.patch(limits, name, 0.0)
        self.patch(limits, "NIGHTLY_LOOK_S", 0.01)
        self.patch(limits, "DRIFT_WINDOW_DAYS", 7)
        clock: Any = WallClock(reactor)
        clock.seconds = lambda: NOON
        store = SqliteStore.open(Path.cwd(), clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(store.close()))
        for ago in range(1, 8):
            for project in ("blog", "shop"):
                await store.write([day_of_project(MIDNIGHT - ago * DAY, project, 20.0 if ago <= 2 else 10.0)])
        first = Nightly(store, clock)
        first.start()
        while not await store.drifts(None):
            await deferLater(reactor, 0.01)
        await first.stop()
        assert not first.state()["working"]
        done = [night.project for night in await store.drifts(None)]
        again = Nightly(store, clock)
        again.start()
        while again.state()["day"] is None:
            await deferLater(reactor, 0.01)
        await again.stop()
        nights = await store.drifts(None)
        assert [(night.project, night.day, len(found_by(night))) for night in nights] == [
            (project, MIDNIGHT - DAY, 3) for project in ("blog", "shop")
        ]
        assert again.counted["projects"] == 2 - len(done)


def test_a_collector_tells_of_its_nights(tmp_path: Path) -> None:
    """LIST-07, ADV-02: /ready says when the next night is, /metrics counts; and a collector that stops before its first
    night stops in order.
    """
    with running(tmp_path) as rig:
        told = rig.ask("GET", "/ready").json["drifts"]
        assert (told["working"], told["day"], told["problem"], told["projects"]) == (False, None, None, 0)
        assert told["next_run"] > time.time()
        counted = rig.ask("GET", "/metrics").body.decode()
        for name in COUNTED:
            assert f"bitville_collector_drifts_{name}_total 0" in counted
        rig.stop()
