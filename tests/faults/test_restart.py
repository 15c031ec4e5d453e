"""Fault rows 18 and 22: an agent that replaces itself under load, and one that the kernel kills for its memory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm.cli import main
from tests.agent.rig import Agent, Collector, wait_until
from tests.faults.tools import clients, holder, judge
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.tools import lacking

CLIENTS = 5
PER_SECOND = 500
MEMORY_CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def begun(agent: Agent, seed: int, per_second: float, deadline: float) -> list[clients.Client]:
    """So many clients at work, together at most this fast."""
    pause = CLIENTS / per_second
    senders = [
        clients.Client(agent.socket, agent.spool, f"client-{n}", seed + n, pause=pause, deadline=deadline)
        for n in range(CLIENTS)
    ]
    for sender in senders:
        sender.start()
    return senders


def judged(row: int, agent: Agent, collector: Collector, tally: clients.Tally) -> None:
    """I1 and I2, by the clients' own tally."""
    wait_until(lambda: not [*agent.spool.glob("profile_*"), *agent.spool.glob("*.ndjson")], 60, "spool imported")
    wait_until(lambda: agent.ledger()["pending"] == 0, 60, "everything delivered")
    judge.balanced(agent)
    verdict = judge.stored_once(tally, collector.order)
    say(
        f"row {row}: {tally.requests} requests, {len(tally.whole)} whole, {tally.spooled} spooled, "
        f"{tally.unsure.total()} unsure, {tally.refused} refused, {verdict.lost} lost, {verdict.doubled} doubled; "
        f"acks: {judge.told(tally.took)}"
    )
    assert tally.refused == 0


@pytest.mark.parametrize("times", counts("18 restarts"))
def test_restarts_under_load(tmp_path: Path, times: int) -> None:
    """Row 18, DAEMON-02, DAEMON-17: 500 requests a second go on over restarts: none refused, lost or double."""
    collector = Collector()
    agent = Agent(tmp_path / "a", collector.url)
    try:
        agent.start()
        assert agent.process is not None
        pid = agent.process.pid
        wait_until(agent.spool.exists)
        senders = begun(agent, chance(18).getrandbits(32), PER_SECOND, 10.0)
        progress = Progress(18, times, "restarts")
        try:
            for n in range(1, times + 1):
                for sender in senders:
                    sender.round = n
                time.sleep(0.3)
                assert main(["agent", "restart", "--config", str(agent.config)]) == 0, agent.text()[-3000:]
                progress.at(n, refused=sum(s.tally.refused for s in senders))
        finally:
            tally = clients.together(senders)
        assert (agent.process.poll(), agent.process.pid) == (None, pid)
        judged(18, agent, collector, tally)
        assert agent.stop() == 0
    finally:
        agent.clean_up()
        collector.close()


@contextlib.contextmanager
def small_memory(name: str, megabytes: int) -> Iterator[Path]:
    """A cgroup with so little memory, version 1 or 2: its directory."""
    parent = next((p for p in MEMORY_CGROUPS if os.access(p / "cgroup.procs", os.W_OK)), None)
    limit = None
    if parent is not None:
        group = parent / name
        with contextlib.suppress(OSError):
            group.mkdir()
            limit = next((group / f for f in ("memory.limit_in_bytes", "memory.max") if (group / f).exists()), None)
    if parent is None or limit is None:
        lacking("a memory cgroup that may be made (root, and a writable /sys/fs/cgroup)")
        return
    try:
        limit.write_text(str(megabytes << 20))
        swap = group / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize("times", counts("22 kills"))
def test_killed_for_its_memory(tmp_path: Path, times: int) -> None:
    """Row 22, I1, I2: the kernel kills an agent for its memory: nothing acked is lost, nobody refused."""
    random = chance(22)
    collector = Collector()
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        listening = stack.enter_context(holder.held(tmp_path / "a" / "run" / "daemon.sock"))
        group = stack.enter_context(small_memory(f"bitville-{os.getpid()}", 12))
        agent = holder.Quick(tmp_path / "a", collector.url, listening=listening)
        stack.callback(agent.clean_up)
        agent.start()
        wait_until(agent.spool.exists)
        senders = begun(agent, random.getrandbits(32), 200, 5.0)
        progress = Progress(22, times, "kills")
        try:
            for n in range(1, times + 1):
                wait_until(agent.answers)
                time.sleep(0.3)
                (group / "cgroup.procs").write_text(str(agent.pid))
                hog(agent)
                agent.child.join(20)
                assert agent.child.exitcode == -signal.SIGKILL, "the kernel did not kill it"
                agent.spawn()
                progress.at(n, refused=sum(s.tally.refused for s in senders))
            wait_until(agent.answers)
        finally:
            tally = clients.together(senders)
        judged(22, agent, collector, tally)


def hog(agent: Agent) -> None:
    """Make the agent take more memory than it may: started lines that do not end."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        for _ in range(16):
            client = stack.enter_context(agent.connect(5))
            client.sendall(b'{"t":"end","v":2,"context":"' + b"x" * (7 << 20))
