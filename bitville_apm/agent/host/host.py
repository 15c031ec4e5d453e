"""One look at the whole host: its tasks by name, what cannot be named, and its numbers. Blocks.

What the kernel says all tasks ran, less what was seen of each, is time of processes that began and ended between two
looks. As far as a parent waited for them they are told as its own, `make (short-lived)`; the rest is `~short-lived`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.agent.host import parsing
from bitville_apm.agent.host.machine import Machine, Numbers, Sight, numbers
from bitville_apm.agent.host.scan import Scan, Spent, Stuck
from bitville_apm.agent.host.task import Files, Group, Task
from bitville_apm.agent.host.tasks import Tasks

SHORT = "~short-lived"
OF_PARENT = " (short-lived)"
_NS = 1_000_000_000
Place = tuple[str, str | None, str | None]
"""Name, wait channel and cgroup of blocked tasks."""


@attrs.frozen
class HostSeen:
    """One look, `elapsed` seconds after the one before.

    `processes` by name, `php` by the key of who knows them, and `helpers`, their threads beside the first; `stuck`
    where tasks were blocked, for how long. `running` and `blocked` are how many tasks there were of each, all together.
    """

    elapsed: float
    processes: Mapping[str, Spent]
    php: Mapping[Group, Spent]
    helpers: Mapping[Group, Spent]
    running: float
    blocked: float
    stuck: Mapping[Place, float]
    numbers: Numbers


@attrs.define(eq=False)
class Host:
    """The machine, or the container, of one /proc. What is public is read by others, and only ever replaced.

    `scope` is `host`, or `container` where this /proc is a container's own: then the container is the host, and its
    cores are those it may use. `cost_s` is what a look took of a core lately, `period` how many seconds are between
    two; `unseen` says what cannot be told here.
    """

    proc: str
    most_open: int
    scope: str = "host"
    cores: float = 0.0
    cost_s: float = 0.0
    period: int = 1
    hidden: int = 0
    unseen: Sequence[str] = ()
    tasks: Tasks = attrs.field(init=False)
    _machine: Machine = attrs.field(init=False)
    _turn: int = -1
    _last: Sight | None = None
    _ahead_ns: int = 0
    _ahead_queue_ns: int = 0
    _cgroups: dict[int, str | None] = attrs.Factory(dict)
    _channels: bool = True
    _ours: bool = True
    _settled: int = 0

    def __attrs_post_init__(self) -> None:
        self.tasks = Tasks(Files(self.proc, self.most_open))
        self._machine = Machine(self.proc)

    def look(self, php: Mapping[int, Group]) -> HostSeen | None:
        """Look. `php` are processes that are known to be PHP's.

        None the first time, after a long gap, and when looks have become too dear for each second to have one.
        """
        self._turn += 1
        if self._turn % self.period:
            return None
        started = time.thread_time()
        before, now = self._last, self._machine.sight()
        self._last = now
        if before is None:
            self._begin(now)
        last_pid = now.load[2] if now.load is not None and self._ours else None
        scan = self.tasks.look(now.total.forks, last_pid, php if self._ours else {})
        stuck = self._places(scan.stuck)
        seen = None
        if before is not None and 0 < scan.elapsed <= limits.WINDOW_S:
            seen = self._told(scan, before, now, stuck)
        self._known(now)
        if before is not None:  # the first look opens everything, once
            self._paced(time.thread_time() - started)
        return seen

    def close(self) -> None:
        """Let go of all files."""
        self.tasks.census.close()
        self._machine.close()

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`; `look_ms` of a core is what a look at the host takes."""
        return {
            "scope": self.scope,
            "cores": self.cores,
            "processes": len(self.tasks.census.processes),
            "tasks": len(self.tasks.census.tasks),
            "hidden": self.hidden,
            "look_ms": round(self.cost_s * 1000, 2),
            "every_s": self.period,
            "idle_every_s": self.tasks.every * self.period,
            "unseen": list(self.unseen),
        }

    # --- adding up ------------------------------------------------------------------------------------------

    def _told(self, scan: Scan, before: Sight, now: Sight, stuck: Mapping[Place, float]) -> HostSeen:
        for name, ns in scan.children_ns.items():
            scan.groups[name + OF_PARENT] = Spent(ns)
        sums = (*scan.groups.values(), *scan.php.values(), *scan.helpers.values())
        if self.scope == "host":
            self._rest(scan, sums, before, now)
            sums = (*scan.groups.values(), *scan.php.values(), *scan.helpers.values())
        return HostSeen(
            elapsed=scan.elapsed,
            processes={name: spent for name, spent in scan.groups.items() if spent.task_s > 0},
            php=scan.php,
            helpers=scan.helpers,
            running=sum(s.cpu_ns + s.queue_ns for s in sums) / _NS / scan.elapsed,
            blocked=sum(s.blocked_s for s in sums) / scan.elapsed,
            stuck=stuck,
            numbers=numbers(before, now, scan.elapsed, self.cores),
        )

    def _rest(self, scan: Scan, sums: Sequence[Spent], before: Sight, now: Sight) -> None:
        """What the kernel counted beyond all that was seen. Its clocks differ a little: what is too much is owed."""
        most = int(max(1.0, self.cores) * _NS)
        ran = now.cpu_ns - before.cpu_ns - sum(s.cpu_ns for s in sums) + self._ahead_ns
        self._ahead_ns = max(-most, min(0, ran))
        waited = 0
        if before.schedstat is not None and now.schedstat is not None:
            waited = now.schedstat[1] - before.schedstat[1] - sum(s.queue_ns for s in sums) + self._ahead_queue_ns
            self._ahead_queue_ns = max(-most, min(0, waited))
        rest = Spent(max(0, ran), max(0, waited))
        short = [scan.groups[name + OF_PARENT] for name in scan.children_ns]
        whole = rest.cpu_ns + sum(s.cpu_ns for s in short)
        for spent in short:
            spent.queue_ns = max(0, waited) * spent.cpu_ns // whole
            rest.queue_ns -= spent.queue_ns
        if rest.cpu_ns or rest.queue_ns:
            scan.groups[SHORT] = rest

    def _places(self, stuck: Sequence[Stuck]) -> dict[Place, float]:
        """Where in the kernel blocked tasks wait, of a few of them; and in which cgroup."""
        found: dict[Place, float] = {}
        for n, one in enumerate(stuck):
            task = one.task
            asked = n < limits.HOST_STUCK_PLACES
            place = task.process.name, self._channel(task) if asked else None, self._cgroup(task) if asked else None
            found[place] = found.get(place, 0.0) + one.seconds
        if not stuck:
            self._cgroups.clear()
        return found

    def _channel(self, task: Task) -> str | None:
        """The kernel's function that a task waits in; `0` is what those are told who may not know."""
        try:
            with open(self.tasks.files.path(task, "wchan"), "rb", buffering=0) as file:
                name = file.read(128).decode("ascii", "replace").strip()
        except OSError:
            return None
        # It may have run since it was looked at: then this is where it waits now, for something else.
        return name if name not in ("", "0") and self.tasks.still_there(task) else None

    def _cgroup(self, task: Task) -> str | None:
        pid = task.process.pid
        if pid not in self._cgroups:
            try:
                with open(f"{self.proc}/{pid}/cgroup", "rb", buffering=0) as file:
                    self._cgroups[pid] = parsing.cgroup(file.read(8192))
            except OSError:
                self._cgroups[pid] = None
        found = self._cgroups[pid]
        return found[-limits.CGROUP_CHARACTERS :] if found else None

    # --- what there is --------------------------------------------------------------------------------------

    def _begin(self, now: Sight) -> None:
        """Is this a whole machine, and how many CPUs has it?"""
        self.scope = "host" if self._line("2/comm") == b"kthreadd" or self._line("1/comm") is None else "container"
        self.cores = float(now.total.cpus or os.cpu_count() or 1)
        if self.scope == "container":
            self.cores = min(self.cores, self._allowed())
        # With another's /proc, the numbers of processes that we know are not those it shows.
        try:
            self._ours = os.readlink(f"{self.proc}/self") == str(os.getpid())
        except OSError:
            self._ours = self.proc == "/proc"
        # These are always asleep, so that somewhere they are.
        self._channels = any(self._line(f"{pid}/wchan") not in (None, b"", b"0") for pid in (1, 2))

    def _line(self, name: str) -> bytes | None:
        try:
            with open(f"{self.proc}/{name}", "rb", buffering=0) as file:
                return file.read(128).strip()
        except OSError:
            return None

    def _allowed(self) -> float:
        """CPUs that a container may use: by its affinity, and by its cgroup's quota."""
        found = float(len(os.sched_getaffinity(0)))
        for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
            try:
                with open(path, "rb", buffering=0) as file:
                    data = file.read(64).strip()
                if path.endswith("_us"):
                    with open(path.replace("quota", "period"), "rb", buffering=0) as file:
                        data = data.replace(b"-1", b"max") + b" " + file.read(64).strip()
                found = min(found, parsing.quota(data) or found)
            except (OSError, ValueError):
                continue
        return found

    def _known(self, now: Sight) -> None:
        """What cannot be seen here, in words."""
        said = []
        if self.scope == "container":
            said.append("this is a container: its own processes only, and its cores")
        elif now.load is not None:
            self.hidden = max(0, now.load[1] - len(self.tasks.census.tasks))
            if self.hidden > max(limits.HOST_HIDDEN_LEAST, limits.HOST_HIDDEN_SHARE * now.load[1]):
                said.append("other users' processes are hidden (hidepid): what they use has no name")
        if not self.tasks.exact:
            said.append("no schedstat: time waiting for a CPU is as looked at, threads count with their process")
        if not self._ours:
            said.append("/proc is another namespace's: PHP in requests is told as processes, too")
        if not self._channels:
            said.append("no wait channels: they need CAP_SYS_PTRACE")
        missing = [name for name in self._machine.missing if name != "schedstat"]
        if any(name.startswith("pressure/") for name in missing):
            said.append("no pressure (PSI)")
        said += [f"no {name}" for name in missing if not name.startswith("pressure/")]
        if self.tasks.census.over:
            said.append(f"more than {limits.HOST_TASKS} tasks: the newest have no name")
        self.unseen = tuple(said)

    def _paced(self, took: float) -> None:
        """Rather than take more of a core, look less often: at what has not run for long, then at all."""
        self.cost_s = took if not self.cost_s else 0.8 * self.cost_s + 0.2 * took
        self._settled -= 1
        if self._settled > 0:
            return
        share, tasks = self.cost_s / self.period, self.tasks
        if share > limits.HOST_BUDGET_S and tasks.every < limits.HOST_EVERY_MOST:
            tasks.every *= 2
        elif share > limits.HOST_MOST_S and self.period < limits.HOST_PERIOD_MOST:
            self.period += 1
        elif self.period > 1 and self.cost_s / (self.period - 1) < limits.HOST_MOST_S:
            self.period -= 1
        elif self.period == 1 and share < limits.HOST_BUDGET_S / 2 and tasks.every > 1:
            tasks.every //= 2
        else:
            return
        self._settled = limits.HOST_SETTLED_LOOKS
