"""P4: what a request and a line of the first version cost the whole agent, and what syslog-ng takes for the same.

The real `twistd bitville-agent`: socket, reading, journal (fsync = interval), rollup where it has one, forwarding in
compressed batches to a small collector in this process. Held requests are those of P3; one-shot lines are of 6 KB,
8 at once, each on a connection of its own, answered. syslog-ng: unix-stream, reliable disk buffer, HTTP in batches;
it neither reads the lines nor answers, so its clients hang up. CPU seconds of all threads until everything that was
told is delivered, as the scheduler counts them.

    python benchmarks/p4_agent_cost.py [--requests 4000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs

from benchmarks import peers
from tests.agent.rig import Agent, Collector, running

HELD = 64
AT_ONCE = 8
HOLD_MS = 20.0
BYTES = 6 * 1024

_SYSLOG_NG = """@version: 3.38
options { keep-hostname(yes); log-msg-size(8388608); stats-freq(0); };
source lines { unix-stream("%(socket)s" flags(no-parse) max-connections(20000) log-iw-size(2000000)); };
destination sink { http(url("http://127.0.0.1:%(port)d/") method("POST") body("$MSG") batch-lines(500)
  batch-bytes(1048576) batch-timeout(200) persist-name("sink")
  disk-buffer(reliable(yes) disk-buf-size(1073741824) mem-buf-size(33554432) dir("%(directory)s"))); };
log { source(lines); destination(sink); flags(flow-control); };
"""


class Sink:
    """Counts the lines that syslog-ng posts."""

    def __init__(self) -> None:
        self.lines = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.lines += self.rfile.read(int(self.headers["Content-Length"])).count(b'"correlation_id"')
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


@attrs.frozen
class Side:
    """One server under test: its process, how to ask it, how many it has delivered in all."""

    pid: int
    ask: Callable[[], int]
    delivered: Callable[[], int]


def measured(side: Side, requests: int) -> float:
    """CPU µs a request."""
    delivered, cpu = side.delivered() + requests, peers.cpu_s(side.pid)
    told = side.ask()
    until = time.monotonic() + 60
    while side.delivered() < delivered:
        if time.monotonic() > until:
            raise SystemExit(f"{side.delivered()} of {delivered} delivered, {told} answered")
        time.sleep(0.05)
    return (peers.cpu_s(side.pid) - cpu) / requests * 1e6


@contextlib.contextmanager
def syslog_ng(directory: Path, ask: Callable[[Path], int]) -> Iterator[Side | None]:
    """A syslog-ng of its own; None where there is none."""
    program = shutil.which("syslog-ng")
    if program is None:
        yield None
        return
    sink = Sink()
    socket, config = directory / "ng.sock", directory / "ng.conf"
    config.write_text(_SYSLOG_NG % {"socket": socket, "port": sink.port, "directory": directory})
    command = [program, "-F", "-f", str(config), "-R", str(directory / "ng.persist"), "-c", str(directory / "ng.ctl"),
               "-p", str(directory / "ng.pid"), "--no-caps"]  # fmt: skip
    with peers.running(command, socket) as pid:
        yield Side(pid, lambda: ask(socket), lambda: sink.lines)


def main() -> None:
    """Measure, and print the figures last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n = options.requests
    collector = Collector()
    with contextlib.closing(collector), tempfile.TemporaryDirectory(prefix="bv") as name:
        directory = Path(name)
        program = peers.compiled(directory)
        begin, end = peers.begin_line(directory / "begin"), peers.end_line(directory / "end", BYTES)
        version1 = peers.version1_line(directory / "v1", BYTES)

        def one_shot(socket: Path) -> int:
            return peers.asked(program, socket, AT_ONCE, n, 0, version1)

        agent = Agent(directory / "agent", collector.url, flush_seconds=5.0, fsync="interval")
        with running(agent), syslog_ng(directory, lambda s: peers.asked(program, s, -AT_ONCE, n, 0, version1)) as other:
            assert agent.process is not None
            pid = agent.process.pid
            stored = lambda: len(collector.items)  # noqa: E731
            held = Side(pid, lambda: peers.asked(program, agent.socket, HELD, n, HOLD_MS, end, begin), stored)
            line = Side(pid, lambda: one_shot(agent.socket), stored)
            sides = {"held": held, "line": line, **({"syslog-ng": other} if other else {})}
            found: dict[str, list[float]] = {side: [] for side in sides}
            for warm in range(-1, options.rounds):
                for what, side in sides.items():
                    figure = measured(side, n)
                    if warm >= 0:
                        found[what].append(figure)
    print(peers.machine())
    print(
        f"{options.rounds} rounds of {n} of {BYTES} bytes; held: {HELD} for {HOLD_MS:.0f} ms; lines: {AT_ONCE} at once"
    )
    version = "not installed, not run"
    if "syslog-ng" in found:
        said = subprocess.run(["syslog-ng", "--version"], check=False, capture_output=True, text=True).stdout
        version = f"{peers.told(found['syslog-ng'])} µs a line ({said.splitlines()[0]})"
    print(f"syslog-ng: {version}")
    print("CPU µs, median (least to most):")
    print(f"P4: {peers.told(found['held'])} a held request (goal 150), {peers.told(found['line'])} a line (goal 60); "
          f"medians {statistics.median(found['held']):.0f} and {statistics.median(found['line']):.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
