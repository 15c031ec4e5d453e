"""Which tasks there are: found as they come, forgotten as they go, without a list of all. Blocks.

Nothing is listed while a few numbers tell which processes may be new: the kernel counts forks, and gives numbers in
order. A process that says to have other threads than are known has its own listed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence

import attrs

from bitville_apm import limits
from bitville_apm.agent.host import parsing
from bitville_apm.agent.host.families import NOBODY, Families
from bitville_apm.agent.host.scan import Scan
from bitville_apm.agent.host.task import TICK_NS, Files, Group, Process, Task
from bitville_apm.agent.processes import TICKS


@attrs.define(eq=False)
class Census:
    """The tasks of one /proc, and their processes by pid.

    `exact` is whether the kernel tells times on a CPU and waiting for one, `over` are processes that are too many.
    """

    files: Files
    exact: bool
    tasks: list[Task] = attrs.Factory(list)
    processes: dict[int, Process] = attrs.Factory(dict)
    families: Families = attrs.Factory(Families)
    over: int = 0
    _turn: int = 0
    _looks: tuple[float, float] | None = None
    _forks: int | None = None
    _made: bool = True
    _last_pids: tuple[int | None, int | None] = (None, None)

    def find(
        self,
        scan: Scan,
        php: Mapping[int, Group],
        active: Iterable[Process],
        forks: int | None,
        last_pid: int | None,
    ) -> None:
        """Find who came, once a look; `active` are processes that ran, `php` those known to be PHP's.

        `forks` is the kernel's count of them so far, `last_pid` the last number it gave.
        """
        self._turn += 1
        born_after = math.inf if self._looks is None else self._looks[0] - 1 / TICKS
        before = scan.boottime if self._looks is None else self._looks[1]
        made, self._forks = forks is None or forks != self._forks, forks
        pids = self._new_pids(last_pid)
        self._last_pids = self._last_pids[1], last_pid
        if made or self._made or not self._turn % limits.HOST_LIST_LOOKS:
            self._new(pids, born_after, php, scan)
            for process in active:
                if process.count != len(process.threads):
                    self._threads(process, born_after, scan)
        self._looks, self._made = (before, scan.boottime), made

    def remove(self, gone: list[Task]) -> None:
        """Tasks that are not there any more. What is known of a process is no news when its parent has it."""
        if not gone:
            return
        pids = set()
        for task in gone:
            self.files.close(task)
            process = task.process
            if task is process.first and self.processes.pop(process.pid, None) is not None:
                pids.add(process.pid)
                self.families.gone(process.pid, process.parent, process.known_ns)
                for thread in process.threads.values():
                    self.files.close(thread)
                    thread.gone = True
                process.threads.clear()
            process.threads.pop(task.id, None)
            task.gone = True
        self.tasks = [task for task in self.tasks if not task.gone]
        for process in self.processes.values() if pids else ():
            if process.parent in pids:
                process.parent = NOBODY

    def gone_children(self, scan: Scan) -> None:
        """What was used unseen. A known child may have gone after it was looked at, and before its parent was."""
        risen = self.families.risen()
        if risen:
            risen.add(NOBODY)
            self.remove([p.first for p in list(self.processes.values()) if p.parent in risen and self._is_gone(p)])
        for pid, ns in self.families.unseen(self.processes):
            name = self.processes[pid].name
            scan.children_ns[name] = scan.children_ns.get(name, 0) + ns

    def close(self) -> None:
        """Let go of all files."""
        for process in self.processes.values():
            for task in process.threads.values():
                self.files.close(task)
        self.processes.clear()
        self.tasks.clear()

    def _new_pids(self, last: int | None) -> Sequence[int] | None:
        """The numbers the kernel has given since the look before the last; None when only a list can tell.

        A number is given a moment before its process can be seen, and under load moments are long.
        """
        before = self._last_pids[0]
        if before is None or last is None or not self._turn % limits.HOST_LIST_LOOKS:
            return None
        return range(before + 1, last + 1) if 0 <= last - before <= limits.HOST_PIDS_TRIED else None

    def _new(self, pids: Sequence[int] | None, born_after: float, php: Mapping[int, Group], scan: Scan) -> None:
        """Find processes that are new: among a few numbers, or in the list of all, which takes a microsecond each."""
        if pids is None:
            pids = [int(name) for name in os.listdir(self.files.proc) if name.isdecimal()]
            self.over = 0
        for pid in pids:
            if pid in self.processes:
                continue
            if len(self.tasks) >= limits.HOST_TASKS:
                self.over += 1
                continue
            process = Process(pid)
            process.group = php.get(pid)
            stat = self._add(process.first, born_after, scan)
            if stat is None:
                continue
            self.processes[pid] = process
            if stat.started / TICKS >= born_after:
                self.families.raised(pid, stat.children * TICK_NS)
            if process.count > 1:
                self._threads(process, born_after, scan)

    def _threads(self, process: Process, born_after: float, scan: Scan) -> None:
        """The threads of a process beside its first."""
        if not self.exact:
            return
        try:
            listed = os.listdir(f"{self.files.proc}/{process.pid}/task")
        except OSError:
            return  # it goes right now
        for name in listed:
            if (id_ := int(name)) not in process.threads and len(self.tasks) < limits.HOST_TASKS:
                self._add(Task(id_, process), born_after, scan)

    def _add(self, task: Task, born_after: float, scan: Scan) -> parsing.Stat | None:
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
        cpu, queue = parsing.task_schedstat(raw) if self.exact else (stat.cpu * TICK_NS, 0)
        if task is task.process.first:
            task.process.told(stat)
        task.process.threads[task.id] = task
        self.tasks.append(task)
        task.raw, task.cpu, task.queue, task.at, task.state = raw, cpu, queue, scan.at, stat.state
        if stat.started / TICKS >= born_after:
            spent = scan.spent(task)
            spent.cpu_ns += cpu
            spent.queue_ns += queue
        return stat

    def _is_gone(self, process: Process) -> bool:
        try:
            self.files.again(process.first)
        except OSError:
            return True
        return False
