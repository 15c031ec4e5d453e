"""All tasks of the machine, each looked at from /proc as cheaply as it may be. Blocks: for a thread of its own.

`schedstat` of a task tells how long it was on a CPU, how long it was runnable without one, and how often it ran. While
these bytes stay the same it has not run, and so it cannot have changed its state either: a task asleep is still asleep,
a blocked one still blocked. So one read of a file that stays open is all that an idle task costs, and only those that
ran are asked for more.

    schedstat as before ──▶ asleep: nothing; blocked: for all of the time; runnable: waiting for a CPU
    schedstat changed ────▶ stat: its state, its name, what its children used that are gone

A kernel without `schedstat` is looked at by `stat` alone: time on a CPU in its ticks, waiting for one as often as the
first thread was seen runnable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import attrs

from bitville_apm import limits
from bitville_apm.agent.host import parsing
from bitville_apm.agent.host.census import Census
from bitville_apm.agent.host.scan import Scan
from bitville_apm.agent.host.task import TICK_NS, Files, Group, Process, Task

_NS = 1_000_000_000


@attrs.define(eq=False)
class Tasks:
    """The tasks of one /proc. `every`: how many seconds after another idle ones are looked at.

    `exact` is whether the kernel tells times on a CPU and waiting for one, `census` who is there.
    """

    files: Files
    every: int = 1
    exact: bool = True
    census: Census = attrs.field(init=False)
    _turn: int = 0
    _last: float | None = None

    def __attrs_post_init__(self) -> None:
        self.exact = any(os.path.exists(f"{self.files.proc}/{pid}/schedstat") for pid in ("self", "1"))
        if not self.exact:
            self.files.name = "stat"
        self.census = Census(self.files, self.exact)

    def look(self, forks: int | None, last_pid: int | None, php: Mapping[int, Group]) -> Scan:
        """Look at all.

        `forks` is the kernel's count of them so far, `last_pid` the last number it gave, `php` the processes known to
        be PHP's.
        """
        at, boottime = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
        scan, census = Scan(at, boottime, at - (self._last or at)), self.census
        self._last, self._turn = at, self._turn + 1
        for pid, group in php.items():
            process = census.processes.get(pid)
            if process is not None:
                process.group = group
        changed, gone = self._read_all(scan)
        active: dict[int, Process] = {}
        for task, raw in changed:
            self._ran(task, raw, scan, active)
        census.remove(gone)
        census.find(scan, php, active.values(), forks, last_pid)
        census.gone_children(scan)
        return scan

    def still_there(self, task: Task) -> bool:
        """Whether it has not run since it was looked at."""
        try:
            return self.files.again(task) == task.raw
        except OSError:
            return False

    def _read_all(self, scan: Scan) -> tuple[list[tuple[Task, bytes]], list[Task]]:
        """What has run since its last look, and what is not there any more."""
        changed, gone, at = [], [], scan.at
        pread, again, every, turn, cold = os.pread, self.files.again, self.every, self._turn, limits.HOST_STILL
        for task in self.census.tasks:
            if every > 1 and task.still > cold and (task.id + turn) % every:
                continue
            try:
                raw = pread(task.fd, 512, 0) if task.fd >= 0 else again(task)
            except OSError:
                gone.append(task)
                continue
            if raw != task.raw:
                changed.append((task, raw))
                continue
            if task.state == "D":
                scan.blocked(task, at - task.at)
            elif task.state == "R":
                # What waits for a CPU is told by the kernel when it gets one.
                waited = int((at - task.at) * _NS)
                task.ahead_ns += waited
                scan.spent(task).queue_ns += waited
            else:
                task.still += 1
            task.at = at
        return changed, gone

    def _ran(self, task: Task, raw: bytes, scan: Scan, active: dict[int, Process]) -> None:
        """A task has run: how long, and what it does now."""
        process, passed = task.process, scan.at - task.at
        try:
            if task is process.first:
                stat = parsing.stat(self.files.stat(task) if self.exact else raw)
                state = stat.state
                self._used(process, stat, scan)
            else:
                state = parsing.state(self.files.stat(task))
                if process.pid not in active:
                    self._used(process, parsing.stat(self.files.stat(process.first)), scan)
        except (OSError, ValueError):
            return  # it goes right now; the next look finds that
        active[process.pid] = process
        cpu, queue = parsing.task_schedstat(raw) if self.exact else (stat.cpu * TICK_NS, None)
        spent = scan.spent(task)
        ran = max(0, cpu - task.cpu)
        spent.cpu_ns += ran
        if queue is None:
            if state == "R":
                spent.queue_ns += max(0, int(passed * _NS) - ran)
        else:
            waited = max(0, queue - task.queue)
            spent.queue_ns += max(0, waited - task.ahead_ns)
            task.queue, task.ahead_ns = queue, 0
            ran += waited
        task.raw, task.cpu, task.at, task.state, task.still = raw, cpu, scan.at, state, 0
        if state == "D":
            scan.blocked(task, max(0.0, passed - ran / _NS))

    def _used(self, process: Process, stat: parsing.Stat, scan: Scan) -> None:
        more = stat.children - process.children
        process.told(stat)
        if more > 0:
            self.census.families.raised(process.pid, more * TICK_NS)
