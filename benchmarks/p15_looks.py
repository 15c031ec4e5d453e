"""P15: what looking at 500 requests in flight and at all tasks of a host of 1000 once a second costs, of one core.

Real processes, asleep as most are: 500 in a begun request, and as many others as make 1000 tasks with what this
machine runs. Each look is made as the agent makes it, first at the requests, then at the whole host; what was seen goes
through the rollup, and a frame is written every tenth look. Then the same with some of them at work, twenty times a
second each.
CPU time of this process, thread of looks and reactor's part together.
"""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import time
import uuid
from pathlib import Path

from bitville_apm.agent.eyes import Eyes
from bitville_apm.agent.host.host import Host
from bitville_apm.agent.host.telling import cells
from bitville_apm.agent.inflight import Open, Peer
from bitville_apm.agent.rollup import Rollup, Task
from bitville_apm.records import Begin

LOOKS, SETTLING = 20, 25
TASKS = 1000
_PARTS = ("requests", "host", "rollup", "frame")
WORK = "import time\nwhile True: time.sleep(.05)"


def boottime() -> float:
    """The clock in which requests begin."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def begun(pid: int, n: int) -> Open:
    """A request in flight in this process."""
    begin = Begin(
        id=str(uuid.uuid4()),
        at=time.time(),
        method="GET",
        uri=f"/page{n % 50}/{n}",
        client=f"203.0.{n % 100}.7",
        agent="browser",
        release="r1",
        ss=(0, 0),
    )
    return Open(id=begin.id, begin=begin, body=b"", peer=Peer(pid, 33), since=boottime())


class Measured:
    """CPU seconds of one look at the requests, at the host, their part of the rollup, and of one frame."""

    def __init__(self) -> None:
        self.requests = self.host = self.rollup = self.frame = 0.0
        self.tasks = self.ran = self.idle_every = 0

    @property
    def second(self) -> float:
        """All of one second."""
        return self.requests + self.host + self.rollup + self.frame / 10

    def shown(self) -> str:
        """In a line."""
        ms = (self.requests, self.host, self.rollup, self.frame / 10)
        parts = ", ".join(f"{what} {1e3 * s:.2f}" for what, s in zip(_PARTS, ms, strict=True))
        share = f"{self.second:.2%}".replace("%", " %")
        idle = f"idle ones looked at every {self.idle_every} s" if self.idle_every > 1 else "all looked at"
        return f"{self.tasks} tasks on this host, {self.ran} ran, {idle}: {parts} ms a second: {share} of a core"


def measure(requests: int, others: int, at_work: int = 0) -> Measured:
    """With so many requests in flight, so many other processes, and so many of those at work."""
    commands = [[sys.executable, "-S", "-c", WORK]] * at_work + [["sleep", "600"]] * (requests + others - at_work)
    processes = [subprocess.Popen(command) for command in commands]
    eyes, host, rollup, found = Eyes(requests + others, time.time, boottime), Host("/proc", 4096), Rollup(), Measured()
    clock = time.process_time
    try:
        open_ = [("php", begun(process.pid, n)) for n, process in enumerate(processes[others:])]
        for _ in range(SETTLING):  # the first looks open files, and then it finds its pace
            eyes.look(open_, {})
            host.look(eyes.known())
            time.sleep(1)
        for n in range(LOOKS):
            times = [clock()]
            seen = eyes.look(open_, {})
            times.append(clock())
            told = host.look(eyes.known())
            times.append(clock())
            at = 1_800_000_000.0 + n
            tasks = [Task(request, spent) for request, spent in seen.spent]
            rollup.look(at, n, 1.0, tasks, {"in_flight": float(len(open_))})
            if told is not None:
                rollup.cells(at, at, n, {"process": cells(told.processes)})
            times.append(clock())
            while (epoch := rollup.due(at, n)) is not None:
                rollup.parts(epoch, str)
                rollup.sealed(epoch, at)
            times.append(clock())
            found.requests += (times[1] - times[0]) / LOOKS
            found.host += (times[2] - times[1]) / LOOKS
            found.rollup += (times[3] - times[2]) / LOOKS
            found.frame += (times[4] - times[3]) / LOOKS * 10
            firsts = [process.first for process in host.tasks.census.processes.values()]
            found.ran += sum(task.at and not task.still for task in firsts)
            time.sleep(1)
        assert len(seen.spent) == requests
        found.idle_every = host.tasks.every * host.period
        found.tasks, found.ran = len(host.tasks.census.tasks), found.ran // LOOKS
        return found
    finally:
        eyes.close()
        host.close()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def yardstick() -> float:
    """What most of a look is made of: on a machine that others keep busy it takes up to three times as long."""
    with open("/proc/self/schedstat", "rb", buffering=0) as file:
        started = time.thread_time()
        for _ in range(5000):
            os.pread(file.fileno(), 512, 0)
        return (time.thread_time() - started) / 5000 * 1e6


def main() -> None:
    """Measure and print."""
    gc.freeze()
    gc.disable()  # as the agent does, which collects between its turns
    load = os.getloadavg()[0]
    print(
        f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, load {load:.1f}; "
        f"{LOOKS} looks each"
    )
    there = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    print(f"{there} tasks are here already; one read of an open schedstat takes {yardstick():.2f} us right now")
    rest = max(100, TASKS - 500 - there)
    for requests, others, at_work in ((0, 0, 0), (500, rest, 0), (500, rest, 100)):
        found = measure(requests, others, at_work)
        print(f"{requests} in flight, {others} others, {at_work} of them at work: {found.shown()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
