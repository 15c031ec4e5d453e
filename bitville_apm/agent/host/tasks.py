"""All tasks of the machine, each looked at from /proc as cheaply as it may be. Blocks: for a thread of its own.

`schedstat` of a task tells how long it was on a CPU, how long it was runnable without one, and how often it ran. While
these bytes stay the same it has not run, and so it cannot have changed its state either: a task asleep is still asleep,
a blocked one still blocked. So one read of a file that stays open is all that an idle task costs, and only those that
ran are asked for more. Nothing is listed while a few numbers tell which processes may be new.

    schedstat as before ──▶ asleep: nothing; blocked: for all of the time; runnable: waiting for a CPU
    schedstat changed ────▶ stat: its state, its name, what its children used that are gone

A kernel without `schedstat` is looked at by `stat` alone: time on a CPU in its ticks, waiting for one as often as the
first thread was seen runnable.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence

import attrs
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.agent.host import parsing
from bitville_apm.agent.host.families import NOBODY, Families
from bitville_apm.agent.host.task import TICK_NS, Files, Group, Process, Task
from bitville_apm.agent.processes import TICKS

_NS = 1_000_000_000


class Spent(Struct):
    """Nanoseconds on a CPU and runnable without one, seconds in uninterruptible sleep."""

    cpu_ns: int = 0
    queue_ns: int = 0
    blocked_s: float = 0.0

    @property
    def task_s(self) -> float:
        """All of it, in seconds."""
        return (self.cpu_ns + self.queue_ns) / 1e9 + self.blocked_s


class Stuck(Struct, frozen=True):
    """One task that is in uninterruptible sleep: since the last look for `seconds`."""

    task: Task
    seconds: float


@attrs.define(eq=False)
class Scan:
    """One look at everything, `elapsed` seconds after the one before.

    `groups` are processes by name, `php` first threads of PHP's processes by their key, `helpers` the other threads
    of those. `children_ns` is what children had used that are gone, beyond what was seen of them, by the parent's name.
    """

    elapsed: float
    groups: dict[str, Spent] = attrs.Factory(dict)
    php: dict[Group, Spent] = attrs.Factory(dict)
    helpers: dict[Group, Spent] = attrs.Factory(dict)
    children_ns: dict[str, int] = attrs.Factory(dict)
    stuck: list[Stuck] = attrs.Factory(list)


@attrs.define(eq=False)
class Tasks:
    """The tasks of one /proc. `every`: how many seconds after another idle ones are looked at.

    `over` are processes that are too many, `exact` whether the kernel tells times on a CPU and waiting for one.
    """

    files: Files
    every: int = 1
    exact: bool = True
    processes: dict[int, Process] = attrs.Factory(dict)
    over: int = 0
    _tasks: list[Task] = attrs.Factory(list)
    _families: Families = attrs.Factory(Families)
    _turn: int = 0
    _last: float | None = None
    _looks: tuple[float, float] = (0.0, 0.0)
    _forks: int | None = None
    _made: bool = True
    _last_pids: tuple[int | None, int | None] = (None, None)

    def __attrs_post_init__(self) -> None:
        self.exact = any(os.path.exists(f"{self.files.proc}/{pid}/schedstat") for pid in ("self", "1"))
        if not self.exact:
            self.files.name = "stat"

    def __len__(self) -> int:
        return len(self._tasks)

    def look(self, forks: int | None, last_pid: int | None, php: Mapping[int, Group]) -> Scan:
        """Look at all.

        `forks` is the kernel's count of them so far, `last_pid` the last it gave, `php` the processes known to be
        PHP's.
        """
        at, boottime = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
        scan = Scan(at - (self._last or at))
        first = self._last is None
        if first:
            self._looks = boottime, boottime
        self._last, self._turn = at, self._turn + 1
        for pid, group in php.items():
            process = self.processes.get(pid)
            if process is not None:
                process.group = group
        changed, gone = self._read_all(at, scan)
        active: dict[int, Process] = {}
        for task, raw in changed:
            self._ran(task, raw, at, scan, active)
        self._remove(gone)
        made, self._forks = forks is None or forks != self._forks, forks
        pids = self._new_pids(last_pid)
        self._last_pids = self._last_pids[1], last_pid
        if made or self._made or not self._turn % limits.HOST_LIST_LOOKS:
            born_after = math.inf if first else self._looks[0] - 1 / TICKS
            self._new(pids, at, born_after, php, scan)
            for process in active.values():
                if process.count != len(process.threads):
                    self._threads(process, at, born_after, scan)
        self._looks, self._made = (self._looks[1], boottime), made
        self._gone_children(scan)
        return scan

    def close(self) -> None:
        """Let go of all files."""
        for process in self.processes.values():
            for task in process.threads.values():
                self.files.close(task)
        self.processes.clear()
        self._tasks.clear()

    # --- reading --------------------------------------------------------------------------------------------

    def _read_all(self, at: float, scan: Scan) -> tuple[list[tuple[Task, bytes]], list[Task]]:
        """What has run since its last look, and what is not there any more."""
        changed, gone = [], []
        pread, again, every, turn, cold = os.pread, self.files.again, self.every, self._turn, limits.HOST_STILL
        for task in self._tasks:
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
                self._blocked(task, at - task.at, scan)
            elif task.state == "R":
                # What waits for a CPU is told by the kernel when it gets one.
                waited = int((at - task.at) * _NS)
                task.ahead_ns += waited
                self._spent(task, scan).queue_ns += waited
            else:
                task.still += 1
            task.at = at
        return changed, gone

    def _ran(self, task: Task, raw: bytes, at: float, scan: Scan, active: dict[int, Process]) -> None:
        """A task has run: how long, and what it does now."""
        process, passed = task.process, at - task.at
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
        cpu, queue = _numbers(raw) if self.exact else (stat.cpu * TICK_NS, None)
        spent = self._spent(task, scan)
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
        task.raw, task.cpu, task.at, task.state, task.still = raw, cpu, at, state, 0
        if state == "D":
            self._blocked(task, max(0.0, passed - ran / _NS), scan)

    def _used(self, process: Process, stat: parsing.Stat, scan: Scan) -> None:
        more = stat.children - process.children
        process.told(stat)
        if more > 0:
            self._families.raised(process.pid, more * TICK_NS)

    def _spent(self, task: Task, scan: Scan) -> Spent:
        process = task.process
        if process.group is None:
            sums, key = scan.groups, process.name
        else:
            sums, key = scan.php if task is process.first else scan.helpers, process.group
        found = sums.get(key)
        if found is None:
            found = sums[key] = Spent()
        return found

    def _blocked(self, task: Task, seconds: float, scan: Scan) -> None:
        self._spent(task, scan).blocked_s += seconds
        scan.stuck.append(Stuck(task, seconds))

    # --- which there are ------------------------------------------------------------------------------------

    def _new_pids(self, last: int | None) -> Sequence[int] | None:
        """The numbers the kernel has given since the look before the last; None when only a list can tell.

        A number is given a moment before its process can be seen, and under load moments are long.
        """
        before = self._last_pids[0]
        if before is None or last is None or not self._turn % limits.HOST_LIST_LOOKS:
            return None
        return range(before + 1, last + 1) if 0 <= last - before <= limits.HOST_PIDS_TRIED else None

    def _new(
        self, pids: Sequence[int] | None, at: float, born_after: float, php: Mapping[int, Group], scan: Scan
    ) -> None:
        """Find processes that are new: among a few numbers, or in the list of all, which takes a microsecond each."""
        if pids is None:
            pids = [int(name) for name in os.listdir(self.files.proc) if name.isdecimal()]
            self.over = 0
        for pid in pids:
            if pid in self.processes:
                continue
            if len(self._tasks) >= limits.HOST_TASKS:
                self.over += 1
                continue
            process = Process(pid)
            process.group = php.get(pid)
            stat = self._add(process.first, at, born_after, scan)
            if stat is None:
                continue
            self.processes[pid] = process
            if stat.started / TICKS >= born_after:
                self._families.raised(pid, stat.children * TICK_NS)
            if process.count > 1:
                self._threads(process, at, born_after, scan)

    def _threads(self, process: Process, at: float, born_after: float, scan: Scan) -> None:
        """The threads of a process beside its first."""
        if not self.exact:
            return
        try:
            listed = os.listdir(f"{self.files.proc}/{process.pid}/task")
        except OSError:
            return  # it goes right now
        for name in listed:
            if (id_ := int(name)) not in process.threads and len(self._tasks) < limits.HOST_TASKS:
                self._add(Task(id_, process), at, born_after, scan)

    def _add(self, task: Task, at: float, born_after: float, scan: Scan) -> parsing.Stat | None:
        """A task that was not there. If it was born since the last look, all that it has used is news."""
        try:
            raw = self.files.first(task)
            line = self.files.stat(task) if self.exact else raw
            if task is task.process.first and not parsing.is_process(line):
                raise ValueError("a thread: it can be read in the same place")
            stat = parsing.stat(line)
        except (OSError, ValueError):
            self.files.close(task)
            return None  # it goes right now
        cpu, queue = _numbers(raw) if self.exact else (stat.cpu * TICK_NS, 0)
        if task is task.process.first:
            task.process.told(stat)
        task.process.threads[task.id] = task
        self._tasks.append(task)
        task.raw, task.cpu, task.queue, task.at, task.state = raw, cpu, queue, at, stat.state
        if stat.started / TICKS >= born_after:
            spent = self._spent(task, scan)
            spent.cpu_ns += cpu
            spent.queue_ns += queue
        return stat

    def _remove(self, gone: list[Task]) -> None:
        """Tasks that are not there any more. What is known of a process is no news when its parent has it."""
        if not gone:
            return
        pids = set()
        for task in gone:
            self.files.close(task)
            process = task.process
            if task is process.first and self.processes.pop(process.pid, None) is not None:
                pids.add(process.pid)
                self._families.gone(process.pid, process.parent, process.known_ns)
                for thread in process.threads.values():
                    self.files.close(thread)
                    thread.gone = True
                process.threads.clear()
            process.threads.pop(task.id, None)
            task.gone = True
        self._tasks = [task for task in self._tasks if not task.gone]
        for process in self.processes.values() if pids else ():
            if process.parent in pids:
                process.parent = NOBODY

    def _gone_children(self, scan: Scan) -> None:
        """What was used unseen. A known child may have gone after it was looked at, and before its parent was."""
        risen = self._families.risen()
        if risen:
            risen.add(NOBODY)
            self._remove([p.first for p in list(self.processes.values()) if p.parent in risen and self._is_gone(p)])
        for pid, ns in self._families.unseen(self.processes):
            name = self.processes[pid].name
            scan.children_ns[name] = scan.children_ns.get(name, 0) + ns

    def _is_gone(self, process: Process) -> bool:
        try:
            self.files.again(process.first)
        except OSError:
            return True
        return False

    def still_there(self, task: Task) -> bool:
        """Whether it has not run since it was looked at."""
        try:
            return self.files.again(task) == task.raw
        except OSError:
            return False


def _numbers(raw: bytes) -> tuple[int, int]:
    cpu, queue, _ = raw.split()
    return int(cpu), int(queue)
