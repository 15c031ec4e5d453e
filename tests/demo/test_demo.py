"""`bitville demo` from start to Ctrl-C, as a person runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.tools import require

CLI = [sys.executable, "-m", "bitville_apm.cli"]


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return result


@attrs.define(eq=False)
class Demo:
    """One running demo and what it has printed."""

    process: subprocess.Popen[str]
    output: list[str] = attrs.field(factory=list)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, state: Path, *options: str, **environment: str) -> Demo:
        command = [*CLI, "demo", "--state", str(state), *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )
        demo = cls(process)
        demo._reader = threading.Thread(target=demo._read, daemon=True)
        demo._reader.start()
        return demo

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output.append(line)

    @property
    def text(self) -> str:
        return "".join(self.output)

    def ready(self) -> Demo:
        wait_for("the demo runs", lambda: "Ctrl-C stops" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        return self

    def printed(self, name: str) -> str:
        found = re.search(rf"^{name} +(\S+)", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and for all it said: its exit code."""
        code = self.process.wait(60)
        assert self._reader is not None
        self._reader.join()
        return code


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory with a short name, whose processes are all gone in the end, whatever a test did."""
    directory = Path(tempfile.mkdtemp(prefix="bv-"))
    yield directory / "d"
    for pid in left(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory)


def left(directory: Path) -> list[int]:
    """The processes that have to do with a directory: by their command line, or by a working file of theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes()
            if str(directory).encode() in command + environment and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def sockets(state: Path) -> list[str]:
    return [path.name for path in state.rglob("*") if path.is_socket()]


def api(demo: Demo, key: str, question: str, **parameters: str) -> Any:
    url = f"{demo.printed('page')}api/{question}?{urllib.parse.urlencode(parameters)}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def sources(state: Path) -> dict[str, Any]:
    """What the agent says of all that feeds it."""
    port = re.search(r"^health = (.*)$", (state / "agent.ini").read_text(), re.MULTILINE)
    assert port
    with urllib.request.urlopen(f"http://{port[1]}/health", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["stats"]["sources"]
    return found


def read_key(state: Path) -> str:
    command = [*CLI, "key", "new", "--project", "default", "--scope", "read", "--config", str(state / "collector.ini")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def make_trouble(state: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [*CLI, "demo", "--state", str(state), "--trouble", name]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_from_start_to_ctrl_c(state: Path) -> None:
    """CFG-09, QUERY-02, PHP-06: the slow page comes first, with its function and statement; Ctrl-C leaves nothing.

    A second demo beside it is refused, a later one finds what the first has kept, and each says how to log in. Trouble
    is made when it is asked for, and where no demo runs that is said.
    """
    require("php-fpm8.2")
    demo = Demo.start(state, "--rate", "20").ready()
    key = read_key(state)
    slowest = wait_for("a checkout", lambda: api(demo, key, "search", url="/checkout")["items"])[0]
    assert api(demo, key, "search")["items"][0]["endpoint"] == slowest["endpoint"] == "POST /checkout"
    assert slowest["duration_ms"] > 500
    record = api(demo, key, f"requests/{slowest['id']}")
    assert "FROM order_line b WHERE" in max(record["statements"], key=lambda s: s["total_ms"])["statement"]
    slow = {f["name"] for f in sorted(record["functions"], key=lambda f: -f["self_ms"])[:2]}
    if "Excimer" in demo.text and "without Excimer" not in demo.text:
        assert slow == {"Shop\\Invoice::render_pdf", "Shop\\Reports::slow_totals"}
    orders = wait_for("order histories", lambda: api(demo, key, "search", url="/orders", sort="time")["items"])
    assert orders[0]["sql_count"] > 100

    second = subprocess.run([*CLI, "demo", "--state", str(state)], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"already running in {state} (process {demo.process.pid})" in second.stderr

    for source in ("host", "fpm php"):
        wait_for(source, lambda source=source: sources(state)[source]["status"] == "ok")  # type: ignore[misc]

    asked = make_trouble(state, "burner")
    assert (asked.returncode, asked.stdout[:15]) == (0, "burner for 60 s")
    wait_for("the trouble", lambda: "trouble for 60 s: burner: a campaign" in demo.text)

    with urllib.request.urlopen(demo.printed("log in"), timeout=10) as page:
        assert page.status == 200
    assert demo.stop() == 0
    assert re.search(r"\d+ visits, 0 failed", demo.text)
    assert left(state) == []
    assert sockets(state) == []
    refused = make_trouble(state, "burner")
    assert refused.returncode == 1
    assert f"no demo is running in {state}" in refused.stderr

    again = Demo.start(state, "--rate", "20").ready()
    assert again.printed("log in") != demo.printed("log in")
    assert again.printed("log in").startswith(again.printed("page") + "login/")
    assert api(again, key, f"requests/{slowest['id']}")
    assert again.stop(signal.SIGTERM) == 0
    assert left(state) == []


def test_recorded_traffic_without_php(state: Path, tmp_path: Path) -> None:
    """COMM-05, wire.md 3: where no PHP is on the PATH, recorded requests are played, and are found in the collector."""
    demo = Demo.start(state, "--rate", "20", PATH=str(tmp_path)).ready()
    assert "no php is installed; recorded traffic is played" in demo.text
    key = read_key(state)
    found = wait_for("a recorded request", lambda: api(demo, key, "search")["items"])
    assert found[0]["duration_ms"] > 0
    assert demo.stop() == 0
    assert re.search(r"[1-9]\d* visits, 0 failed", demo.text)
    assert left(state) == []


def test_it_stops_by_itself(state: Path) -> None:
    """`--seconds` ends the demo like Ctrl-C does; a port that is taken is said before anything starts."""
    demo = Demo.start(state, "--recorded", "--seconds", "1")
    assert demo.ended() == 0
    assert "stopped; the data stays in" in demo.text
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = subprocess.run(
            [*CLI, "demo", "--state", str(state), "--port", port], capture_output=True, text=True, check=False
        )
    assert refused.returncode == 1
    assert f"port {port} is taken" in refused.stderr
    assert left(state) == []


def test_a_part_that_dies_is_named(state: Path) -> None:
    """When the agent is killed, the demo says which part died, shows the end of its log, and stops everything else."""
    demo = Demo.start(state, "--recorded").ready()
    agent = next(
        pid for pid in left(state) if b"bitville-agent" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    os.kill(agent, signal.SIGKILL)
    assert demo.ended() == 1
    assert "the agent ended (SIGKILL)" in demo.text
    assert "Bitville APM agent" in demo.text
    assert left(state) == []
    assert sockets(state) == []


def test_a_killed_demo_leaves_no_process(state: Path) -> None:
    """kill -9 of the demo takes every process with it, PHP included; the next start clears what is left and runs."""
    require("php-fpm8.2")
    demo = Demo.start(state).ready()
    demo.stop(signal.SIGKILL)
    again = Demo.start(state).ready()
    assert again.stop() == 0
    assert left(state) == []
    assert sockets(state) == []


def test_a_long_and_odd_directory(state: Path) -> None:
    """A name too long for a socket, with blanks and quotes, works all the same; its short name goes with the demo."""
    require("php-fpm8.2")
    long = state / ('My ("own") demo; #1 = ö $x' * 5)
    demo = Demo.start(long, XDG_RUNTIME_DIR=str(state.parent)).ready()
    assert [path for path in state.parent.iterdir() if path.is_symlink()]
    assert demo.stop() == 0
    assert not [path for path in state.parent.iterdir() if path.is_symlink()]
    assert left(long) == []
