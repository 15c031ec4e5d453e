"""The host as it is, judged by the kernel's own accounting: names and seconds of what burns, blocks and forks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bitville_apm import limits
from bitville_apm.agent.host.host import OF_PARENT, SHORT
from tests.agent.host.rig import BURN, SLEEP, named, near, schedstat, used, wait_asleep, watching
from tests.faults.tools import disks


def test_burners_of_one_name(tmp_path: Path) -> None:
    """Wire 6: several processes of one name are one, with their seconds on a CPU and waiting for one, within 10 %."""
    with watching() as watch, contextlib.ExitStack() as stack:
        burners = [stack.enter_context(named("bv-burner", BURN, tmp_path)) for _ in range(3)]
        wait_asleep(stack.enter_context(named("bv-idle", SLEEP, tmp_path)).pid)
        watch.look()
        before = [schedstat(process.pid) for process in burners]
        watch.named.clear()
        watch.for_(2.5)
        after = [schedstat(process.pid) for process in burners]
        told = watch.named["bv-burner"]
        cpu = sum(b[0] - a[0] for a, b in zip(before, after, strict=True))
        queue = sum(b[1] - a[1] for a, b in zip(before, after, strict=True))
        assert cpu > 0.05
        assert near(told.cpu_ns / 1e9, cpu)
        assert near((told.cpu_ns + told.queue_ns) / 1e9, cpu + queue)
        assert told.blocked_s < 0.1
        assert "bv-idle" not in watch.named, "what sleeps is no load"
        assert sum(s.running * s.elapsed for s in watch.seen) >= 0.9 * (cpu + queue)


def test_a_process_counts_from_its_first_moment(tmp_path: Path) -> None:
    """What began between two looks has all it used since; a fork has its own name once it executes something."""
    with watching() as watch, named("bv-young", BURN, tmp_path) as process:
        time.sleep(0.4)
        watch.look()
        assert near(watch.cpu_s("bv-young"), schedstat(process.pid)[0])
        watch.for_(0.8, 0.4)
        assert near(watch.cpu_s("bv-young"), schedstat(process.pid)[0])


def test_threads_are_tasks(tmp_path: Path) -> None:
    """Wire 6: threads are counted one by one, also those that came later and have ended; getrusage says the same."""
    code = """
import threading, time, hashlib
def burn(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until: hashlib.sha256(bytes(200_000)).digest()
print(flush=True)
time.sleep(.3)
threads = [threading.Thread(target=burn, args=(s,)) for s in (0.7, 1.5, 1.5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
time.sleep(600)
"""
    with watching() as watch, named("bv-threads", code, tmp_path) as process:
        watch.for_(3.0, 0.25)
        told = watch.cpu_s("bv-threads")
        true = used(process)
    assert true > 0.1
    assert near(told, true, 0.15), "the end of a thread, between two looks, is nobody's"


def test_php_is_no_process(tmp_path: Path) -> None:
    """Wire 6: what is known to be PHP has its key and never a name; its threads beside the first are told apart."""
    with (
        watching() as watch,
        named("bv-fpm8.2", BURN, tmp_path) as process,
        named("bv-cli8.2", BURN, tmp_path) as other,
    ):
        watch.look({process.pid: "key"})
        watch.named.clear()
        watch.php.clear()
        before = schedstat(process.pid)[0], schedstat(other.pid)[0]
        for _ in range(3):
            time.sleep(0.3)
            watch.look({process.pid: "key"})
        assert near(watch.php["key"].cpu_ns / 1e9, schedstat(process.pid)[0] - before[0])
        assert "bv-fpm" not in watch.named
        assert near(watch.cpu_s("bv-cli"), schedstat(other.pid)[0] - before[1]), "php without the client has its name"


def test_a_fork_storm_is_its_parents(tmp_path: Path) -> None:
    """Wire 6: commands too short to be seen are told under the name of who waits for them, with the seconds that
    getrusage counts for the whole storm, within 10 %.
    """
    shell = tmp_path / "bv-storm"
    shutil.copy("/bin/sh", shell)
    with watching() as watch:
        storm = subprocess.Popen([str(shell), "-c", "while :; do /bin/true; done"])
        try:
            watch.for_(2.5)
        finally:
            storm.kill()
            _, storm.returncode, usage = os.wait4(storm.pid, 0)
        watch.look()
        told = sum(watch.cpu_s(name) for name in ("bv-storm", "bv-storm" + OF_PARENT, "true"))
        true = usage.ru_utime + usage.ru_stime
    assert true > 0.1
    assert near(told, true)
    assert watch.cpu_s("bv-storm" + OF_PARENT) > 0.5 * true


def test_a_long_child_is_told_once(tmp_path: Path) -> None:
    """A child that was seen for seconds is not its parent's again when that waits for it."""
    shell = tmp_path / "bv-parent"
    shutil.copy("/bin/sh", shell)
    child = tmp_path / "bv-child"
    child.symlink_to(sys.executable)
    work = "import time; u = time.process_time() + .6\\nwhile time.process_time() < u: pass"
    with watching() as watch:
        waiting = subprocess.Popen([str(shell), "-c", f"{child} -S -c \"$(printf '{work}')\"; sleep 600"])
        try:
            watch.for_(4.0, 0.25)
            known = watch.cpu_s("bv-child")
            assert 0.4 < known < 0.75
            assert watch.cpu_s("bv-parent" + OF_PARENT) < 0.25
            assert known + watch.cpu_s("bv-parent" + OF_PARENT) < 0.8
        finally:
            subprocess.run(["pkill", "-P", str(waiting.pid)], check=False)
            waiting.kill()
            waiting.wait()


def test_a_writer_on_a_frozen_disk(tmp_path: Path) -> None:
    """Wire 6: a task in uninterruptible sleep is blocked for all of that time, by name, with where it waits; its CPU
    is nothing. The kernel has no accounting of it but the clock: it cannot have done anything else.
    """
    code = (
        "import os, sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nsys.stdin.readline()\n"
        "while True: open('x', 'w').write('x' * 100)"
    )
    with disks.ext4(tmp_path / "disk", 32) as mounted, named("bv-writer", code, tmp_path, str(mounted)) as writer:
        with disks.frozen(mounted), watching() as watch:
            assert writer.stdin is not None
            writer.stdin.write(b"\n")
            writer.stdin.flush()
            time.sleep(0.3)
            watch.look()
            watch.named.clear()
            watch.seen.clear()
            began = time.monotonic()
            watch.for_(2.0, 0.4)
            blocked = time.monotonic() - began
        told = watch.named["bv-writer"]
        assert near(told.blocked_s, blocked)
        assert told.cpu_ns == told.queue_ns == 0
        assert sum(s.blocked * s.elapsed for s in watch.seen) >= 0.9 * blocked
        places = {place for seen in watch.seen for place in seen.stuck if place[0] == "bv-writer"}
        ((_, channel, _),) = places
        assert channel, "root sees where a task waits"


def test_what_is_named_is_what_ran(tmp_path: Path) -> None:
    """Wire 6, coverage: named parts and what is said to be short-lived are together what the machine ran."""
    with watching() as watch, named("bv-burner", BURN, tmp_path):
        watch.for_(2.0)
    for seen in watch.seen:
        parts = sum(spent.task_s for spent in seen.processes.values())
        assert abs(parts - (seen.running + seen.blocked) * seen.elapsed) < 0.001
    unnamed = watch.named[SHORT].task_s
    whole = sum(spent.task_s for spent in watch.named.values())
    assert unnamed < 0.25 * whole


def test_idle_tasks_are_looked_at_less_often_under_load(tmp_path: Path) -> None:
    """Looks that take too much of a core come less often, first at what is idle; nothing that ran is lost by it."""
    with watching() as watch, named("bv-late", "import sys\nprint(flush=True)\nsys.stdin.read()\n" + BURN, tmp_path):
        host = watch.host
        host.tasks.every = 1
        for _ in range(limits.HOST_STILL + 2):
            host.look({})
        host.cost_s = 1.0
        for _ in range(100):
            host._paced(1.0)
        assert (host.tasks.every, host.period) == (limits.HOST_EVERY_MOST, limits.HOST_PERIOD_MOST)
        assert sum(host.look({}) is not None for _ in range(10)) == 10 / limits.HOST_PERIOD_MOST
        for _ in range(1000):
            host._paced(0.0)
        assert (host.tasks.every, host.period) == (1, 1)
