"""The hourly cleaning up, and the one that is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from bitville_apm import limits
from bitville_apm.clock import WallClock
from bitville_apm.collector.cleanup import Cleanup
from bitville_apm.store.interface import Cleaned
from tests.collector.rig import Rig, item, running
from tests.store.make import DAY, end_body, new_id


@attrs.define
class Store:
    """Cleans up when told to."""

    asked: list[Deferred[Cleaned]] = attrs.field(factory=list)

    def clean_up(self) -> Deferred[Cleaned]:
        self.asked.append(Deferred())
        return self.asked[-1]


class CleanupTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        self.store: Any = Store()
        self.clock = Clock()
        self.cleanup = Cleanup(self.store, self.clock, 7)
        self.cleanup.start()
        self.addCleanup(self.cleanup.stop)

    def test_it_looks_at_the_start_and_every_hour(self) -> None:
        """STOR-02: the first look is at the start, the next an hour later, and /ready says when."""
        assert len(self.store.asked) == 1
        assert self.cleanup.state() == {
            "running": True, "cleaning": True, "next_run": 3600.0, "retention_days": 7, "problem": None,
        }  # fmt: skip
        self.store.asked[0].callback(Cleaned())
        assert not self.cleanup.state()["cleaning"]
        self.clock.advance(limits.CLEANUP_S)
        assert len(self.store.asked) == 2

    def test_a_look_that_fails_does_not_end_them(self) -> None:
        """STOR-02: the hourly look cannot die: what failed is told and tried again."""
        self.store.asked[0].errback(OSError("the disk is gone"))
        self.flushLoggedErrors(OSError)
        assert self.cleanup.state()["problem"] == "OSError: the disk is gone"
        self.clock.advance(limits.CLEANUP_S)
        self.store.asked[1].callback(Cleaned())
        assert self.cleanup.state()["problem"] is None
        self.clock.advance(limits.CLEANUP_S)
        assert len(self.store.asked) == 3

    def test_one_at_a_time(self) -> None:
        """design 6: who asks while it is being done hears of the same, also when a look takes hours."""
        asked = [self.cleanup.now() for _ in range(2)]
        self.clock.advance(limits.CLEANUP_S)
        assert len(self.store.asked) == 1
        self.store.asked[0].callback(Cleaned(dropped=["2027-01-08"]))
        assert [self.successResultOf(one).dropped for one in asked] == [["2027-01-08"]] * 2

    def test_delays_do_not_follow_the_wall_clock(self) -> None:
        """Faults 17: what is scheduled counts the reactor's seconds, whatever the wall clock says meanwhile."""
        wall = WallClock(self.clock)
        cleanup = Cleanup(self.store, wall, 7)
        wall.seconds = lambda: 1e9  # type: ignore[method-assign]
        cleanup.start()
        self.addCleanup(cleanup.stop)
        before = len(self.store.asked)
        self.store.asked[-1].callback(Cleaned())
        wall.seconds = lambda: 5.0  # type: ignore[method-assign]
        self.clock.advance(limits.CLEANUP_S)
        assert len(self.store.asked) > before


def test_cleaning_up_on_demand(tmp_path: Path) -> None:
    """LIST-07, STOR-02: /ready tells of the hourly look and the days kept, which collector.ini sets;
    POST /admin/cleanup is for keys with scope admin and says what it did; records of days before are expired.
    """
    rig: Rig
    with running(tmp_path, extra="[retention]\ndays = 2\n") as rig:
        ready = rig.ask("GET", "/ready").json["cleanup"]
        assert (ready["running"], ready["retention_days"], ready["problem"]) == (True, 2, None)
        assert 3500 < ready["next_run"] - time.time() < 3601
        sender, reader, admin = rig.key(), rig.key(scopes="read"), rig.key(scopes="admin")
        now = int(time.time() * 1000)
        old, yesterday = (
            item(end_body(new_id(), time.time() - n * DAY), recv=now - int(n * DAY * 1000)) for n in (3, 1)
        )
        answer = rig.post(sender, old, yesterday).json
        assert (answer["stored"], [r["reason"] for r in answer["rejected"]]) == (1, ["expired"])
        for key, status in ((None, 401), ("bv_x_y", 401), (sender, 403), (reader, 403), (admin, 200)):
            assert rig.ask("POST", "/admin/cleanup", b"", key).status == status
        assert rig.ask("GET", "/admin/cleanup", key=admin).status == 405
        assert rig.ask("POST", "/admin/cleanup", b"", admin).json == {
            "success": True, "dropped": [], "dropped_for_space": [], "added_up": [],
        }  # fmt: skip
