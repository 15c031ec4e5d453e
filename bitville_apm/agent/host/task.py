"""One thread of a process with its files in /proc, and the process. Blocks."""

from __future__ import annotations

import os
from typing import Any

import attrs

from bitville_apm.agent.host import parsing
from bitville_apm.agent.processes import TICKS

TICK_NS = 1_000_000_000 // TICKS
_FLAGS = os.O_RDONLY | os.O_CLOEXEC
Group = Any
"""The key under which a caller knows a process to be PHP's; None for all others."""


@attrs.define(eq=False)
class Files:
    """How files of tasks are read: below `proc`, `name` of each kept open while at most `most_open` are.

    An open file is of one task for ever: a reused number cannot be taken for it.
    """

    proc: str
    most_open: int
    name: str = "schedstat"
    open: int = 0

    def path(self, task: Task, name: str) -> str:
        """Where a file of a task is."""
        pid = task.process.pid
        return f"{self.proc}/{pid}/{name}" if task.id == pid else f"{self.proc}/{pid}/task/{task.id}/{name}"

    def first(self, task: Task) -> bytes:
        """Read what is read each time, and keep it open."""
        if self.open >= self.most_open:
            return self.again(task)
        task.fd = os.open(self.path(task, self.name), _FLAGS)
        self.open += 1
        return os.pread(task.fd, 512, 0)

    def again(self, task: Task) -> bytes:
        """Read it."""
        return os.pread(task.fd, 512, 0) if task.fd >= 0 else self._once(task, self.name)

    def stat(self, task: Task) -> bytes:
        """Read its stat; of a task that ran in two looks in a row that stays open, too."""
        if task.stat_fd >= 0:
            return os.pread(task.stat_fd, 1024, 0)
        if task.still or not task.raw or self.open >= self.most_open:
            return self._once(task, "stat")
        task.stat_fd = os.open(self.path(task, "stat"), _FLAGS)
        self.open += 1
        return os.pread(task.stat_fd, 1024, 0)

    def _once(self, task: Task, name: str) -> bytes:
        fd = os.open(self.path(task, name), _FLAGS)
        try:
            return os.read(fd, 1024)
        finally:
            os.close(fd)

    def close(self, task: Task) -> None:
        """Let go of its files."""
        for fd in (task.fd, task.stat_fd):
            if fd >= 0:
                os.close(fd)
                self.open -= 1
        task.fd = task.stat_fd = -1


class Task:
    """One thread of a process. `still` is how many reads in a row found that it had not run.

    `ahead_ns` of waiting for a CPU was told before the kernel did. `at` is its last look, monotonic seconds.
    """

    __slots__ = ("ahead_ns", "at", "cpu", "fd", "gone", "id", "process", "queue", "raw", "stat_fd", "state", "still")

    def __init__(self, id_: int, process: Process) -> None:
        self.id, self.process = id_, process
        self.fd = self.stat_fd = -1
        self.raw, self.state = b"", "S"
        self.cpu = self.queue = self.ahead_ns = self.still = 0
        self.at = 0.0
        self.gone = False


class Process:
    """One process with its threads, of which it says to have `count`. Times in ticks.

    `parent` is 0 where nobody knows who it is by now.
    """

    __slots__ = ("children", "comm", "count", "cpu", "first", "group", "name", "parent", "pid", "threads")

    def __init__(self, pid: int) -> None:
        self.pid, self.parent = pid, 0
        self.comm, self.name = b"", "?"
        self.cpu = self.children = 0
        self.count = 1
        self.group: Group = None
        self.threads: dict[int, Task] = {}
        self.first = Task(pid, self)

    def told(self, stat: parsing.Stat) -> None:
        """What its stat says by now: a fork gets its own name only when it executes something."""
        if stat.name != self.comm:
            self.comm, self.name = stat.name, parsing.name(stat.name, stat.kernel)
        self.parent, self.cpu, self.children = stat.parent, stat.cpu, stat.children
        self.count = stat.threads

    @property
    def known_ns(self) -> int:
        """All that it and those of its children that are gone have used, as far as it was seen."""
        return max(self.cpu * TICK_NS, sum(task.cpu for task in self.threads.values())) + self.children * TICK_NS
