"""Lanes and what they add up to, without a server: time is a clock's, answers are the test's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from bitville_apm.agent.postgres.lane import Lane
from bitville_apm.agent.postgres.link import TooSlow, Unreachable
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.source import Databases, PostgresSource
from bitville_apm.sqltext import fingerprint
from tests.agent.journal_rig import at_once
from tests.agent.postgres.server import Server
from tests.agent.sealing_rig import World


class Thread:
    """A thread whose calls the test answers."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []
        self.abandoned = 0

    def __call__(self, function: Any, /, *arguments: object) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def abandon(self) -> None:
        self.abandoned += 1

    def lane(self) -> Lane:
        return Lane("postgres", "sessions", self, Pace(1.0), lambda: None, self.abandon)


def test_one_question_at_a_time() -> None:
    """PG-07: a server that takes its time is not asked again meanwhile; then it is, at the next second."""
    thread = Thread()
    lane = thread.lane()
    got: list[Any] = []
    assert lane.turn(100.0) is not None
    thread.asked[0].addCallback(got.append)
    for second in range(1, 4):
        assert lane.turn(100.0 + second) is None
    thread.asked[0].callback("seen")
    assert got == ["seen"]
    assert lane.turn(104.0) is not None
    assert len(thread.asked) == 2
    assert thread.abandoned == 0


def test_seconds_are_kept_though_ticks_come_a_little_early_or_late() -> None:
    """PG-01: sixty ticks about a second apart are sixty looks."""
    thread = Thread()
    lane = thread.lane()
    for second in range(60):
        assert lane.turn(100.0 + second + (0.02 if second % 2 else -0.02)) is not None
        thread.asked[-1].callback(None)


def test_no_answer_is_given_up() -> None:
    """PG-07: after five seconds the connection is given up from outside, and that is why it fails."""
    thread = Thread()
    lane = thread.lane()
    lane.turn(100.0)
    for second in range(1, 6):
        assert lane.turn(100.0 + second) is None
    assert thread.abandoned == 0
    lane.turn(106.0)
    assert (thread.abandoned, lane.failing) == (1, "it does not answer")
    thread.asked[0].errback(Failure(Unreachable("it cannot be reached")))
    assert lane.failing == "it does not answer"
    assert lane.idle
    lane.turn(107.5)
    thread.asked[1].callback("seen")
    assert lane.failing == ""


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unreachable("it is starting"), "it is starting"),
        (TooSlow(), "it takes longer than 1000 ms to answer"),
    ],
)
def test_a_server_that_fails_is_asked_later(error: Exception, why: str) -> None:
    """PG-07, PG-08: its lane says why, and asks after one second, two, four …"""
    thread = Thread()
    lane = thread.lane()
    turns = []
    for second in range(20):
        if lane.turn(100.0 + second) is not None:
            turns.append(second)
            thread.asked[-1].errback(Failure(error))
            assert lane.failing == why
    assert turns == [0, 1, 3, 7, 15]
    assert lane.failures == len(turns)


def test_servers_of_one_project_add_up() -> None:
    """PG-01: `seconds.db` is the sum of the servers, each for as long as its look stands, and not a moment longer."""
    databases = Databases()
    assert databases.active("one", 100.0, 1.0, 5) == 5.0
    assert databases.active("two", 100.4, 1.0, 3) == 8.0
    assert databases.active("one", 101.0, 1.0, 6) == 9.0
    assert databases.active("one", 102.5, 1.0, 6) == 6.0, "the second has not been seen for two seconds"
    assert databases.active("two", 103.0, 4.0, 1) == 7.0
    assert databases.active("one", 107.0, 1.0, 2) == 3.0, "looked at every fourth second"


def test_a_log_that_is_not_there_is_said(postgres: Server) -> None:
    """PG-08: a path in agent.ini that leads nowhere is said in words; nothing is, before anybody has looked."""

    def at_once(function: Any, /, *arguments: object) -> Deferred[Any]:
        raise AssertionError("not asked for")

    dsn = postgres.dsn(user="bitville")
    source = PostgresSource(
        "main", "db1", dsn, "/nowhere/a.log", None, Databases(), (at_once,) * 3, Clock(), lambda: 1e9
    )  # type: ignore[arg-type]
    assert source.name == "postgres main"
    assert source.missing() == []
    try:
        source.statistics.read()
        source._read_log()
        assert source.missing() == ["its log cannot be read: No such file or directory"]
    finally:
        source.statistics.close()
    health = source.health()
    assert (health["status"], health["why"], health["looks"]) == ("ok", "", 0)
    assert dsn not in repr(source)


def test_a_frame_tells_how_often_statements_ran(postgres: Server, tmp_path: Path) -> None:
    """PG-02, wire.md 6: calls that a reading of pg_stat_statements has found are in the frame of its window."""
    world = World(tmp_path)
    pipeline: Any = SimpleNamespace(sealing=world.sealing, observed=lambda id, body: succeed(None))
    dsn = postgres.dsn(user="bitville")
    source = PostgresSource("main", "db1", dsn, "", pipeline, Databases(), (at_once,) * 3, Clock(), world.now)
    try:
        source.statistics.read()
        with postgres.connect() as connection:
            for n in range(7):
                connection.execute(f"SELECT count(*) FROM item WHERE id < {n}")
        source._read(source.statistics.read())
        with postgres.connect() as connection:
            connection.execute("SELECT count(*) FROM item WHERE id < 9")
        source._read(source.statistics.read())
    finally:
        source.statistics.close()
    world.finish()
    (frame,) = world.stored.values()
    assert frame.load["db"]["main"]["calls"][fingerprint("SELECT count(*) FROM item WHERE id < ?")] == 8
