"""What a report has beside frames, from a real store: requests, locks, the past, and how the data came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from bitville_apm import limits
from bitville_apm.clock import WallClock
from bitville_apm.collector.agents import Agents, Batch
from bitville_apm.collector.beside import beside
from bitville_apm.collector.explainer import Asked, Explainer
from bitville_apm.collector.spikes import Spikes
from bitville_apm.http import HttpProblem
from bitville_apm.store.interface import Arrival
from bitville_apm.store.sqlite import SqliteStore
from tests.collector.spiking import BUSY, QUIET_S, frame, rising
from tests.store.make import died, end, new_id, postgres
from tests.store.make import frame as framed
from tests.web.reports import full_report, kept_spike

reactor: Any = real_reactor
ONSET = time.time() // 10 * 10 - 600
PEAK = ONSET + 30
ROUTE = {"request": {"method": "GET", "uri": "/search?q=1", "route": BUSY}}
TREE = {
    "waiting": 1,
    "tree": [
        {"depth": 0, "session": "shop@shop 1", "state": "idle", "statement": "UPDATE a", "blocked": 1, "pid": 1},
        {"depth": 1, "session": "shop@shop 2", "state": "active", "statement": "SELECT 1", "blocked": 0},
    ],
}


def arrived(body: dict[str, Any], **more: Any) -> Arrival:
    """A frame of `spiking` as the store takes it."""
    fields = {name: value for name, value in body.items() if name not in ("at", "v", "secs")}
    return framed(body["at"], **{**fields, **more})


class BesideTests(TestCase):
    """Over a store of its own."""

    def setUp(self) -> None:
        self.clock: Any = WallClock(reactor)
        self.store: Any = SqliteStore.open(Path.cwd(), self.clock)
        self.agents = Agents()
        self.explainer = Explainer(self.store, self.agents, self.clock)

    def tearDown(self) -> Any:
        return Deferred.fromCoroutine(self.store.close())

    async def told(self, **changes: Any) -> Any:
        report = full_report(onset=ONSET, peak=PEAK, end=ONSET + 60, examples=[], in_flight=[], locks=[], **changes)
        cause = msgspec.structs.replace(report.causes[0], value=BUSY, story=[])
        report = msgspec.structs.replace(report, causes=[cause], seen_before=[])
        return await beside(self.store, "shop", report, time.time(), "own")

    async def test_requests_to_look_at(self) -> None:
        """spikes.md: of the cause's endpoint the slowest, one that died, and one as long as the median of all; what
        another project or endpoint had is none of them.
        """
        slow = end(at=ONSET + 20, ms=9000, body=ROUTE)
        usual = [end(at=ONSET + n, ms=200 + n, body=ROUTE) for n in range(9)]
        gone = died(new_id(), ONSET + 10, 4000)
        gone = msgspec.structs.replace(gone, request=msgspec.structs.replace(gone.request, endpoint=BUSY))
        strange = [
            end(at=ONSET + 5, ms=60_000), end(at=ONSET + 5, ms=50_000, body=ROUTE, project="blog"),
            end(at=ONSET - 300, ms=70_000, body=ROUTE), end(at=ONSET + 300, ms=80_000, body=ROUTE),
        ]  # fmt: skip
        await self.store.write([slow, *usual, gone, *strange])
        examples = (await self.told()).examples
        assert [(one.why, one.id) for one in examples if one.why != "median"] == [
            ("slowest", slow.id),
            ("died", gone.id),
        ]
        (median,) = [one for one in examples if one.why == "median"]
        assert 190 <= median.duration_ms <= 215
        assert (median.endpoint, median.url) == (BUSY, "/search?q=1")

    async def test_in_flight_at_the_worst_second(self) -> None:
        """spikes.md: the requests that ran at the worst second, the oldest first; those that still run are known from
        looks.
        """
        long, short = end(at=PEAK - 100, ms=120_000), end(at=PEAK - 1, ms=3000)
        before, after = end(at=PEAK - 50, ms=49_000), end(at=PEAK + 2, ms=100)
        running = new_id()
        cells = {"request": {"values": [running, long.id, before.id, "~other"], "columns": {"cpu_us": [1, 1, 1, 1]}}}
        await self.store.write([long, short, before, after, framed(PEAK // 10 * 10, cells=cells)])
        flying = (await self.told()).in_flight
        assert [one.id for one in flying if one.id != running] == [long.id, short.id]
        assert [one.endpoint for one in flying if one.id == running] == ["still running"]
        assert flying[0].age_ms == pytest.approx(100_000, abs=5)

    async def test_the_lock_tree(self) -> None:
        """spikes.md, PG-06: the tree nearest the worst second in which anybody waited; odd shapes are passed over."""
        trees = [
            postgres(PEAK + 1, data={"waiting": 0, "tree": []}), postgres(PEAK, data=[{"pid": 1}]),
            postgres(PEAK + 5, data=TREE), postgres(PEAK + 6, data={**TREE, "tree": []}),
            postgres(PEAK + 2, data=TREE, project="blog"), postgres(PEAK - 300, data=TREE),
        ]  # fmt: skip
        await self.store.write(trees)
        locks = (await self.told()).locks
        assert [(one.depth, one.session, one.blocked) for one in locks] == [
            (0, "shop@shop 1", 1),
            (1, "shop@shop 2", 0),
        ]

    async def test_seen_before(self) -> None:
        """spikes.md: earlier spikes of the same signature, the last first; not itself, not a later one."""
        for id, ago, more in (
            ("first", 9000, {}), ("last", 5000, {}), ("own", 0, {}), ("later", -50, {}),
            ("other", 7000, {"signature": "x"}),
        ):  # fmt: skip
            await self.store.keep_spike(kept_spike(id, onset=ONSET - ago, end=ONSET - ago + 10, **more))
        assert [one.id for one in (await self.told()).seen_before] == ["last", "first"]
        assert (await self.told(signature="")).seen_before == []

    async def test_a_part_that_fails_costs_no_other(self) -> None:
        """design 7: a report without one of its parts is better than none."""
        await self.store.write([end(at=ONSET + 20, ms=9000, body=ROUTE), postgres(PEAK, data=TREE)])
        search = self.store._reader.search

        def failing(projects: Any, asked: Any) -> Any:
            if asked.endpoint == "pg_locks":
                raise ValueError("broken")
            return search(projects, asked)

        self.patch(type(self.store._reader), "search", lambda _, *arguments: failing(*arguments))
        report = await self.told()
        assert (report.locks, len(report.examples)) == ([], 1)
        assert len(self.flushLoggedErrors(ValueError)) == 1

    async def test_how_the_data_came(self) -> None:
        """spikes.md: a host that fell silent, one whose clock is wrong, and hosts that were not compared are told."""
        self.patch(limits, "EXPLAIN_HOSTS", 2)
        web1 = list(rising(ONSET - QUIET_S, ONSET + 120, ONSET, ONSET + 60))
        arrivals = [arrived(body) for body in web1]
        for host, until in (("web2", ONSET + 10), ("web3", ONSET + 120)):
            arrivals += [arrived(b, host=host) for b in rising(ONSET - QUIET_S, until, ONSET, ONSET, name=host)]
        await self.store.write(arrivals)
        now = time.time()
        for host, sent in (("web1", now - 60), ("web3", now - 1), ("elsewhere", now + 900)):
            self.agents.saw(Batch("shop", host, host, "1", now, sent=sent))
        report = await self.explainer.report(Asked("shop", ONSET - 1, ONSET + 60, hosts=["web1"]))
        assert report.causes[0].value == BUSY
        assert report.quality.silent == ["web2"]
        assert report.quality.clock_skew_s == {"web1": -60.0}
        assert "1 more hosts of this project were not compared" in report.quality.notes
        assert self.explainer.ahead("shop", ["web1", "web3"]) == -60.0

    async def test_of_one_project(self) -> None:
        """STOR-04: a window of several projects is refused with their names, of one it is explained."""
        for project in ("shop", "blog"):
            await self.store.write([arrived(frame(ONSET, name=project), project=project)])
        with pytest.raises(HttpProblem, match="one of blog, shop is wanted") as caught:
            await self.explainer.explain(None, ONSET, ONSET + 60, None)
        assert caught.value.status == 400
        report = await self.explainer.explain(frozenset({"shop"}), ONSET, ONSET + 60, None)
        assert report.quality.frames == 1

    async def test_not_too_many_at_once(self) -> None:
        """Reports that wait are bounded: who comes then is asked to come back."""
        self.patch(limits, "EXPLAINS_WAITING", 2)
        asked = [self.explainer.report(Asked("shop", ONSET, ONSET + 60)) for _ in range(3)]
        waiting = gatherResults([Deferred.fromCoroutine(one) for one in asked])
        with pytest.raises(HttpProblem) as caught:
            await self.explainer.explain(None, ONSET, ONSET + 60, None)
        assert caught.value.status == 503
        assert len(await waiting) == 3

    async def test_frames_beyond_the_queue_are_read_again(self) -> None:
        """limits.DETECT_FRAMES: frames that find no room are counted; their host is looked at again from the store."""
        self.patch(limits, "DETECT_FRAMES", 22)
        spikes = Spikes(self.store, self.explainer, self.clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(spikes.stop()))
        spikes.start()
        arrivals = [arrived(body) for body in rising(ONSET - QUIET_S, ONSET + 120, ONSET, ONSET + 60)]
        for part in (arrivals[:20], arrivals[20:]):
            outcomes = await self.store.write(part)
            await self.until(lambda: not spikes._queue)
            spikes.saw(part, outcomes)
        assert spikes.state()["left_out"] == len(arrivals) - 20 - 22
        await self.until(lambda: spikes.state()["reports"] > 0)
        (kept,) = await self.store.spikes(None, 0, 1e10, None, 9)
        assert (kept.hosts, kept.end is not None) == (["web1"], True)
        assert json.loads((await self.store.spike(None, kept.id)).report)["causes"][0]["value"] == BUSY

    async def test_hosts_beyond_the_bound(self) -> None:
        """limits.DETECTORS: of too many hosts those heard of least lately are watched no more, and counted."""
        self.patch(limits, "DETECTORS", 2)
        spikes = Spikes(self.store, self.explainer, self.clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(spikes.stop()))
        spikes.start()
        for host in ("web1", "web2", "web1", "web3"):
            arrivals = [arrived(frame(ONSET, name=host), host=host, id=new_id())]
            spikes.saw(arrivals, await self.store.write(arrivals))
            await self.until(lambda: not spikes._queue and spikes._detecting is None)
        assert [host for _, host in spikes._detectors] == ["web1", "web3"]
        assert (spikes.state()["watched"], spikes.state()["dropped"]) == (2, 1)

    async def until(self, right: Callable[[], bool]) -> None:
        for _ in range(1500):
            if right():
                return
            await deferLater(reactor, 0.02)
        self.fail("did not happen")
