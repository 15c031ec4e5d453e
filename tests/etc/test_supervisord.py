"""The committed supervisord.conf, run by a real supervisord with nothing but paths, user and log rewritten."""

from __future__ import annotations

import configparser
import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

import bitville_apm
from bitville_apm.cli import main
from tests.agent.rig import end_line
from tests.tools import require

ROOT = Path(bitville_apm.__file__).parent.parent
CONF = ROOT / "etc" / "supervisord.conf"
SOCKET_CONF = ROOT / "etc" / "supervisord-socket.conf"
AGENT, COLLECTOR = "bitville-apm-daemon", "bitville-apm-collector"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@attrs.frozen
class Supervised:
    """A running supervisord in a directory of its own."""

    home: Path
    health_port: int

    def control(self, *words: str) -> str:
        """What supervisorctl answers."""
        command = ["supervisorctl", "-c", str(self.home / "main.conf"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def state(self, program: str) -> str:
        """RUNNING, STARTING, STOPPED …"""
        words = self.control("status", program).split()
        return words[1] if len(words) > 1 else "?"

    def pid(self, program: str) -> int:
        """0 when it does not run."""
        text = self.control("pid", program).strip()
        return int(text) if text.isdigit() else 0

    def health(self) -> str | None:
        """The agent's own word, None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/health", timeout=2) as answer:
                return str(json.load(answer)["status"])
        except OSError:
            return None

    def wait_until_running(self) -> None:
        for program in (COLLECTOR, AGENT):
            wait_for(f"{program} runs\n{self.logs()}", lambda program=program: self.state(program) == "RUNNING")
        wait_for(f"the agent is well\n{self.logs()}", lambda: self.health() == "ok")

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted((self.home / "log").iterdir()))


@contextlib.contextmanager
def running(programs: str) -> Iterator[Supervised]:
    """A supervisord with these programs, which are rewritten to directories of their own."""
    require("supervisord", "supervisorctl")
    home = Path(tempfile.mkdtemp(prefix="bv-"))
    health, web = free_port(), free_port()
    for name in ("etc", "log", "run", "agent", "collector"):
        (home / name).mkdir()
    settings = {
        "collector.ini": f"[collector]\nlisten = 127.0.0.1:{web}\ndata = {home}/collector\n",
        "agent.ini": f"[agent]\nstate = {home}/agent\nhealth = 127.0.0.1:{health}\nheartbeat = {home}/run/alive\n"
        f"[collector]\nurl = http://127.0.0.1:{web}\nkey_file = {home}/collector/local.key\n"
        f"[php]\nsocket = {home}/run/daemon.sock\nspool = {home}/agent/spool\n",
    }
    for name, text in settings.items():
        (home / "etc" / name).touch(mode=0o640)
        (home / "etc" / name).write_text(text)
    for old, new in {
        "/opt/bitville-apm/bin/twistd": str(Path(sys.executable).with_name("twistd")),
        "/etc/bitville-apm/": f"{home}/etc/",
        "/var/log/bitville-apm/": f"{home}/log/",
        "directory=/var/lib/bitville-apm-collector": f"directory={home}/collector",
        "directory=/var/lib/bitville-apm": f"directory={home}/agent",
        "/var/run/bitville-apm/": f"{home}/run/",
        "=www-data:www-data": f"={getpass.getuser()}",
        "user=www-data": f"user={getpass.getuser()}",
    }.items():
        programs = programs.replace(old, new)
    settings_only = "\n".join(line for line in programs.splitlines() if not line.startswith(";"))
    assert not re.search(r"/etc/bitville|/var/|www-data|/opt/bitville-apm/bin/twistd", settings_only)
    (home / "programs.conf").write_text(programs)
    (home / "main.conf").write_text(
        f"[supervisord]\nlogfile={home}/supervisord.log\npidfile={home}/supervisord.pid\nnodaemon=true\n"
        f"user={getpass.getuser()}\n[unix_http_server]\nfile={home}/s.sock\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{home}/s.sock\n[include]\nfiles={home}/programs.conf\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BITVILLE_")}
    command = ["supervisord", "-c", str(home / "main.conf")]
    with (
        (home / "output").open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=clean | {"PYTHONPATH": ""}) as process,
    ):
        try:
            yield Supervised(home, health)
        finally:
            process.terminate()
            process.wait(60)
            shutil.rmtree(home)


@pytest.fixture(scope="module")
def supervised() -> Iterator[Supervised]:
    with running(CONF.read_text()) as supervised:
        supervised.wait_until_running()
        yield supervised


def test_the_entry_is_the_promised_one() -> None:
    """DAEMON-12: the agent's section, setting by setting, and the commands in the head."""
    parser = configparser.RawConfigParser()
    parser.read(CONF)
    entry = dict(parser[f"program:{AGENT}"])
    command = entry.pop("command")
    assert command.startswith("/opt/bitville-apm/bin/twistd --nodaemon --pidfile= bitville-agent ")
    assert entry.pop("environment").startswith("PATH=")
    assert entry == {
        "directory": "/var/lib/bitville-apm",
        "user": "www-data",
        "autostart": "true",
        "autorestart": "true",
        "startretries": "999999",
        "redirect_stderr": "true",
        "stdout_logfile": "/var/log/bitville-apm/daemon.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "5",
        "stopsignal": "TERM",
        "stopwaitsecs": "30",
        "priority": "999",
    }
    assert f"program:{COLLECTOR}" in parser
    head = CONF.read_text().partition("[program:")[0]
    for words in ("supervisorctl reread", "supervisorctl restart", "supervisorctl stop", "supervisorctl status"):
        assert words in head


def test_both_daemons_run(supervised: Supervised) -> None:
    """DAEMON-12: under a real supervisord both programs reach RUNNING, the agent is well, the log says it started."""
    assert supervised.state(AGENT) == supervised.state(COLLECTOR) == "RUNNING"
    assert supervised.health() == "ok"
    assert (supervised.home / "run" / "daemon.sock").is_socket()
    assert (supervised.home / "log" / "daemon.log").stat().st_size > 0


def test_restart(supervised: Supervised) -> None:
    """DAEMON-12, DAEMON-04: `supervisorctl restart` gives another process, which is well again."""
    before = supervised.pid(AGENT)
    supervised.control("restart", AGENT)
    supervised.wait_until_running()
    assert supervised.pid(AGENT) not in (0, before)


def test_a_killed_agent_comes_back(supervised: Supervised) -> None:
    """DAEMON-12, DAEMON-07: after `kill -9` supervisord starts the agent again; the stale socket does not stop it."""
    before = supervised.pid(AGENT)
    os.kill(before, signal.SIGKILL)
    wait_for("another process", lambda: supervised.pid(AGENT) not in (0, before))
    supervised.wait_until_running()


def test_stop_leaves_nothing(supervised: Supervised) -> None:
    """DAEMON-12, DAEMON-04: `supervisorctl stop` ends both within their 30 s and leaves neither process nor socket."""
    pids = [supervised.pid(AGENT), supervised.pid(COLLECTOR)]
    began = time.monotonic()
    supervised.control("stop", "all")
    assert time.monotonic() - began < 30
    assert supervised.state(AGENT) == supervised.state(COLLECTOR) == "STOPPED"
    assert not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
    assert supervised.health() is None
    assert not (supervised.home / "run" / "daemon.sock").exists()


def test_a_socket_held_by_supervisord_outlives_a_killed_agent() -> None:
    """DAEMON-07, DAEMON-12: supervisord-socket.conf: `kill -9` and a restart refuse nobody, the socket stays."""
    with running(SOCKET_CONF.read_text()) as supervised:
        agent = f"{AGENT}:agent-0"
        wait_for(f"the agent runs\n{supervised.logs()}", lambda: supervised.health() is not None)
        path = supervised.home / "run" / "daemon.sock"
        made = path.stat()
        assert made.st_mode & 0o777 == 0o660
        pid = supervised.pid(agent)
        os.kill(pid, signal.SIGKILL)
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                time.sleep(0.05)
        wait_for("another process", lambda: supervised.pid(agent) not in (0, pid))
        wait_for("it answers", lambda: supervised.health() is not None)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(end_line() + b"\n")
            assert client.recv(1) == b"+"
        config = str(supervised.home / "etc" / "agent.ini")
        assert main(["agent", "restart", "--config", config]) == 0
        assert path.stat().st_ino == made.st_ino
        assert path.stat().st_mode == made.st_mode


def test_both_files_run_the_same_agent() -> None:
    """DAEMON-12: what is promised of the one entry holds for the other, but for what a socket needs."""
    parser = configparser.RawConfigParser()
    parser.read([CONF, SOCKET_CONF])
    one, other = dict(parser[f"program:{AGENT}"]), dict(parser[f"fcgi-program:{AGENT}"])
    assert other.pop("command").endswith(f'exec {one.pop("command")}"')
    more = {"process_name", "numprocs", "socket", "socket_owner", "socket_mode", "socket_backlog"}
    assert {key: value for key, value in other.items() if key not in more} == one
    assert more <= other.keys()
