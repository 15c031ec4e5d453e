"""P15: what looking at 500 requests in flight once a second costs, of one core.

Real processes, asleep as most in flight are, each in a begun request and looked at from /proc; what was seen
goes through the rollup, and a frame is written every tenth look, as in the agent. The rest is as many workers outside
a request. CPU time of this process, thread of looks and reactor's part together.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import uuid

from bitville_apm.agent.eyes import Eyes
from bitville_apm.agent.inflight import Open, Peer
from bitville_apm.agent.rollup import Rollup, Task
from bitville_apm.records import Begin

REQUESTS = 500
IDLE = 500
LOOKS = 60


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


def measure(requests: int, idle: int, looks: int = LOOKS) -> tuple[float, float]:
    """CPU seconds of one look with its part of the rollup, and of one frame."""
    processes = [subprocess.Popen(["sleep", "600"]) for _ in range(requests + idle)]
    eyes, rollup = Eyes(requests + idle, time.time, boottime), Rollup()
    try:
        open_ = [("php", begun(process.pid, n)) for n, process in enumerate(processes[:requests])]
        eyes.look(open_, {process.pid: "php" for process in processes[requests:]})
        looking = writing = 0.0
        for n in range(looks):
            started = time.process_time()
            seen = eyes.look(open_, {})
            tasks = [Task(request, spent) for request, spent in seen.spent]
            at = 1_800_000_000.0 + n
            rollup.look(at, n, 1.0, tasks, {"in_flight": float(len(open_)), "tasks": 1.0})
            looking += time.process_time() - started
            started = time.process_time()
            while (epoch := rollup.due(at, n)) is not None:
                rollup.parts(epoch, str)
                rollup.sealed(epoch, at)
            writing += time.process_time() - started
        assert len(seen.spent) == requests
        return looking / looks, writing / looks * 10
    finally:
        eyes.close()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, {LOOKS} looks")
    for requests, idle in ((0, 0), (40, 0), (500, 0), (REQUESTS, IDLE)):
        look, frame = measure(requests, idle)
        print(
            f"{requests} in flight, {idle} workers outside a request: {look * 1e3:.2f} ms a look, "
            f"{frame * 1e3:.2f} ms a frame: {look + frame / 10:.2%} of a core".replace("%", " %")
        )


if __name__ == "__main__":
    sys.exit(main())
