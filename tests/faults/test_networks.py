"""Fault rows 5, 7 and 8: a network that swallows packets, resets, crawls, or loses the answer after the commit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.agent.certificate import certified
from tests.agent.rig import Agent, Collector, end_line, wait_until
from tests.collector import rig as collectors
from tests.faults.tools import clients, judge
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.faults.tools.network import Network, network
from tests.faults.tools.proxy import Fault, Proxy

SMALL_BYTES, LARGE_BYTES = 8 << 10, 256 << 10


@attrs.frozen
class Far:
    """An agent in a network of its own, and a collector's stand-in at the other end of the line."""

    network: Network
    collector: Collector
    agent: Agent

    def pending(self) -> int:
        with self.network.entered():
            return int(self.agent.ledger()["pending"])

    def judge(self, tally: clients.Tally) -> None:
        """I1 and I2, after everything is delivered."""
        with self.network.entered():
            judge.balanced(self.agent)
        judge.stored_once(tally, judge.whole(self.collector.items.values()))


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    """Both running. Off the machine an agent speaks TLS only."""
    with contextlib.ExitStack() as stack:
        joined = stack.enter_context(network())
        certificate, tls = certified(tmp_path / "certificate", joined.here)
        collector = Collector(tls=tls, address=joined.here)
        stack.callback(collector.close)
        (tmp_path / "ca.pem").write_bytes(certificate)
        url = f"https://{joined.here}:{collector.port}"
        agent = Agent(tmp_path / "a", url, flush_seconds=1, before=joined.words)
        text = agent.config.read_text().replace("[php]", f"ca = {tmp_path / 'ca.pem'}\n[php]", 1)
        agent.config.write_text(text)
        stack.callback(agent.clean_up)
        agent.spawn()
        with joined.entered():
            wait_until(agent.answers, what=agent.text())
        yield Far(joined, collector, agent)


@pytest.mark.parametrize("how", ["dropped", "reset"])
@pytest.mark.parametrize("seconds", counts("7 seconds"))
def test_packets_are_lost(far: Far, seconds: int, how: str) -> None:
    """Row 7, I1, I3, I5: with every packet to the collector lost or answered by a reset, clients are acked as ever
    and health answers; afterwards everything is delivered once.
    """
    agent = far.agent
    senders = [clients.Client(agent.socket, agent.spool, f"client-{n}", n, pause=0.01) for n in range(2)]
    for sender in senders:
        sender.start()
    wait_until(lambda: far.collector.items)
    with judge.Watch(agent, far.network.entered) as watch, getattr(far.network, how)():
        time.sleep(seconds)
    tally = clients.together(senders)
    say(f"row 7: {how} for {seconds} s: clients {judge.told(tally.took)}; health {judge.told(watch.took)}")
    watch.judge()
    judge.waits(tally.took)
    assert tally.refused == tally.late == 0
    # The breaker may have opened, and TCP waits longer and longer before it tries again.
    wait_until(lambda: far.pending() == 0, 90, "everything delivered")
    far.judge(tally)


@pytest.mark.parametrize("mib", counts("8 backlog MiB"))
def test_a_slow_network(far: Far, mib: int) -> None:
    """Row 8, I4: over 64 kbit/s, with a large backlog on disk, memory stays below 256 MB, and something arrives."""
    agent, random = far.agent, chance(8)
    far.network.slow("64kbit")
    progress = Progress(8, mib, "MiB of backlog")
    for n in range(mib):
        size = SMALL_BYTES if n < 4 else LARGE_BYTES
        lines = [
            end_line(context={"bytes": random.randbytes(size // 2).hex()}) for _ in range((1 << 20) // size)
        ]  # hexadecimal digits: compressed to half, as records are at best over a short batch
        assert agent.send(*lines, seconds=60) == b"+" * len(lines)
        progress.at(n + 1)
    before = far.pending()
    wait_until(lambda: far.collector.items, 120, "nothing arrives over a slow line")
    wait_until(lambda: len(far.collector.items) > 20, 120, "it does not go on")
    assert agent.process is not None
    memory, disk = judge.memory_mb(agent.process.pid), judge.disk_bytes(agent.state / "journal")
    say(f"row 8: {mib} MiB of backlog: {memory:.0f} MB resident at most, {disk >> 20} MiB on disk, {before} waiting")
    assert memory < judge.MEMORY_MB
    with far.network.entered():
        judge.balanced(agent)


@pytest.mark.parametrize("cuts", counts("5 cuts"))
def test_the_answer_is_lost_after_the_commit(tmp_path: Path, cuts: int) -> None:
    """Row 5, I1: cut off between the collector's commit and its answer, the agent sends again: nothing is stored or
    counted twice.
    """
    random = chance(5)
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(collectors.running(tmp_path / "collector"))
        key = collector.key(scopes="ingest,read")

        def plan(n: int) -> Fault:
            # Four cuts in a row at most, the fourth after some good answers: a fifth opens the breaker for a minute.
            if n % 4 == 3:
                return Fault(cut_down=random.randrange(2000, 6000))
            return Fault(cut_down=random.choice([0, 0, 0, random.randrange(1, 200)]), reset=random.random() < 0.5)

        proxy = stack.enter_context(Proxy(collector.port, plan))
        agent = Agent(tmp_path / "a", proxy.url, flush_seconds=0.05, key=key)
        stack.callback(agent.clean_up)
        agent.start()
        senders = [clients.Client(agent.socket, agent.spool, f"client-{n}", n, pause=0.01) for n in range(2)]
        for sender in senders:
            sender.start()
        progress = Progress(5, cuts, "cuts")
        while proxy.cuts < cuts:
            time.sleep(0.1)
            for sender in senders:
                sender.round = proxy.cuts * 50 // cuts
            progress.at(min(proxy.cuts, cuts), connections=proxy.connections)
        proxy.plan = lambda n: Fault()
        tally = clients.together(senders)
        wait_until(lambda: agent.ledger()["pending"] == 0, 90, "everything delivered")
        judge.balanced(agent)
        ledger = agent.ledger()
        judge.kept_once(tally, collector, key)
        say(f"row 5: {proxy.cuts} cuts, {tally.requests} requests, {ledger['duplicate_at_collector']} sent again")
        assert ledger["duplicate_at_collector"] > cuts / 10, "the cuts came before the commit"
