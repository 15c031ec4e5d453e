"""Processes under names of their own, and a watcher who looks at the whole host and adds up what it sees."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from bitville_apm.agent.host.host import Host, HostSeen
from bitville_apm.agent.host.scan import Spent

BURN = "print(flush=True)\nwhile True: pass"
SLEEP = "import time; print(flush=True); time.sleep(600)"
ASLEEP_S = 30.0


@contextmanager
def named(name: str, code: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that the kernel knows by this name; it prints a line when it is ready."""
    path = directory / name
    if not path.exists():
        path.symlink_to(sys.executable)
    process = subprocess.Popen([str(path), "-S", "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@attrs.define(eq=False)
class Watch:
    """Looks at this machine as the agent does; `named` is what was seen of each name so far."""

    host: Host
    named: dict[str, Spent] = attrs.Factory(lambda: defaultdict(Spent))
    php: dict[Any, Spent] = attrs.Factory(lambda: defaultdict(Spent))
    seen: list[HostSeen] = attrs.Factory(list)

    def look(self, known: Mapping[int, Any] | None = None) -> HostSeen | None:
        """One look."""
        self.host.period = self.host.tasks.every = 1  # whatever this machine is busy with
        seen = self.host.look(known or {})
        if seen is not None:
            self.seen.append(seen)
            for sums, found in ((self.named, seen.processes), (self.php, seen.php), (self.php, seen.helpers)):
                for name, spent in found.items():
                    sums[name].cpu_ns += spent.cpu_ns
                    sums[name].queue_ns += spent.queue_ns
                    sums[name].blocked_s += spent.blocked_s
        return seen

    def for_(self, seconds: float, every: float = 0.5) -> None:
        """Look for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(every)
            self.look()

    def cpu_s(self, name: str) -> float:
        """Seconds on a CPU of all processes of a name."""
        return self.named[name].cpu_ns / 1e9


@contextmanager
def watching(proc: str = "/proc", most_open: int = 4096) -> Iterator[Watch]:
    """Look from now on."""
    watch = Watch(Host(proc, most_open))
    try:
        watch.look()
        yield watch
    finally:
        watch.host.close()


def used(process: subprocess.Popen[bytes]) -> float:
    """End a process: the seconds on a CPU that the kernel counted for it, with the children it had waited for."""
    process.terminate()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    return usage.ru_utime + usage.ru_stime


def wait_asleep(pid: int) -> None:
    """Wait until a process sleeps and has not run for a while: what it did to get there is not looked at."""
    until = time.monotonic() + ASLEEP_S
    before = None
    while time.monotonic() < until:
        now = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], schedstat(pid))
        if now == before and now[0] == "S":
            return
        before = now
        time.sleep(0.1)
    raise AssertionError(f"process {pid} does not go to sleep: {before}")


def schedstat(pid: int) -> tuple[float, float]:
    """Seconds on a CPU and waiting for one of a process's first thread, as the kernel counts."""
    cpu, queue, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(cpu) / 1e9, int(queue) / 1e9


def near(told: float, true: float, share: float = 0.1) -> bool:
    """Within 10 %, or 20 ms: a tick of the kernel's two clocks on either side."""
    return abs(told - true) <= max(share * true, 0.02)
