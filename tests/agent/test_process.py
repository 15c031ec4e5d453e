"""A real agent as a process: killed, stopped, started twice, told wrong things; judged by the senders' own tally."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.rig import KEY, Agent, Collector, Sender, begin_line, end_line, running, wait_until
from tests.tools import require


def test_killed_at_random_under_traffic_loses_and_doubles_nothing(tmp_path: Path, collector: Collector) -> None:
    """I1, faults 1 (20 kills): every acknowledged record is at the collector, and stored once, after recovery."""
    agent = Agent(tmp_path / "a", collector.url)
    senders = [Sender(agent, size=size) for size in (0, 0, 6000, 60_000)]
    chance = random.Random(1)
    try:
        for sender in senders:
            sender.start()
        for _ in range(20):
            agent.spawn()
            more = sum(len(s.acked) for s in senders) + 1
            wait_until(lambda more=more: sum(len(s.acked) for s in senders) >= more, what=agent.text()[-2000:])
            time.sleep(chance.uniform(0, 0.3))
            agent.kill()
        agent.start()
        for sender in senders:
            sender.finish()
        acked_ids = set().union(*(s.acked for s in senders))
        sent_ids = set().union(*(s.sent for s in senders))
        wait_until(lambda: acked_ids <= collector.items.keys(), what="records are missing")
        assert collector.items.keys() <= sent_ids
        wait_until(lambda: agent.ledger()["pending"] == 0)
        assert agent.ledger()["corrupt"] == 0
        assert len(acked_ids) > 100
    finally:
        for sender in senders:
            sender.finish()
        agent.clean_up()


def test_sigterm_flushes_removes_the_socket_and_exits_zero(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-04: what waits is sent, the socket's name is gone, exit code 0, long before 30 s; the log counts it."""
    agent = Agent(tmp_path / "a", collector.url, flush_seconds=3600)
    with running(agent):
        wait_until(agent.spool.exists, what="everything is started, and its first flush over")
        for _ in range(7):
            assert agent.send(end_line()) == b"+"
        held = agent.connect()
        held.sendall(begin_line("0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01") + b"\n")
        assert collector.items == {}
        started = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - started < 20
        held.close()
    assert len(collector.items) == 7
    assert not agent.socket.exists()
    text = agent.text()
    assert collector.counted() == 7
    for said in ("SIGTERM", "7 sent, 0 failed", "flushed, 0 left", "stopped", "Bitville APM agent 0.1.0 started"):
        assert said in text, said
    assert str(agent.socket) in text


def test_sigterm_with_a_dead_collector_keeps_everything_for_the_next_start(tmp_path: Path) -> None:
    """Nothing is sent, nothing is lost: the next start replays it from disk, in order, and says so."""
    first = Collector()
    port = first.port
    first.close()
    agent = Agent(tmp_path / "a", f"http://127.0.0.1:{port}", flush_seconds=0.2)
    with running(agent):
        ids = [f"0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b{n:02}" for n in range(20)]
        for id_ in ids:
            assert agent.send(end_line(id_)) == b"+"
        assert agent.stop() == 0
    (state,) = (agent.state / "circuit-breaker-state").iterdir()
    if json.loads(state.read_text())["state"] == "open":
        state.unlink()
    late = Collector(port)
    try:
        with running(agent):
            wait_until(lambda: len(late.items) == 20)
            assert late.order == ids
            assert "20 replayed from disk" in agent.text()
    finally:
        late.close()


def test_a_host_without_php(tmp_path: Path, collector: Collector) -> None:
    """CFG-05: with `[php] enabled = no` there is no socket and no spool; frames of the host are made and sent."""
    agent = Agent(tmp_path / "a", collector.url)
    agent.config.write_text(agent.config.read_text().replace("[php]\n", "[php]\nenabled = no\n"))
    with running(agent):
        wait_until(lambda: agent.health()["stats"]["sources"]["host"]["looks"] >= 1)
        assert agent.health()["status"] == "ok"
        assert agent.health()["stats"]["sources"].keys() == {"host"}
        assert not agent.socket.exists()
        assert not agent.spool.exists()
        assert agent.stop() == 0
    assert [frame["body"]["cells"].get("endpoint") for frame in collector.frames.values()]


def test_a_stale_socket_is_replaced(tmp_path: Path, collector: Collector) -> None:
    """DAEMON-07: after SIGKILL the socket is still there, and the next agent takes its place."""
    agent = Agent(tmp_path / "a", collector.url)
    with running(agent):
        agent.kill()
        assert agent.socket.exists()
        agent.start()
        assert agent.send(end_line()) == b"+"
        assert agent.socket.stat().st_mode & 0o777 == 0o660


def refused(agent: Agent) -> str:
    """Start an agent that must not start: its last words."""
    before = len(agent.text())
    code = agent.spawn().wait(30)
    said = agent.text()[before:]
    assert code == 1, said
    assert "Traceback" not in said, said
    return said


def test_a_second_agent_refuses_in_one_line(tmp_path: Path, collector: Collector) -> None:
    """One agent a socket and a state directory; the first one is not disturbed."""
    agent = Agent(tmp_path / "a", collector.url)
    with running(agent):
        second = Agent(tmp_path / "b", collector.url)
        second.config.write_text(second.config.read_text().replace(str(second.socket), str(agent.socket)))
        assert f"{agent.socket}.lock: another agent holds this; stop it first" in refused(second)
        third = Agent(tmp_path / "c", collector.url)
        third.config.write_text(third.config.read_text().replace(str(third.state), str(agent.state)))
        assert "agent.lock: another agent holds this; stop it first" in refused(third)
        assert agent.send(end_line()) == b"+"


def test_what_a_person_can_mend_is_one_line_and_exit_code_one(tmp_path: Path, collector: Collector) -> None:
    """An unknown key, a readable file, no such group, a bad certificate, a port in use, a path in the way."""
    agent = Agent(tmp_path / "a", collector.url)
    good = agent.config.read_text()
    certificate = tmp_path / "ca.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    busy = socket.create_server(("127.0.0.1", 0))
    cases = [
        (good.replace("flush_seconds", "flush_secs"), "no key 'flush_secs'"),
        (good.replace("group = ", "group = no-such-group"), "no group 'no-such-group'"),
        (good.replace("[php]", f"ca = {certificate}\n[php]"), "ca holds a certificate that cannot be read"),
        (good.replace("[php]", f"ca = {tmp_path}/none\n[php]"), "ca cannot be read: No such file"),
        (good.replace(str(agent.health_port), str(busy.getsockname()[1])), "Address already in use; another process"),
        (
            good.replace(f"state = {agent.state}", f"state = {certificate}/x"),
            "the agent's user has to write [agent] state",
        ),
    ]
    with busy:
        for text, words in cases:
            agent.config.write_text(text)
            assert words in refused(agent), words
            assert not agent.socket.exists()
    agent.config.write_text(good)
    agent.config.chmod(0o644)
    assert "chmod 640" in refused(agent)


def test_sections_with_a_key_of_their_own_never_mix(tmp_path: Path, collector: Collector) -> None:
    """COMM-12: each key has its own journal and its own sender; a refused one stops only itself."""
    shop = tmp_path / "a" / "shop.sock"
    agent = Agent(tmp_path / "a", collector.url, more=f"[php shop]\nsocket = {shop}\ngroup =\nkey = bv_shop\n")
    agent.config.write_text(agent.config.read_text().replace("bv_shop", "bv_shop_secret"))

    def behaviour(items: list[dict[str, Any]]) -> Any:
        if collector.headers[-1]["authorization"] == "Bearer bv_shop_secret":
            return 401, {}, b'{"message":"Invalid API key"}'
        return None

    collector.behaviour = behaviour
    with running(agent):
        other = Agent(tmp_path / "b", collector.url)
        other.directory = agent.directory
        assert agent.send(end_line()) == b"+"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(shop))
            client.sendall(end_line() + b"\n")
            assert client.recv(1) == b"+"
        wait_until(lambda: agent.health()["status"] == "failing")
        wait_until(lambda: len(collector.items) == 1)
        ledgers = agent.health()["stats"]["ledger"]
        assert sorted(ledgers) == ["default", next(n for n in ledgers if n.startswith("key-"))]
        assert "bv_shop" not in json.dumps(agent.health())
        assert {h["authorization"] for h in collector.headers} == {f"Bearer {KEY}", "Bearer bv_shop_secret"}
        assert agent.send(end_line()) == b"+"
        wait_until(lambda: len(collector.items) == 2)
        assert len({h["bitville-journal"] for h in collector.headers}) == 2


def test_the_heartbeat_beats(tmp_path: Path, collector: Collector) -> None:
    """COMM-11: the file that clients look at is touched each second, and no longer when the agent is gone."""
    agent = Agent(tmp_path / "a", collector.url)
    heartbeat = agent.directory / "alive"
    with running(agent):
        wait_until(heartbeat.exists)
        first = heartbeat.stat().st_mtime_ns
        wait_until(lambda: heartbeat.stat().st_mtime_ns > first)
        assert heartbeat.stat().st_mode & 0o777 == 0o644


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_modes_of_what_is_made(tmp_path: Path, collector: Collector) -> None:
    """design.md 1: state 0755, in it 0700; spool 3770; no file that others may read."""
    agent = Agent(tmp_path / "a", collector.url)
    with running(agent):
        agent.send(end_line(), b"rubbish")
        wait_until(lambda: agent.ledger()["stored"] == 1)
        assert mode(agent.state) == 0o755
        wait_until(agent.spool.exists)
        assert mode(agent.spool) == 0o3770
        for inner in ("journal", "quarantine", "journal/default", "quarantine/default"):
            assert mode(agent.state / inner) == 0o700, inner
        for path in agent.state.rglob("*"):
            if path.is_file():
                assert mode(path) & 0o077 == 0, path


def test_a_full_disk_gets_no_ack_and_recovers(tmp_path: Path, collector: Collector) -> None:
    """faults 10: a small full disk: no ack, still running, healthy again when there is room; acked ones are there."""
    require("mount", "umount")
    if os.geteuid():
        pytest.skip("not run: mounting needs root")
    agent = Agent(tmp_path / "a", collector.url, flush_seconds=3600)
    agent.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(agent.state)], check=True)
    try:
        with running(agent):
            acked = []
            for n in range(40):
                id_ = f"0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b{n:02}"
                if agent.send(end_line(id_, size=60_000)) == b"+":
                    acked.append(id_)
            assert 5 < len(acked) < 30
            assert agent.health()["status"] == "degraded"
            subprocess.run(["mount", "-o", "remount,size=50m", str(agent.state)], check=True)
            assert agent.send(end_line()) == b"+"
            assert agent.health()["status"] == "ok"
            assert agent.stop() == 0
        assert set(acked) <= collector.items.keys()
        assert len(collector.items) == len(acked) + 1
    finally:
        subprocess.run(["umount", "-l", str(agent.state)], check=True)
