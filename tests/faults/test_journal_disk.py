"""Fault rows 10, 12 and 23: an agent whose disk is full, read-only or lying, and one whose journal is full."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitville_apm import limits
from tests.agent.rig import Agent, Collector, Sender, end_line, free_port, running, wait_until
from tests.faults.tools import disks, holder, judge, strace
from tests.faults.tools.counts import Progress, chance, counts, say

RECOVERS_S = 10.0
INODES = 600


def _full(mounted: Path, agent: Agent) -> Callable[[], None]:
    return disks.fill(mounted).unlink


def _no_inodes(mounted: Path, agent: Agent) -> Callable[[], None]:
    many = mounted / "many"
    many.mkdir()
    with contextlib.suppress(OSError):
        for n in range(INODES):
            (many / str(n)).touch()
    return lambda: shutil.rmtree(many)


def _read_only(mounted: Path, agent: Agent) -> Callable[[], None]:
    """As the system does it to a disk in trouble. By hand it refuses while a file is being written to."""
    assert agent.process is not None
    calls = "pwrite64,fdatasync,fsync,ftruncate,rename,unlink,mkdir"
    tracer = strace.attach(agent.process.pid, strace.options(calls, "error=EROFS"))

    def mend() -> None:
        tracer.terminate()
        tracer.wait()

    return mend


@pytest.mark.parametrize("break_", [_full, _no_inodes, _read_only])
def test_a_disk_that_takes_no_more(tmp_path: Path, break_: Callable[[Path, Agent], Callable[[], None]]) -> None:
    """Row 10, I1, I2: no space, no inodes, read-only: it answers health and goes on, nothing acked is lost, and it
    takes records again within 10 s by itself.
    """
    collector = Collector()

    def slowly(items: object) -> None:
        time.sleep(0.2)

    collector.behaviour = slowly
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        mounted = stack.enter_context(disks.tmpfs(tmp_path / "a" / "state", size="24m", inodes=INODES))
        agent = stack.enter_context(running(Agent(tmp_path / "a", collector.url, fsync="always")))
        senders = [Sender(agent, size=60_000, pause=0.002) for _ in range(3)]
        stack.callback(lambda: [sender.finish() for sender in senders])
        for sender in senders:
            sender.start()
        wait_until(lambda: sum(len(s.acked) for s in senders) > 20)
        with judge.Watch(agent) as watch:
            mend = break_(mounted, agent)
            try:
                wait_until(lambda: agent.health()["status"] != "ok", what="health says so")
                time.sleep(1.0)
            finally:
                mend()
            mended, acked = time.monotonic(), sum(len(s.acked) for s in senders)
            wait_until(lambda: sum(len(s.acked) for s in senders) > acked + 20, RECOVERS_S, "records are taken again")
            recovered = time.monotonic() - mended
        watch.judge()
        for sender in senders:
            sender.finish()
        every = set().union(*(sender.acked for sender in senders))
        wait_until(lambda: every <= collector.items.keys(), 60, "acked records are missing at the collector")
        wait_until(lambda: agent.ledger()["pending"] == 0, 30)
        judge.balanced(agent)
    say(f"row 10: {break_.__name__}: {len(every)} acked, 0 lost, again after {recovered:.1f} s")


FAULTS = {
    "fsync fails": ("fdatasync", "error=EIO:when={n}"),
    "fsync goes on failing": ("fdatasync", "error=EIO:when={n}..{m}"),
    "write fails": ("pwrite64", "error=EIO:when={n}"),
    "write is short": ("pwrite64", "retval=7:when={n}"),
    "write is a lie": ("pwrite64", "retval=100000:when={n}"),
}
"""What strace makes of a call: its n-th fails, or is not done and says that it was."""


@pytest.mark.parametrize("runs", counts("12 runs"))
def test_what_was_acknowledged_is_on_disk(tmp_path: Path, runs: int) -> None:
    """Row 12, I1: fsync = always, and calls that fail or lie: after a SIGKILL all that was acked is there."""
    random = chance(12)
    progress = Progress(12, runs, "runs")
    acked_in_all = hurt = 0
    for run in range(1, runs + 1):
        name = list(FAULTS)[run % len(FAULTS)]
        call, how = FAULTS[name]
        n = random.randrange(3, 40)
        directory = tmp_path / str(run)
        trace = strace.options(call, how.format(n=n, m=n + 4))
        with contextlib.ExitStack() as stack:
            agent = holder.Quick(directory, f"http://127.0.0.1:{free_port()}", fsync="always", trace=trace)
            stack.callback(agent.clean_up)
            agent.start()
            acked: set[str] = set()
            sender = Sender(agent, size=2000)
            sender.start()
            wait_until(lambda sender=sender: len(sender.acked) > 60, 30, f"{name} at {n}: it takes no more")
            sender.finish()
            agent.kill()
            acked = sender.acked
            hurt += sender.refused > 0 or "failed" in agent.text()
            collector = Collector()
            stack.callback(collector.close)
            # Its sendings failed so far; what matters here is what it finds.
            shutil.rmtree(agent.state / "circuit-breaker-state", ignore_errors=True)
            heir = holder.Quick(directory, collector.url, fsync="always")
            stack.callback(heir.clean_up)
            heir.start()
            wait_until(lambda: acked <= collector.items.keys(), 30, f"{name} at {n}: acked records are lost")  # noqa: B023
            wait_until(lambda heir=heir: heir.ledger()["pending"] == 0)
            judge.balanced(heir)
        acked_in_all += len(acked)
        progress.at(run, acked=acked_in_all)
    say(f"row 12: {runs} runs, {hurt} of them hurt, {acked_in_all} acked, 0 lost")
    assert hurt > runs / 6, "the faults did not reach the journal"


def test_a_long_outage(tmp_path: Path) -> None:
    """Row 23, I2, I4: no collector and a bound of 16 MiB: the oldest go, counted exactly; the newest come when it is
    back; also when the agent is killed meanwhile.
    """
    most = 16 * limits.MIB
    port = free_port()
    with contextlib.ExitStack() as stack:
        agent = Agent(tmp_path / "a", f"http://127.0.0.1:{port}", fsync="never", more="journal_mb = 16\n")
        stack.enter_context(running(agent))
        sent: list[str] = []

        def send(mib: int) -> None:
            with agent.connect() as client:
                for _ in range(mib * 4):
                    lines = [end_line(size=limits.MIB // 4)]
                    sent.extend(judge_id(line) for line in lines)
                    client.sendall(b"\n".join(lines) + b"\n")
                    assert client.recv(1) == b"+"

        send(30)
        wait_until(lambda: judge.disk_bytes(agent.state / "journal") <= most + limits.SEGMENT_BYTES)
        agent.kill()
        agent.start()
        send(10)
        assert judge.disk_bytes(agent.state / "journal") <= most + limits.SEGMENT_BYTES
        collector = Collector(port)
        stack.callback(collector.close)
        wait_until(lambda: agent.ledger()["pending"] == 0, 90, "everything delivered")
        numbers = wait_until(lambda: agent.ledger()["error"] == 0 and agent.ledger())
        came, dropped = set(collector.items) & set(sent), numbers["dropped_bytes"]
        say(f"row 23: {len(sent)} sent, {dropped} dropped, {len(came)} came")
        assert dropped > 0
        assert (numbers["entered"], numbers["stored"]) == (len(sent), len(came))
        assert len(came) + dropped == len(sent)
        assert sent[-1] in came
        assert sent[0] not in came
    assert "journal full (bytes), dropped" in agent.text()


def judge_id(line: bytes) -> str:
    """The id in an end line."""
    return line.split(b'"id": "', 1)[1][:36].decode()
