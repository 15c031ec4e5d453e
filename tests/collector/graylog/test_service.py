"""What is sent when, judged by a clock that a test turns: the breaker, what is in doubt, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.collector.config import GraylogSection
from bitville_apm.collector.graylog.sender import NotSent
from bitville_apm.collector.graylog.service import Graylog
from bitville_apm.kept import KeptBreaker
from bitville_apm.store.feed import IFeed, Mark, Unsent, Waiting
from bitville_apm.store.interface import Found, Stored

NOW = 1_800_014_400.0


def record(n: int) -> Stored:
    found = Found(
        id=str(n), project="shop", source="php_agent", at=NOW, endpoint="GET /", method="GET", url="/", status=200,
        duration_ms=1.0, cpu_ms=None, sql_count=0, sql_ms=0.0, memory_peak_bytes=None, host="web1", release=None,
        died=False,
    )  # fmt: skip
    return Stored(found=found, kind="end", recv_ms=0, client_id=None, body=b"{}")


@implementer(IFeed)
@attrs.define
class OneDay:
    """A store with so many records of one day; it remembers what was kept, each time."""

    records: int = 0
    kept: list[int] = attrs.field(factory=list)
    asked: list[int] = attrs.field(factory=list)

    def begin(self, now: float) -> None: ...

    def end(self) -> None: ...

    def marks(self) -> Deferred[Mapping[int, Mark]]:
        return succeed({1: self.mark(self.kept[-1])} if self.kept else {})

    def unsent(self, marks: Mapping[int, Mark], most: int) -> Deferred[Unsent]:
        self.asked.append(most)
        read = marks[1].request if 1 in marks else 0
        rows = range(read + 1, min(self.records, read + most) + 1)
        records = [Waiting(record(n), self.mark(n)) for n in rows]
        return succeed(Unsent(records=records, pending=self.records - read, dropped=0))

    def sent(self, marks: Sequence[Mark]) -> Deferred[None]:
        self.kept += [mark.request for mark in marks]
        return succeed(None)

    def mark(self, row: int) -> Mark:
        return Mark(day=1, file=b"f", request=row)


@attrs.define
class Way:
    """A sender that does what a test wants: `wrong` is raised instead of sending."""

    hold_s: float = limits.GRAYLOG_HOLD_S
    connected: bool = True
    wrong: NotSent | None = None
    batches: list[list[int]] = attrs.field(factory=list)
    """The numbers of the records of each batch that came."""
    tries: int = 0
    closed: bool = False

    async def send(self, messages: Sequence[bytes]) -> None:
        self.tries += 1
        if self.wrong is not None:
            messages = messages[: self.wrong.sent]
        if messages:
            self.batches.append([int(json.loads(message)["_bv_id"].split("/")[2]) for message in messages])
        if self.wrong is not None:
            raise self.wrong
        self.connected = True

    async def close(self) -> None:
        self.closed = True


@attrs.define
class Rig:
    """A service at work, and time that passes for it."""

    directory: Path
    feed: OneDay = attrs.field(factory=OneDay)
    way: Way = attrs.field(factory=Way)
    clock: Clock = attrs.field(factory=Clock)
    graylog: Graylog = attrs.field(init=False)

    def start(self) -> None:
        path = self.directory / "circuit-breaker-state" / "graylog.state"
        breaker = KeptBreaker("graylog", path, maybeDeferred, self.clock, self.now)
        section = GraylogSection(enabled=True)
        self.graylog = Graylog(section, self.feed, self.way, breaker, maybeDeferred, self.clock, self.now)
        self.graylog.start()

    def stop(self) -> None:
        done: list[Any] = []
        Deferred.fromCoroutine(self.graylog.stop()).addBoth(done.append)
        assert done == [None]

    def now(self) -> float:
        return NOW + self.clock.seconds()

    def passes(self, seconds: float) -> None:
        """Time, in small steps."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    @property
    def told(self) -> Any:
        return self.graylog.state()["graylog"]

    @property
    def replay(self) -> Any:
        return self.graylog.state()["replay"]

    @property
    def breaker(self) -> tuple[str, int]:
        told = self.told["circuit_breaker"]
        return told["state"], told["failure_count"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path)
    made.start()
    return made


def test_five_failures_open_it_and_one_probe_closes_it(rig: Rig) -> None:
    """GELF-03, DAEMON-09: five failures, then 60 s without a try, then one probe of one message, whose connection must
    outlive it; then everything, in order.
    """
    rig.way.wrong = NotSent("no connection")
    rig.feed.records = 450
    rig.passes(12)
    assert (rig.way.tries, rig.breaker) == (5, ("open", 5))
    rig.passes(55)
    assert rig.way.tries == 5
    assert rig.replay == {"pending": 450, "is_replaying": False, "last_replay": None}
    rig.passes(7)
    assert (rig.way.tries, rig.breaker) == (6, ("open", 6))
    assert rig.told["problem"] == "no connection"
    rig.way.wrong = None
    rig.passes(50)
    assert rig.way.batches == []
    while not rig.way.batches:
        rig.passes(0.5)
    assert (rig.way.batches, rig.breaker[0]) == ([[1]], "half_open")
    rig.passes(limits.GRAYLOG_PROOF_S + 2)
    assert rig.way.batches == [[1], list(range(2, 202)), list(range(202, 402)), list(range(402, 451))]
    assert (rig.breaker, rig.told["problem"]) == (("closed", 0), None)
    assert rig.feed.kept == []
    rig.passes(12)
    assert rig.feed.kept[-1] == 450
    assert rig.replay["pending"] == 0
    assert (rig.replay["is_replaying"], rig.replay["last_replay"] > NOW) == (False, True)


def test_its_state_survives_a_restart(rig: Rig) -> None:
    """GELF-06, DAEMON-09: an open breaker is open after a restart, and waits no longer than it would have."""
    rig.way.wrong = NotSent("no connection")
    rig.feed.records = 1
    rig.passes(12)
    rig.stop()
    again = Rig(rig.directory, rig.feed, Way(), rig.clock)
    again.start()
    assert again.breaker[0] == "open"
    again.passes(40)
    assert again.way.tries == 0
    again.passes(25)
    assert again.way.batches == [[1]]


def test_what_a_cut_connection_may_have_lost_is_sent_again(rig: Rig) -> None:
    """GELF-04: all of the last seconds before the cut, nothing of before, once; also when nothing new comes."""
    rig.feed.records = 3
    rig.passes(2)
    rig.feed.records = 5
    rig.passes(limits.GRAYLOG_HOLD_S - 1)
    assert rig.way.batches == [[1, 2, 3], [4, 5]]
    rig.passes(0.5)
    rig.way.connected = False
    rig.passes(20)
    assert rig.way.batches == [[1, 2, 3], [4, 5], [4, 5]]
    assert (rig.told["sent"], rig.told["repeated"], rig.told["failures"]) == (7, 2, 1)
    assert rig.breaker == ("closed", 0)
    rig.way.connected = False  # nothing is in doubt any more
    rig.passes(20)
    assert (len(rig.way.batches), rig.told["failures"]) == (3, 1)


def test_a_receiver_that_hangs_up_each_time(rig: Rig) -> None:
    """GELF-03: something else that listens there, takes everything and hangs up, is a failure like any other."""
    rig.feed.records = 2
    for _ in range(400):
        rig.passes(1)
        rig.way.connected = False
    assert 5 <= len(rig.way.batches) <= 14
    assert rig.breaker[0] in ("open", "half_open")
    assert rig.feed.kept == []


def test_what_is_certain_is_kept(rig: Rig) -> None:
    """GELF-05: main.db is told once a second at most, and of nothing that is in doubt; a restart goes on there."""
    for n in range(1, 200):
        rig.feed.records = n
        rig.passes(0.2)
    in_time = int((0.2 * 199 - limits.GRAYLOG_HOLD_S) / 0.2)
    assert rig.feed.kept == sorted(set(rig.feed.kept))
    assert in_time - 12 <= rig.feed.kept[-1] <= in_time + 1
    assert len(rig.feed.kept) <= 31
    rig.stop()
    assert rig.way.closed
    kept = rig.feed.kept[-1]
    again = Rig(rig.directory, rig.feed, Way(), rig.clock)
    again.start()
    again.passes(1)
    assert again.way.batches == [list(range(kept + 1, 200))]


def test_a_way_that_says_what_it_took(tmp_path: Path) -> None:
    """GELF-01: over HTTP what was answered for is not sent again, however the rest of its batch fares."""
    rig = Rig(tmp_path, way=Way(hold_s=0.0, wrong=NotSent("it answered 500", 3)))
    rig.feed.records = 10
    rig.start()
    rig.passes(1)
    rig.way.wrong = None
    rig.passes(4)
    assert rig.way.batches == [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10]]
    assert (rig.feed.kept[-1], rig.told["repeated"], rig.breaker) == (10, 0, ("closed", 0))


def test_batches_are_bounded_and_others_get_their_turn(rig: Rig) -> None:
    """GELF-05: a backlog goes in batches of so many records, and between two of them there is a rest."""
    rig.feed.records = 1000
    rig.passes(0.9)
    assert rig.way.batches == []  # it looked before there was anything
    rig.clock.advance(0.2)
    assert [len(batch) for batch in rig.way.batches] == [limits.GRAYLOG_BATCH]
    rig.clock.advance(limits.GRAYLOG_REST_LEAST_S / 2)
    assert len(rig.way.batches) == 1
    rig.passes(1)
    assert sum(len(batch) for batch in rig.way.batches) == 1000
    assert max(rig.feed.asked) == limits.GRAYLOG_BATCH


def test_a_store_that_fails_is_asked_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """GELF-05: what cannot be read now is read later, and nothing is skipped for it."""
    rig.feed.records = 2
    with monkeypatch.context() as patched:
        patched.setattr(OneDay, "unsent", lambda *_: succeed(None).addCallback(lambda _: 1 / 0))
        rig.passes(5)
        assert rig.way.tries == 0
    rig.passes(3)
    assert rig.way.batches == [[1, 2]]
