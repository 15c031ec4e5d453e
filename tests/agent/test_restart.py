"""The agent replaces itself: same pid, same sockets, same connections; or refuses to, in one line, and goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.agent.asking import asked, restarted, restarts
from tests.agent.rig import Agent, Collector, begin_line, end_line, running, wait_until


def test_everything_goes_on_over_a_restart(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-02, DAEMON-17: pid, socket, connection, begun request, half a line and unread bytes survive a restart."""
    agent = Agent(tmp_path / "a", collector.url)
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    line = end_line(first) + b"\n"
    with running(agent):
        assert agent.process is not None
        inode = agent.socket.stat().st_ino
        with agent.connect(20) as half, agent.connect(20) as quiet:
            half.sendall(begin_line(first) + b"\n" + line[:40])
            quiet.sendall(begin_line(second) + b"\n")
            wait_until(lambda: agent.health()["stats"]["sources"]["php"]["in_flight"] == 2)
            answer = asked(agent, "restart")
            assert (answer["ok"], answer["pid"]) == (True, agent.process.pid)
            quiet.sendall(end_line(second) + b"\n")
            restarted(agent)
            half.sendall(line[40:])
            assert half.recv(1) == quiet.recv(1) == b"+"
        assert agent.socket.stat().st_ino == inode
        assert agent.socket.stat().st_mode & 0o777 == 0o660
        told = asked(agent, "status")
        assert (told["pid"], told["last_restart"]["because"]) == (agent.process.pid, "bitville agent restart")
        wait_until(lambda: collector.items.keys() == {first, second})
        assert told["stats"]["sources"]["php"]["died"] == 0
        assert agent.stop() == 0
    assert not agent.socket.exists()
    assert not (agent.state / "control.sock").exists()
    assert "restart because of bitville agent restart" in agent.text()
    assert "2 connections taken over" in agent.text()


def test_after_max_requests(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-02, DAEMON-14: it restarts by itself once it has had its requests and its age; log and health say n/m."""
    agent = Agent(tmp_path / "a", collector.url, more="max_requests = 20\nmin_lifetime = 1\n")
    with running(agent):
        worker = agent.health()["stats"]["worker"]
        assert (worker["max_requests"], worker["memory_limit_mb"]) == (20, 256)
        ids = [str(uuid.uuid4()) for _ in range(25)]
        for id_ in ids:
            assert agent.send(end_line(id_)) == b"+"
        restarted(agent)
        assert "restart because of requests 25/20" in agent.text()
        wait_until(lambda: collector.items.keys() == set(ids))


def test_sighup_reads_the_configuration_again(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-04, DAEMON-17: SIGHUP and reload take a new setting; a wrong one is one line in the log, and no change."""
    agent = Agent(tmp_path / "a", collector.url)
    good = agent.config.read_text()
    more = tmp_path / "a" / "shop.sock"
    taken = socket.create_server(("127.0.0.1", 0))
    with running(agent), taken:
        assert agent.process is not None
        for text, words in (
            (good.replace("[limits]", "[limts]"), "unknown section [limts]"),
            (good.replace("group =", "group = no-such-group"), "no group 'no-such-group'"),
            (good.replace(str(agent.health_port), str(taken.getsockname()[1])), "Address already in use"),
            (good.replace("[php]", "[php shop]\nsocket = /proc/no.sock\n[php]"), "/proc"),
        ):
            agent.config.write_text(text)
            agent.process.send_signal(signal.SIGHUP)
            wait_until(lambda words=words: words in agent.text(), 30, words)
            assert agent.text().count("not restarted because of new configuration") >= 1
            assert restarts(agent) == 0
        answer = asked(agent, "reload")
        assert not answer["ok"]
        assert "/proc" in answer["error"]
        assert "Traceback" not in agent.text()
        assert agent.send(end_line()) == b"+"
        agent.config.write_text(good.replace("[limits]", f"[php shop]\nsocket = {more}\ngroup =\n[limits]"))
        agent.process.send_signal(signal.SIGHUP)
        restarted(agent)
        assert more.exists()
        agent.config.write_text(good.replace("0.2", "0.3"))
        agent.process.send_signal(signal.SIGHUP)
        restarted(agent, 1)
        assert not more.exists()
        assert agent.send(end_line()) == b"+"


@pytest.mark.parametrize("delays", [(0.2,), pytest.param((0.0, 0.05, 0.1, 0.3, 0.6), marks=pytest.mark.full)])
def test_a_signal_in_the_midst_of_a_restart(delays: tuple[float, ...], tmp_path: Path, collector: Collector) -> None:
    """DAEMON-04: SIGHUP while it replaces itself does not end it, SIGTERM does, with exit code 0 and no socket left."""
    agent = Agent(tmp_path / "a", collector.url)
    with running(agent):
        assert agent.process is not None
        asked(agent, "restart")
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            agent.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        restarted(agent)
        assert agent.process.poll() is None
        for delay in delays:
            wait_until(lambda: asked(agent, "restart")["ok"], 30)
            time.sleep(delay)
            assert agent.stop() == 0
            assert not agent.socket.exists()
            agent.start()


@pytest.mark.parametrize(
    "how", ["daemon", pytest.param("module", marks=pytest.mark.full), pytest.param("elsewhere", marks=pytest.mark.full)]
)
def test_however_it_was_started(how: str, tmp_path: Path, collector: Collector) -> None:
    """DAEMON-02: as a daemon with a pidfile, as `python -m twisted`, from a relative path with another rundir."""
    agent = Agent(tmp_path / "a", collector.url)
    bin_, pidfile = Path(sys.executable).parent, tmp_path / "a" / "agent.pid"
    command = {
        "daemon": [bin_ / "twistd", f"--pidfile={pidfile}", "--logfile=agent.log"],
        "module": [sys.executable, "-m", "twisted"],
        "elsewhere": [bin_ / "twistd", "--nodaemon", f"--pidfile={pidfile}", "--rundir=/", "--logfile=agent.log"],
    }[how]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BITVILLE_")}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [*command, "bitville-agent", "--config", "agent.ini"],
            cwd=agent.directory, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    pid = 0
    try:
        wait_until(agent.answers, what=(tmp_path / "output").read_text() + agent.text())
        pid = int(asked(agent, "status")["pid"])
        for n in range(2):
            wait_until(lambda: asked(agent, "restart")["ok"])
            restarted(agent, n)
            told = asked(agent, "status")
            assert told["pid"] == pid
            assert agent.send(end_line()) == b"+"
            if how != "module":
                assert pidfile.read_text() == str(pid)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not agent.socket.exists() and not pidfile.exists())
        wait_until(lambda: len(collector.items) == 2)
    finally:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def test_a_version_that_cannot_take_over_is_left_to_the_supervisor(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-02: when the installed code is broken, or of another kind, the running agent goes on and says so."""
    code = tmp_path / "code"
    code.mkdir()
    agent = Agent(
        tmp_path / "a", collector.url, environment={"PYTHONPATH": f"{code}:{os.environ.get('PYTHONPATH', '')}"}
    )
    with running(agent):
        (code / "msgspec.py").write_text("raise ImportError('half an upgrade')\n")
        answer = asked(agent, "restart")
        assert not answer["ok"]
        (code / "msgspec.py").unlink()
        (code / "sitecustomize.py").write_text("from bitville_apm.agent import handover\nhandover.VERSION = 99\n")
        answer = asked(agent, "restart")
        assert "cannot take over from this one" in answer["error"]
        (code / "sitecustomize.py").unlink()
        assert agent.send(end_line()) == b"+"
        assert restarts(agent) == 0
        assert asked(agent, "restart")["ok"]
        restarted(agent)


def test_who_may_ask(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-17: the control socket is 0600, replaces a stale one, and answers anything with one line of JSON."""
    agent = Agent(tmp_path / "a", collector.url)
    with running(agent):
        agent.kill()
        assert (agent.state / "control.sock").exists()
        agent.start()
        path = agent.state / "control.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        for line in (b"rubbish", b"[]", b'{"do":["status"]}', b'{"do":"explode"}', b"[" * 5000, b"x" * 20_000):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(10)
                asking.connect(str(path))
                asking.sendall(line + b"\n")
                answer = json.loads(b"".join(iter(lambda asking=asking: asking.recv(65536), b"")))
            assert answer["ok"] is False
            assert answer["error"]
        if os.geteuid() == 0:
            path.chmod(0o666)
            agent.state.chmod(0o755)
            for directory in (agent.directory, *agent.directory.parents[:4]):
                directory.chmod(directory.stat().st_mode | 0o011)
            ask = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); print(s.recv(999))"
            stranger: Any = {"user": 65534, "group": 65534, "extra_groups": []}
            done = subprocess.run(["python3", "-S", "-c", ask], **stranger, capture_output=True, text=True, check=False)
            assert "only root" in done.stdout, done.stderr
