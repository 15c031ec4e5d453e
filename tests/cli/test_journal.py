"""`bitville journal` on real journals: what it says, what it leaves alone, and sending one again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from bitville_apm.agent.disk import Disk
from bitville_apm.agent.segment import HEADER_BYTES, LOCAL, Entry
from bitville_apm.agent.totals import Count, Totals
from bitville_apm.cli import main
from tests.agent.rig import KEY, Agent, Collector, end_line, running, wait_until


def a_journal(directory: Path, n: int = 5) -> list[str]:
    """A journal of two runs; one record of the first is stored, one of the second stays on the host."""
    ids = []
    for run in range(2):
        disk = Disk(directory, "never")
        disk.open()
        for number in range(n):
            ids.append(str(uuid.uuid4()))
            line = end_line(ids[-1])
            disk.append([Entry("end", ids[-1], 1_795_231_261_000, line, LOCAL if run and number == 1 else 0)])
        if run == 0:
            disk.settle((1, 1), Totals(stored=Count(1, 1)))
        disk.close()
    return ids


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def config(tmp_path: Path, url: str = "http://127.0.0.1:1") -> str:
    path = tmp_path / "agent.ini"
    path.write_text(f"[agent]\nstate = {tmp_path}/state\n[collector]\nurl = {url}\nkey = {KEY}\n")
    path.chmod(0o600)
    return str(path)


def test_ls_says_what_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pipelines, segments, pending, totals and cursor, from the agent's state or a directory; nothing is changed."""
    directory = tmp_path / "state" / "journal" / "default"
    a_journal(directory)
    a_journal(directory / "frames", 1)
    before = contents(directory / "frames")
    assert main(["journal", "ls", "--config", config(tmp_path)]) == 0
    told = capsys.readouterr().out
    for words in (str(directory), "8 records, 8 requests", "2, 0.0 MiB", "acked 1-1", "1 stored, of 9 ever", "frames"):
        assert words in told, told
    assert main(["journal", "ls", "--json", str(directory)]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["pending"], one["totals"]["stored"], len(one["segments"])) == (8, 1, 2)
    assert one["cursor"] == {"state": "whole", "acked": [1, 1], "covered": [1, 0], "run": 2}
    assert contents(directory / "frames") == before


def test_verify_names_damage_and_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 when all is whole; 1, the bytes and the exact loss when not; nothing is changed."""
    directory = tmp_path / "j"
    a_journal(directory)
    assert main(["journal", "verify", str(directory)]) == 0
    assert "10 records in 2 segments" in capsys.readouterr().out
    first, second = sorted(directory.glob("*.segment"))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    before = contents(directory)
    assert main(["journal", "verify", str(directory)]) == 1
    told = capsys.readouterr().out
    assert "are damaged" in told
    assert "1 records (1 requests) are lost; all others will come" in told
    assert main(["journal", "verify", "--json", str(directory)]) == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["lost"], one["whole"], one["records"]) == ({"records": 1, "requests": 1}, False, 9)
    (damage,) = one["damaged"]
    assert damage["segment"] == first.name
    assert damage["from"] <= len(data) // 2 < damage["to"]
    first.unlink()
    assert main(["journal", "verify", str(directory)]) == 1
    assert "4 records (4 requests) are lost" in capsys.readouterr().out
    data = bytearray(second.read_bytes())
    data[HEADER_BYTES - 1] ^= 1
    second.write_bytes(data)
    (directory / "cursor").write_bytes(b"rubbish")
    assert main(["journal", "verify", str(directory)]) == 1
    told = capsys.readouterr().out
    assert "cannot be read: all that is here is sent again" in told
    assert f"bytes 0 to {HEADER_BYTES} are damaged" in told
    assert before["id"] == (directory / "id").read_bytes()


def test_beside_a_running_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an agent is writing to is whole, and what it has not sent yet is told."""
    gone = Collector()
    gone.close()
    with running(Agent(tmp_path / "a", gone.url)) as agent:
        assert agent.send(*(end_line() for _ in range(7))) == b"+" * 7
        assert main(["journal", "ls", "--config", str(agent.config)]) == 0
        assert "7 records, 7 requests" in capsys.readouterr().out
        assert main(["journal", "verify", "--config", str(agent.config)]) == 0


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BITVILLE_")}
    command = [str(Path(sys.executable).with_name("bitville")), "journal", "replay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_replay_sends_a_copy_and_nothing_twice(tmp_path: Path) -> None:
    """All of a set-aside journal, also what was stored once, under its own ids and times; again is not twice."""
    ids = a_journal(tmp_path / "copy")
    collector = Collector()
    try:
        at = config(tmp_path, collector.url)
        done = replay(str(tmp_path / "copy"), "--config", at)
        assert (done.returncode, done.stdout, done.stderr) == (0, "9 stored, 0 were there already, 0 rejected\n", "")
        assert list(collector.items) == [id_ for n, id_ in enumerate(ids) if n != 6]
        assert {item["recv"] for item in collector.items.values()} == {1_795_231_261_000}
        assert collector.items[ids[1]]["seq"] == [1, 2]
        (segment, _) = sorted((tmp_path / "copy").glob("*.segment"))
        again = replay(str(segment), "--json", "--config", at)
        assert json.loads(again.stdout) == {"stored": 0, "duplicate": 5, "rejected": 0, "no_records": 0, "error": ""}
        collector.behaviour = lambda items: (503, {}, b"{}")
        refused = replay(str(tmp_path / "copy"), "--config", at)
        assert refused.returncode == 1
        assert "bitville: journal: stopped, run it again: " in refused.stderr
    finally:
        collector.close()


def test_replay_sends_what_was_refused(tmp_path: Path) -> None:
    """faults 9: what a collector refused is sent once more under its own id, time and place; what the agent itself
    refused never was a record, and that is said.
    """
    collector = Collector()

    def refuses(items: list[dict[str, Any]]) -> Any:
        if not items:
            return None  # frames
        rejected = [{"line": n, "reason": "invalid", "fields": []} for n in range(1, len(items) + 1)]
        return 200, {}, json.dumps({"stored": 0, "duplicate": 0, "rejected": rejected}).encode()

    try:
        with running(Agent(tmp_path / "a", collector.url)) as agent:
            collector.behaviour = refuses
            ids = [str(uuid.uuid4()) for _ in range(2)]
            assert agent.send(*map(end_line, ids), b'{"t":"end"}') == b"++-"
            quarantine = agent.directory / "state" / "quarantine" / "default"
            wait_until(lambda: len([*quarantine.glob("*.json")]) == 3)
            collector.behaviour = lambda items: None
            done = replay(str(quarantine), "--config", str(agent.config))
            assert (done.returncode, done.stdout) == (0, "2 stored, 0 were there already, 0 rejected\n")
            assert "1 lines in quarantine were refused by the agent itself" in done.stderr
            assert [item["id"] for item in collector.items.values() if item["k"] == "end"] == ids
            assert {tuple(collector.items[id_]["seq"]) for id_ in ids} == {(1, 1), (1, 2)}
            (first, *_) = sorted(quarantine.glob("*.json"))
            again = replay(str(first), "--config", str(agent.config))
            assert again.stdout in (
                "0 stored, 1 were there already, 0 rejected\n",
                "0 stored, 0 were there already, 0 rejected\n",
            )
    finally:
        collector.close()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ls"], "no agent has run with this [agent] state"),
        (["verify", "{tmp}/nothing"], "is no directory of a journal"),
        (["verify", "{tmp}/empty"], "holds no journal"),
        (["replay", "{tmp}/nothing"], "is neither a journal, nor a segment of one, nor"),
        (["replay", "{tmp}/agent.ini"], "is no segment of a journal"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], why: str) -> None:
    """Exit code 1, and stderr says what is wrong."""
    at = config(tmp_path)
    (tmp_path / "empty").mkdir()
    words = [word.format(tmp=tmp_path) for word in arguments]
    command = [str(Path(sys.executable).with_name("bitville")), "journal", *words, "--config", at]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert why in done.stderr
