"""When a restart is due, what it is begun with, and what becomes of one that may not be; by a clock that is set."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.handover import Handover, Holds
from bitville_apm.agent.lifecycle import Command, Lifecycle, NotRestarted
from tests.agent.asking import asked, restarted
from tests.agent.rig import Agent, Collector, end_line, running, wait_until


@attrs.define(eq=False)
class Life:
    """A `Lifecycle` whose check, numbers and restart are this object's."""

    requests: int = 0
    memory: float = 60.0
    busy: str = ""
    checks: list[Any] = attrs.Factory(list)
    bad: str = ""
    suspended: list[str] = attrs.Factory(list)
    clock: Clock = attrs.Factory(Clock)

    def begin(self, **settings: int) -> Lifecycle:
        wanted = {"max_requests": 1000, "min_lifetime": 3600, "memory_mb": 256, **settings}
        life = Lifecycle(
            command=Command(("twistd",), "/"),
            clock=self.clock,
            run=self.checked,
            holds=Holds(),
            requests=lambda: self.requests,
            memory=lambda: self.memory,
            busy=lambda: self.busy,
            suspend=self.suspend,
            **wanted,
        )
        life.start()
        return life

    def checked(self, *arguments: Any) -> Deferred[None]:
        self.checks.append(arguments)
        return fail(NotRestarted(self.bad)) if self.bad else succeed(None)

    async def suspend(self, why: str) -> Handover | None:
        self.suspended.append(why)
        return None

    def pass_(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


@pytest.fixture(autouse=True)
def no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm that outlives an exec would end the tests."""
    monkeypatch.setattr("bitville_apm.agent.lifecycle.signal.alarm", lambda seconds: None)


def test_requests_and_age_together() -> None:
    """DAEMON-02: neither 1000 requests in its first hour, nor an hour without them; then once."""
    life = Life()
    life.begin()
    life.requests = 5000
    life.pass_(3598)
    assert life.suspended == []
    life.pass_(3)
    assert life.suspended == ["requests 5000/1000"]
    life.pass_(100)
    assert len(life.suspended) == 1
    quiet = Life()
    quiet.begin()
    quiet.requests = 999
    quiet.pass_(4000)
    assert quiet.suspended == []


def test_memory_at_once_but_not_over_and_over() -> None:
    """DAEMON-01: above 256 MB, whatever its age, but never within a minute of the start before."""
    life = Life(memory=260.4)
    life.begin()
    life.pass_(58)
    assert life.suspended == []
    life.pass_(3)
    assert life.suspended == ["memory 260/256 MB"]
    exact = Life(memory=256.0)
    exact.begin()
    exact.pass_(200)
    assert exact.suspended == []


def test_nothing_means_never() -> None:
    """DAEMON-01, DAEMON-02: 0 switches each off."""
    life = Life(memory=5000.0, requests=10**9)
    life.begin(max_requests=0, memory_mb=0, min_lifetime=0)
    life.pass_(5000)
    assert life.checks == []


def test_what_may_not_be_is_tried_again_in_ten_minutes() -> None:
    """DAEMON-02: a bad agent.ini, or a disk that does not answer, costs a line and a later try, not the agent."""
    for trouble in ({"bad": "agent.ini: no"}, {"busy": "the journal's disk does not answer"}):
        life = Life(requests=2000, **trouble)  # type: ignore[arg-type]
        life.begin(min_lifetime=0)
        life.pass_(int(limits.RESTART_REFUSED_S) - 5)
        assert (len(life.checks), life.suspended) == (1, [])
        life.bad = life.busy = ""
        life.pass_(15)
        assert life.suspended == ["requests 2000/1000"]


def test_a_slow_disk_is_waited_for() -> None:
    """DAEMON-02: a moment in which the disk does not answer puts a restart off by seconds, not by minutes."""
    life = Life(requests=2000, busy="the journal's disk does not answer")
    life.begin(min_lifetime=0)
    life.pass_(3)
    assert life.suspended == []
    life.busy = ""
    life.pass_(2)
    assert life.suspended == ["requests 2000/1000"]


@pytest.mark.parametrize(
    ("twistd", "given", "wanted"),
    [
        ({"nodaemon": True, "pidfile": ""}, 2, ["-I", "/bin/twistd", "-n", "bitville-agent"]),
        (
            {"nodaemon": 0, "logfile": None, "syslog": False, "pidfile": "twistd.pid"},
            1,
            ["-I", "/bin/twistd", "--nodaemon", "--logfile=twistd.log", "bitville-agent"],
        ),
        (
            {"nodaemon": 0, "logfile": None, "syslog": True, "pidfile": "x"},
            1,
            ["-I", "/bin/twistd", "--nodaemon", "bitville-agent"],
        ),
        ({}, 2, ["-I", "/bin/twistd", "-n", "bitville-agent"]),
    ],
)
def test_the_command_line_again(twistd: dict[str, Any], given: int, wanted: list[str]) -> None:
    """DAEMON-02: the same words; a daemon is told not to fork once more, and to keep its log."""
    told = ["-n", "bitville-agent"] if given == 2 else ["bitville-agent"]
    command = Command.of(twistd, ["/usr/bin/python3", "-I", "/bin/twistd", *told], given, "/tmp")
    assert list(command.arguments) == wanted
    assert command.pidfile == (twistd.get("pidfile") or "")


@pytest.mark.full
def test_too_much_memory(tmp_path: Path) -> None:
    """DAEMON-01, DAEMON-14: a real agent above its limit restarts when it is a minute old, and says n/m MB."""
    collector = Collector()
    agent = Agent(tmp_path / "a", collector.url, more="memory_mb = 80\n")
    try:
        with running(agent), contextlib.ExitStack() as stack:
            wait_until(lambda: asked(agent, "status")["uptime_seconds"] > limits.RESTART_AGAIN_S - 3, 90)
            lines = {str(uuid.uuid4()): stack.enter_context(agent.connect(30)) for _ in range(4)}
            text = {id_: end_line(id_, size=7 << 20) + b"\n" for id_ in lines}
            for id_, client in lines.items():
                client.sendall(text[id_][:-1000])
            wait_until(lambda: "restart because of memory" in agent.text(), 20)
            for id_, client in lines.items():
                client.sendall(text[id_][-1000:])
            assert [client.recv(1) for client in lines.values()] == [b"+"] * 4
            restarted(agent)
            wait_until(lambda: lines.keys() <= collector.items.keys())
    finally:
        collector.close()
