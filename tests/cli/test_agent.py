"""`bitville agent` against a real agent: what it prints, what it does, and what it says when it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm.cli import main
from bitville_apm.cli.agent import _server_lines
from tests.agent.rig import Agent, Collector, begin_line, end_line, free_port, running, wait_until


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent whose collector is away, so that there is something to tell."""
    gone = Collector()
    gone.close()
    away = f"[postgres reports]\ndsn = host=127.0.0.1 port={free_port()} dbname=shop user=bitville\n"
    with running(Agent(tmp_path_factory.mktemp("cli") / "a", gone.url, more=away)) as agent:
        assert agent.send(end_line()) == b"+"
        wait_until(lambda: agent.health()["stats"]["circuit_breaker"]["state"] == "open")
        yield agent


def test_status_says_what_a_person_wants_to_know(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """DAEMON-17: version, pid, why it is degraded, sockets, what is in flight, breaker, ledger; exit code 3."""
    with agent.connect() as held:
        wait_until(lambda: agent.health()["stats"]["sources"]["host"]["looks"] > 1)
        held.sendall(begin_line("0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01") + b"\n")
        wait_until(lambda: agent.health()["stats"]["sources"]["php"]["in_flight"] == 1)
        assert main(["agent", "status", "--config", str(agent.config)]) == 3
        told = capsys.readouterr().out
        assert main(["agent", "status", "--json", "--config", str(agent.config)]) == 3
        as_json = json.loads(capsys.readouterr().out)
    assert agent.process is not None
    for words in (
        "status        degraded",
        "because     pipeline default: 5 sendings failed in a row, circuit open",
        f"pid {agent.process.pid}, up ",
        f"socket        php: {agent.socket}",
        "1 requests in flight",
        " processes; a look takes ",
        "database      postgres reports: ",
        "circuit open, 1 records wait",
        "1 received",
        "restart above 256 MB",
    ):
        assert words in told, f"{words}\n{told}"
    assert as_json["pid"] == agent.process.pid
    assert as_json["stats"]["circuit_breaker"]["state"] == "open"


def test_a_server_in_the_status() -> None:
    """DAEMON-17, PG-08: of each database server its version, what it does, why it is not looked at as often, and what
    cannot be seen of it; of one that was never reached why.
    """
    told = {"server_version": 150018, "active": 3, "waiting": 1, "look_ms": 3.1, "why": "", "missing": ["its log"]}
    assert list(_server_lines("postgres", told)) == [
        "database      postgres: PostgreSQL 15.18, 3 sessions active, 1 waiting; a look takes 3.1 ms",
        "              not seen: its log",
    ]
    slow = list(_server_lines("postgres", {**told, "why": "a look costs 40 ms, so there is one in 4 s"}))
    assert slow[1] == "              a look costs 40 ms, so there is one in 4 s"
    never = {**told, "server_version": None, "why": "sessions: refused", "missing": []}
    assert list(_server_lines("postgres", never)) == ["database      postgres: sessions: refused"]


def test_reset_breaker(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """DAEMON-09, DAEMON-17: the breaker is closed by hand, and sending is tried at once; log and answer say so."""
    failed = agent.text().count("0 sent")
    assert main(["agent", "reset-breaker", "--config", str(agent.config)]) == 0
    assert "pipeline default: circuit was open, is closed" in capsys.readouterr().out
    assert "breaker central_listener reset" in agent.text()
    wait_until(lambda: agent.text().count("0 sent") > failed)


def test_restart_and_reload(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """DAEMON-17: both come back only when the agent has; a wrong agent.ini is refused in one line, exit code 1."""
    assert agent.process is not None
    for action in ("restart", "reload"):
        assert main(["agent", action, "--config", str(agent.config)]) == 0
        assert f"{action} done: version 0.1.0, pid {agent.process.pid}, clients waited" in capsys.readouterr().out
    good = agent.config.read_text()
    agent.config.write_text(good.replace("group =", "group = no-such-group"))
    assert main(["agent", "reload", "--config", str(agent.config)]) == 1
    said = capsys.readouterr().err
    assert "not done, it goes on as before: " in said
    assert "no group 'no-such-group'" in said
    agent.config.write_text(good)
    assert main(["agent", "status", "--json", "--config", str(agent.config)]) in (0, 3)
    last = json.loads(capsys.readouterr().out)["last_restart"]
    assert last["because"] == "new configuration"


def test_when_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """DAEMON-17: not running, killed, another configuration: one line that says what to do, exit code 1."""
    agent = Agent(tmp_path / "a", "http://127.0.0.1:1")
    assert main(["agent", "status", "--config", str(agent.config)]) == 1
    assert f"not running: no {agent.state}/control.sock; another [agent] state" in capsys.readouterr().err
    with running(agent):
        agent.kill()
    assert main(["agent", "restart", "--config", str(agent.config)]) == 1
    assert "what a killed one left behind" in capsys.readouterr().err
    assert main(["agent", "status", "--config", str(tmp_path / "none.ini")]) == 1
    assert "none.ini: cannot be read" in capsys.readouterr().err
