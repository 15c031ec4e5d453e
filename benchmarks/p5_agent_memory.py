"""P5: what the agent needs in memory, and how long it takes to start, with a backlog of 1 GiB on disk.

A real `twistd bitville-agent` on a journal written by the journal's own code: nine short records of 700 bytes to one
whole one of 8 KB. First without a collector, then sending to a stand-in that answers `stored` at once, so that the
agent is as busy as it can be. Goal: at most 80 MB resident at any time, and ready within 2 s.

    python benchmarks/p5_agent_memory.py [MIB]
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

import zstandard

from bitville_apm.agent.disk import Disk
from bitville_apm.agent.segment import SHORT, Entry

MIB = 1 << 20
SHORT_BYTES, WHOLE_BYTES = 700, 8192
WATCHED_S = 10.0


def body(id_: str, size: int) -> bytes:
    """An end line of about that size."""
    line = {"t": "end", "v": 2, "id": id_, "at": 1.0, "ms": 12.5, "request": {"method": "GET", "uri": "/product/42"}}
    line["context"] = {"padding": "x" * max(0, size - len(json.dumps(line)) - 30)}
    return json.dumps(line).encode()


def fill(directory: Path, size: int) -> int:
    """A journal of that many bytes; gives back how many records."""
    disk = Disk(directory, "never")
    disk.open()
    written = records = 0
    now_ms = int(time.time() * 1000)
    while written < size:
        entries = []
        for n in range(500):
            id_ = str(uuid.uuid4())
            whole = n % 10 == 0
            line = body(id_, WHOLE_BYTES if whole else SHORT_BYTES)
            entries.append(Entry("end", id_, now_ms, line, 0 if whole else SHORT))
            written += len(line)
        problem = disk.append(entries).error
        if problem is not None:
            raise problem
        records += len(entries)
    disk.close()
    return records


class Collector:
    """Takes every batch and keeps nothing."""

    def __init__(self, port: int) -> None:
        outer = self
        self.items = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                n = zstandard.ZstdDecompressor().decompress(data, max_output_size=64 * MIB).count(b"\n")
                outer.items += n
                answer = json.dumps({"success": True, "stored": n, "duplicate": 0, "rejected": []}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory(pid: int) -> tuple[float, float]:
    """Resident megabytes now, and at most so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, most = (int(re.search(rf"{what}:\s+(\d+)", text)[1]) / 1024 for what in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, most


def cpu(pid: int) -> float:
    """Seconds of CPU it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def health(port: int) -> dict[str, object] | None:
    """The agent's `/health`, None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return dict(json.loads(answer.read())["stats"]["ledger"]["default"])
    except OSError:
        return None


def main() -> None:
    """Fill, start, watch, send, watch."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory(prefix="bitville-p5-") as name:
        directory = Path(name)
        records = fill(directory / "state" / "journal" / "default", size * MIB)
        print(f"{records} records, {size} MiB, in the journal")
        health_port, collector_port = free_port(), free_port()
        config = directory / "agent.ini"
        config.write_text(
            f"[agent]\nstate = {directory}/state\nhealth = 127.0.0.1:{health_port}\nheartbeat = {directory}/alive\n"
            f"[collector]\nurl = http://127.0.0.1:{collector_port}\nkey = bv_p5_secret\nflush_seconds = 1\n"
            f"[php]\nsocket = {directory}/run/daemon.sock\ngroup =\n[limits]\njournal_mb = {size * 2}\n"
        )
        config.chmod(0o600)
        command = [
            str(Path(sys.executable).with_name("twistd")),
            "-n",
            "--pidfile=",
            "bitville-agent",
            "-c",
            str(config),
        ]
        began = time.monotonic()
        with (directory / "log").open("wb") as log:
            agent = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)
        try:
            while (told := health(health_port)) is None or told["pending"] != records:
                if agent.poll() is not None or time.monotonic() - began > 120:
                    raise SystemExit((directory / "log").read_text())
                time.sleep(0.02)
            ready, used = time.monotonic() - began, cpu(agent.pid)
            time.sleep(WATCHED_S)
            idle, idle_most = memory(agent.pid)
            print(f"ready after {ready:.2f} s, {used:.2f} s of it CPU")
            print(f"without a collector: {idle:.1f} MB, at most {idle_most:.1f} MB")
            collector = Collector(collector_port)
            agent.send_signal(signal.SIGHUP)
            most, sent = 0.0, 0
            until = time.monotonic() + 75 + WATCHED_S
            while time.monotonic() < until and collector.items < records:
                time.sleep(0.2)
                most = max(most, memory(agent.pid)[0])
                if collector.items and not sent:
                    sent, until = 1, time.monotonic() + WATCHED_S
            print(f"sending: {collector.items} records taken, at most {most:.1f} MB")
        finally:
            agent.kill()
            agent.wait()
        figure = f"{max(idle_most, most):.1f} MB (goal 80) with {size} MiB of backlog"
        print(f"P5: {figure}; ready after {ready:.2f} s, {used:.2f} s of it CPU (goal 2)")


if __name__ == "__main__":
    main()
