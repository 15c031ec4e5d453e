"""`bitville tail` with a real collector."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitville_apm.cli import main
from bitville_apm.cli.asking import Collector
from bitville_apm.cli.requests import HEAD, row
from bitville_apm.cli.tail import Following, tail_line
from bitville_apm.store.sqlite import Main
from tests.collector.rig import free_port, item, running
from tests.web.sent import IDS, NOW, record


def test_requests_as_they_arrive(tmp_path: Path) -> None:
    """QUERY-02: what is there, then what arrives, each once and filtered, in lines of JSON; Ctrl-C ends it with exit
    code 0 and no session of its own remains.
    """
    with running(tmp_path / "collector") as rig:
        key, config = rig.key(), str(rig.directory / "collector.ini")
        assert rig.post(key, item(record(0))).json["stored"] == 1
        # A shell that runs the tests in the background has SIGINT ignored in all of them.
        command = [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "bitville_apm.cli",
            "tail",
            "--json",
            "--path",
            "page",
            "--config",
            config,
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BITVILLE_")}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tail:
            assert tail.stdout is not None
            try:
                assert json.loads(tail.stdout.readline())["id"] == IDS[0]
                other = record(3, request={"method": "GET", "uri": "/elsewhere"})
                assert rig.post(key, item(other, n=2), item(record(1, at=NOW - 30), n=3)).json["stored"] == 2
                assert json.loads(tail.stdout.readline())["id"] == IDS[1]
                tail.send_signal(signal.SIGINT)
                assert tail.wait(30) == 0
                assert tail.stdout.read() == ""
            finally:
                tail.kill()
        keyring = Main.open(rig.data)
        assert tuple(keyring._db.execute("SELECT count(*) FROM session").fetchone()) == (0,)
        keyring.close()


def test_what_arrives_late_is_told(tmp_path: Path) -> None:
    """QUERY-02: a long request arrives after many that began later, and is told all the same; nothing is told twice,
    and what began too long ago is not told, nor remembered.
    """
    with running(tmp_path / "collector") as rig:
        key = rig.key()
        collector = Collector(rig.url, {"Authorization": f"Bearer {rig.key(scopes='read')}"})
        following = Following({"source": "php_agent"})

        def send(first: int, count: int, at: float, ms: float) -> None:
            ids = range(first, first + count)
            made = [record(0, id=f"00000000-0000-4000-8000-{n:012}", at=at + n / 1000, ms=ms) for n in ids]
            assert rig.post(key, *(item(one, n=n) for n, one in zip(ids, made, strict=True))).json["stored"] == count

        def told() -> list[int]:
            return [int(one["id"][-12:]) for one in following.look(collector, NOW)]

        send(0, 150, NOW - 100, 5.0)
        assert told() == list(range(140, 150))
        assert told() == []
        send(200, 120, NOW - 50, 5.0)
        send(500, 1, NOW - 5000, 5.0)
        assert told() == list(range(200, 320))
        send(400, 1, NOW - 600, 550_000.0)
        assert told() == [400]
        assert told() == []
        assert following.look(collector, NOW + 86_400) == []
        assert following._told == {}


def test_a_line() -> None:
    """Columns are fixed, as wide as the terminal; names are cut, never the id."""
    one = {
        "id": IDS[0], "project": "shop", "at": 1_800_021_600.5, "endpoint": "GET /" + "x" * 90, "status": 200,
        "duration_ms": 42.0, "cpu_ms": 1.5, "sql_count": 3, "sql_ms": 20.0, "died": False,
        "host": "a-host-with-a-long-name",
    }  # fmt: skip
    head, line = tail_line(HEAD, 130), tail_line(row(one, False), 130)
    assert (len(line), line.index(IDS[0])) == (130, head.index("ID"))
    assert line.split()[:2] == ["14:00:00", "42"]
    assert line.endswith(IDS[0])


def test_when_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """A tail that cannot begin says why in one line, exit code 1."""
    assert main(["tail", "--json", "--url", f"http://127.0.0.1:{free_port()}", "--key", "k"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("bitville: no collector answers at ")
    assert said.err.count("\n") == 1
