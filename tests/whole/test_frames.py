"""Frames of a real agent: counts against the sender's own tally, looks at real processes, and out of the API."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bitville_apm.cli import main
from tests import wire
from tests.agent import rig as agents
from tests.agent.host.rig import BURN, named, schedstat
from tests.agent.rig import Agent, Collector, end_line, running, wait_until
from tests.collector import rig as collectors


class Short(agents.Sender):
    """Sends short records only; nine in ten are in no other place than a frame."""

    def _one(self, id_: str) -> bool:
        try:
            with self._agent.connect(2.0) as client:
                client.sendall(end_line(id_, short=True, ms=random.uniform(1, 400)) + b"\n")
                return client.recv(1) == b"+"
        except OSError:
            return False


def test_killed_at_random_every_short_request_is_in_one_frame(tmp_path: Path, collector: Collector) -> None:
    """I1: SIGKILL mid-traffic, three times: the frames that arrive count what was acknowledged, to the request."""
    with running(Agent(tmp_path / "a", collector.url)) as agent:
        senders = [Short(agent, pause=0.002) for _ in range(3)]
        for sender in senders:
            sender.start()
        for _kill in range(3):
            time.sleep(0.3 + random.random())
            agent.kill()
            agent.start()
        for sender in senders:
            sender.finish()
        acked = set[str]().union(*(sender.acked for sender in senders))
        sent = set[str]().union(*(sender.sent for sender in senders))
        assert agent.stop() == 0
    assert len(acked) > 200
    # A sender that was told to stop may have sent one more that was taken, and it does not know.
    assert len(acked) <= collector.counted() <= len(sent)
    assert len(sent) - len(acked) <= len(senders)
    assert 0 < len(collector.items) < len(acked) / 2, "only exemplars are sent"
    covers = [f["body"]["covers"] for f in collector.frames.values() if f["body"]["final"] and f["body"]["covers"]]
    places = [(run, n) for run, first, last in covers for n in range(first, last + 1)]
    assert len(places) == len(set(places)) == collector.counted()


WORK = """
import json, socket, sys, time
path, id_ = sys.argv[1:]
ss = lambda: [int(n) for n in open("/proc/self/schedstat").read().split()[:2]]
began, at = ss(), time.time()
client = socket.socket(socket.AF_UNIX)
client.connect(path)
begin = {"t": "begin", "v": 2, "id": id_, "at": at, "method": "GET", "uri": "/report/7", "ss": began}
client.sendall(json.dumps(begin).encode() + b"\\n")
client.sendall(json.dumps({"t": "route", "id": id_, "route": "GET /report/{id}"}).encode() + b"\\n")
while time.time() < at + 3.5: pass
now = ss()
end = {"t": "end", "v": 2, "id": id_, "at": at, "ms": (time.time() - at) * 1000,
       "ss": [b - a for a, b in zip(began, now)],
       "request": {"method": "GET", "uri": "/report/7", "route": "GET /report/{id}"},
       "profile": {"kind": "excimer", "period_us": 10000, "stacks": "/srv/x.php;Report::make 300\\n"}}
print(json.dumps(end["ss"]), flush=True)
client.sendall(json.dumps(end).encode() + b"\\n")
assert client.recv(1) == b"+"
"""


def test_a_running_request_is_seen_and_counted_once(
    tmp_path: Path, collector: Collector, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wire 6: while it runs `bitville top --live` shows what it does; in the end the frames hold its CPU once."""
    monkeypatch.setenv("COLUMNS", "200")
    id_ = str(uuid.uuid4())
    with running(Agent(tmp_path / "a", collector.url)) as agent:
        command = ["top", "--live", "--config", str(agent.config)]
        assert main(command) == 0
        assert capsys.readouterr().out == "no request is in flight\n"
        with subprocess.Popen(
            [sys.executable, "-S", "-c", WORK, str(agent.socket), id_], stdout=subprocess.PIPE, text=True
        ) as process:
            wait_until(lambda: _live(command, capsys) and _live(command, capsys)[0]["cpu_s"])
            (seen,) = _live(command, capsys)
            assert (seen["id"], seen["pid"], seen["endpoint"]) == (id_, process.pid, "GET /report/{id}")
            assert seen["state"] == "R"
            assert main(command) == 0
            table = capsys.readouterr().out
            assert "GET /report/{id}" in table
            assert "running" in table
            assert process.stdout is not None
            cpu_ns, queue_ns = json.loads(process.stdout.readline())
            assert process.wait(10) == 0
        assert agent.stop() == 0
    cells = _sums(collector)
    for key in ("endpoint", "GET /report/{id}"), ("request", id_):
        assert cells[key]["requests"] == 1
        # What the process still did between telling its sums and being heard is in it too.
        assert -1 <= cells[key]["cpu_us"] - cpu_ns // 1000 < 300_000
        assert -1 <= cells[key]["queue_us"] - queue_ns // 1000 < 300_000
    for name in ("cpu_us", "queue_us"):
        assert cells["function", "Report::make"][name] == cells["endpoint", "GET /report/{id}"][name]
    in_flight = [n for f in collector.frames.values() for n in f["body"]["seconds"].get("in_flight", []) if n]
    assert len(in_flight) >= 3


def _live(command: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["requests"]


def _sums(collector: Collector) -> dict[tuple[str, str], dict[str, float]]:
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for frame in collector.frames.values():
        for dimension, table in frame["body"]["cells"].items():
            for row, value in enumerate(table["values"]):
                cell = sums.setdefault((dimension, value), {})
                for name, column in table["columns"].items():
                    if isinstance(column[row], int | float):
                        cell[name] = cell.get(name, 0) + column[row]
    return sums


@pytest.mark.full
def test_a_killed_request_is_an_error_in_a_frame(tmp_path: Path, collector: Collector) -> None:
    """PHP-11: SIGKILL of a worker: died, with what the last look saw, in the frames as an error and in `load`."""
    id_ = str(uuid.uuid4())
    with running(Agent(tmp_path / "a", collector.url)) as agent:
        with subprocess.Popen(
            [sys.executable, "-S", "-c", WORK, str(agent.socket), id_], stdout=subprocess.DEVNULL
        ) as process:
            wait_until(lambda: agent.health()["stats"]["sources"]["php"]["in_flight"] == 1)
            time.sleep(1.5)
            process.send_signal(signal.SIGKILL)
        wait_until(lambda: id_ in collector.items, 25, "the request is judged")
        time.sleep(1.5)  # the next look tells of it
        assert agent.stop() == 0
    body = collector.items[id_]["body"]
    assert (body["state"], body["looks"] >= 1) == ("R", True)
    cell = _sums(collector)["endpoint", "GET /report/{id}"]
    assert (cell["requests"], cell["errors"]) == (1, 1)
    assert cell["cpu_us"] > 0
    assert sum(f["body"]["load"].get("died", 0) for f in collector.frames.values()) == 1


def test_top_without_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says that none runs here, exit code 1."""
    config = tmp_path / "agent.ini"
    config.write_text(f"[agent]\nstate = {tmp_path}/state\n")
    config.chmod(0o600)
    assert main(["top", "--live", "--config", str(config)]) == 1
    assert "not running" in capsys.readouterr().err


def test_all_dimensions_of_requests_come_out_of_the_api(tmp_path: Path) -> None:
    """QUERY-04, wire 8: `/api/top` of every dimension a request has, from frames alone, equals what was sent."""
    collector = collectors.Rig(tmp_path / "collector")
    collector.start()
    try:
        read = collector.key(scopes="read")
        agent = Agent(tmp_path / "agent", collector.url, key=collector.key())
        with running(agent):
            record = json.loads(wire.lines("end.ndjson")[0]) | {"short": True, "ms": 400}
            for n in range(20):
                at = time.time() - 0.5
                line = json.dumps(record | {"id": str(uuid.uuid4()), "at": at, "client": f"203.0.{n % 2}.9"})
                assert agent.send(line.encode()) == b"+"
            assert agent.stop() == 0
        tops = {dimension: _top(collector, read, dimension) for dimension in
                ("endpoint", "function", "statement", "client", "agent", "release", "external", "request")}  # fmt: skip
        assert tops["endpoint"]["GET /product/{id}"]["requests"] == 20
        assert tops["endpoint"]["GET /product/{id}"]["cpu_ms"] == 20 * 310
        assert abs(tops["endpoint"]["GET /product/{id}"]["p95_ms"] - 400) <= 20
        assert {v: row["requests"] for v, row in tops["client"].items()} == {"203.0.0.0/24": 10, "203.0.1.0/24": 10}
        assert tops["statement"]["SELECT pg_sleep(?)"]["executions"] == 40
        assert tops["function"]["Shop\\Product::load"]["wall_ms"] == 20 * 430
        assert round(sum(row["cpu_ms"] for row in tops["function"].values()), 3) == 20 * 310
        assert tops["external"]["api.payments.example"]["requests"] == 20
        assert tops["release"]["2026-11-20-1"]["requests"] == tops["agent"]["browser"]["requests"] == 20
        assert len(tops["request"]) == 20
        stored = collector.stored(read)
        assert 0 < len(stored) < 20, "only exemplars are stored whole"
    finally:
        collector.end()


def test_processes_come_out_of_the_api(tmp_path: Path) -> None:
    """PG-04, wire 6 and 8: what burns beside PHP is in `/api/top?dimension=process` by its name, with the seconds that
    the kernel counted for it; `/health` tells what a look at the host takes. A frame of a quiet host is small.
    """
    collector = collectors.Rig(tmp_path / "collector")
    collector.start()
    try:
        read = collector.key(scopes="read")
        agent = Agent(tmp_path / "agent", collector.url, key=collector.key())
        with running(agent), named("bv-backup", BURN, tmp_path) as burner:
            looked = lambda: agent.health()["stats"]["sources"]["host"]  # noqa: E731
            wait_until(lambda: looked()["looks"] >= 2)
            began = schedstat(burner.pid)[0]
            time.sleep(4)
            true = schedstat(burner.pid)[0]
            host = looked()
            assert agent.stop() == 0
        assert (host["status"], host["scope"]) == ("ok", "host")
        assert host["look_ms"] > 0
        told = _top(collector, read, "process")["bv-backup"]
        assert 0.9 * (true - began) <= told["cpu_ms"] / 1000 <= 1.1 * true + 0.1
        assert told["running_s"] >= told["cpu_ms"] / 1000
        assert told["requests"] == 0
        assert told["blocked_s"] < 0.5
    finally:
        collector.end()


def _top(collector: collectors.Rig, key: str, dimension: str) -> dict[str, Any]:
    now = time.time() // 60 * 60
    asked = urlencode({"dimension": dimension, "from": now - 600, "to": now + 120, "limit": 200})
    answer = collector.ask("GET", f"/api/top?{asked}", key=key)
    assert answer.status == 200, answer.body
    return {item["value"]: item for item in answer.json["items"]}
