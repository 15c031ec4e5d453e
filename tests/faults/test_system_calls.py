"""Fault row 2: an agent killed at each system call by which it changes something on disk."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from tests.agent.rig import Collector, wait_until
from tests.faults.tools import clients, holder, judge, strace
from tests.faults.tools.counts import Progress, chance, counts, say

CALLS = ("openat", "pwrite64", "write", "fdatasync", "fsync", "rename", "unlink", "ftruncate")
ITEMS = 200
WHOLE_BYTES = 60_000
"""Of a whole record; half of 200 are more than one segment, so that one is finished, and unlinked."""
START_S = 2.0
AT_ONCE = 6

_CALL = re.compile(r"^(\d+)\s+(\w+)\(")


class Script(clients.Client):
    """200 requests, one after another, each tried until it is acked or spooled."""

    def run(self) -> None:
        for n in range(ITEMS):
            self.round = n // 50
            self.one()


@attrs.define(eq=False)
class Round:
    """One run of the script against an agent that is traced from its first act on, and its heir if it dies."""

    agent: holder.Quick
    script: Script
    collector: Collector
    starts: list[float] = attrs.Factory(list)

    def tended(self) -> bool:
        """See to it that somebody lives."""
        assert self.agent.child is not None
        if self.agent.child.exitcode is not None:
            assert self.agent.trace, "an heir died by itself"
            self.agent.trace = ()
            self._start()
        return True

    def _start(self) -> None:
        began = time.monotonic()
        self.agent.start()
        self.starts.append(time.monotonic() - began)

    def _imported(self) -> bool:
        spool = self.agent.spool
        return self.tended() and self.agent.answers() and not [*spool.glob("*.json"), *spool.glob("*.ndjson")]

    def ended(self) -> None:
        """Through to the end: everything said, imported, delivered and judged."""
        wait_until(lambda: self.tended() and not self.script.is_alive(), 60, "the script ends")
        wait_until(self._imported, 30, "spool imported")
        if not self.agent.trace:
            judge.balanced(self.agent)
        stopped = self.agent.stop()
        assert stopped == 0 or self.agent.trace, "an heir died by itself"
        if stopped != 0 or not self._all_counted():
            # Killed while it stopped, or an heir told to stop before it had read back what no frame counts yet: that
            # is left to the next start.
            self.agent.trace = ()
            self._start()
            wait_until(self._all_counted, 30, "folded again and sent")
            assert self.agent.stop() == 0
        judge.stored_once(self.script.tally, judge.whole(self.collector.items.values()))
        judge.counted_once(self.script.tally, self._counted())

    def _all_counted(self) -> bool:
        return self._counted().total() >= self.script.tally.requests

    def _counted(self) -> Counter[str]:
        return judge.counted([*self.collector.items.values(), *self.collector.frames.values()])


@contextlib.contextmanager
def begun(directory: Path, trace: list[str]) -> Iterator[Round]:
    """The script under way, with a spool to import at the start."""
    collector = Collector()
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        listening = stack.enter_context(holder.held(directory / "run" / "daemon.sock"))
        agent = holder.Quick(directory, collector.url, fsync="interval", listening=listening, trace=trace)
        script = Script(agent.socket, agent.spool, "script", 2, short=0.5, pause=0, deadline=2.0, size=WHOLE_BYTES)
        for _ in range(4):
            script.unheard()
        stack.callback(agent.clean_up)
        agent.spawn()
        script.start()
        yield Round(agent, script, collector)


def points(directory: Path) -> list[tuple[str, int]]:
    """Every (call, n) of the script: the most that one thread makes of each call."""
    log = directory / "calls"
    with begun(directory / "counted", strace.options(",".join(CALLS), log=log)) as counted:
        counted.ended()
    made = Counter(found.groups() for line in log.read_text().splitlines() if (found := _CALL.match(line)))
    most = {call: max((n for (_, its), n in made.items() if its == call), default=0) for call in CALLS}
    say(f"row 2: the most calls of one thread: {most}")
    return [(call, n) for call in CALLS for n in range(1, most[call] + 1)]


@pytest.mark.parametrize("sample", counts("2 points"))
def test_killed_at_each_system_call(tmp_path: Path, sample: int) -> None:
    """Row 2, I1, I2: whichever call on its files is an agent's last, the next one has everything that was acked."""
    every = points(tmp_path)
    chosen = chance(2).sample(every, sample) if sample else every
    progress = Progress(2, len(chosen), "points")

    def killed_at(point: tuple[str, int]) -> list[float]:
        call, when = point
        directory = tmp_path / f"{call}-{when}"
        try:
            with begun(directory, strace.options(call, f"signal=SIGKILL:when={when}")) as killed:
                killed.ended()
        except AssertionError as error:
            raise AssertionError(f"killed at {call} number {when}: {error}") from error
        shutil.rmtree(directory)
        return killed.starts

    starts: list[float] = []
    # Several at once: most of a round is waiting for the next look into the spool.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for n, its in enumerate(pool.map(killed_at, chosen), 1):
            starts += its
            progress.at(n, killed=len(starts))
    say(f"row 2: {len(starts)} of {len(chosen)} points reached; slowest start {max(starts) * 1000:.0f} ms")
    assert len(starts) > 0.8 * len(chosen), "the points are not where they were counted"
    assert max(starts) < START_S
