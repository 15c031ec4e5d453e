"""Sockets that a supervisor holds, handed over as systemd does it; supervisord's way is in tests/etc."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.asking import asked, restarted, restarts
from tests.agent.rig import Agent, Collector, end_line, running, wait_until
from tests.faults.tools import clients, holder


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of the agent in `tmp_path/a`, held by this test."""
    with holder.held(tmp_path / "a" / "run" / "daemon.sock") as listening:
        yield listening


def test_neither_sigkill_nor_sigterm_takes_the_socket_away(
    tmp_path: Path, collector: Collector, lent: socket.socket
) -> None:
    """DAEMON-07: with LISTEN_FDS the file is the supervisor's: mode untouched, never removed; who connects, waits."""
    agent = holder.behind(lent, tmp_path / "a", collector.url)
    made = agent.socket.stat()
    with running(agent):
        assert agent.send(end_line()) == b"+"
        for end in (agent.kill, agent.stop):
            end()
            with agent.connect(20) as waiting:
                waiting.sendall(end_line() + b"\n")
                agent.start()
                assert waiting.recv(1) == b"+"
            now = agent.socket.stat()
            assert (now.st_ino, now.st_mode, now.st_gid) == (made.st_ino, made.st_mode, made.st_gid)
        assert asked(agent, "restart")["ok"]
        restarted(agent)
        assert asked(agent, "status")["sockets"]["php"]["held_by_supervisor"] is True
        assert agent.send(end_line()) == b"+"
        assert agent.stop() == 0
    assert agent.socket.stat().st_ino == made.st_ino
    assert len(collector.items) == 4


def test_nobody_is_refused_under_kills(tmp_path: Path, collector: Collector, lent: socket.socket) -> None:
    """DAEMON-07: a client that tries all the time is never refused, though the agent is killed twice and stays away."""
    agent = holder.behind(lent, tmp_path / "a", collector.url)
    with running(agent):
        wait_until(agent.spool.exists)
        client = clients.Client(agent.socket, agent.spool, "client", 1, deadline=5.0)
        client.start()
        try:
            for _ in range(2):
                agent.kill()
                time.sleep(0.3)
                agent.start()
            wait_until(lambda: client.tally.requests > 20)
        finally:
            tally = client.finish()
        assert tally.refused == 0
        wait_until(lambda: tally.whole <= collector.items.keys())


def test_a_section_is_found_by_its_name(tmp_path: Path, collector: Collector, lent: socket.socket) -> None:
    """design.md 1: FileDescriptorName= names the section; the path is then the socket's own, over restarts too."""
    words = {"LISTEN_FDNAMES": "shop"}
    agent = holder.behind(lent, tmp_path / "a", collector.url, environment=words)
    agent.config.write_text(
        agent.config.read_text().replace("[php]", "[php shop]").replace("daemon.sock", "other.sock")
    )
    with running(agent):
        assert agent.send(end_line()) == b"+"
        assert asked(agent, "status")["sockets"] == {"shop": {"path": str(agent.socket), "held_by_supervisor": True}}
        assert asked(agent, "restart")["ok"]
        restarted(agent)
        assert agent.send(end_line()) == b"+"
        assert not agent.socket.with_name("other.sock").exists()


def test_a_socket_of_no_section_is_said(tmp_path: Path, collector: Collector, lent: socket.socket) -> None:
    """design.md 1: clients of a socket that no section has would wait for ever: one line and exit code 1; no reload."""
    agent = holder.behind(lent, tmp_path / "a", collector.url)
    good = agent.config.read_text()
    wrong = good.replace("daemon.sock", "other.sock")
    said = f"is {agent.socket}, but no [php …] section has this as its socket"
    agent.config.write_text(wrong)
    assert agent.spawn().wait(30) == 1
    assert said in agent.text()
    assert "Traceback" not in agent.text()
    agent.config.write_text(good)
    with running(agent):
        agent.config.write_text(wrong)
        answer = asked(agent, "reload")
        assert said in answer["error"]
        assert restarts(agent) == 0
        assert agent.send(end_line()) == b"+"


def test_variables_for_somebody_else_are_not_believed(tmp_path: Path, collector: Collector) -> None:
    """sd_listen_fds(3): LISTEN_FDS counts only for the pid it names; the agent then makes its own socket."""
    agent = Agent(tmp_path / "a", collector.url, environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    with running(agent):
        assert agent.send(end_line()) == b"+"
        assert asked(agent, "status")["sockets"]["php"]["held_by_supervisor"] is False
