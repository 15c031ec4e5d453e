"""Hosts that tell little: containers, hidden processes, no rights, no descriptors, gaps, what goes meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.agent.host.host import SHORT, Host
from tests.agent.host.rig import BURN, SLEEP, named, near, schedstat, watching


def files_below(directory: Path, files: dict[str, bytes]) -> str:
    """A /proc of files."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return str(directory)


CONTAINER = {
    "stat": b"cpu  100 0 100 900 0 0 0 0 0 0\ncpu0 50 0 50 450 0\ncpu1 50 0 50 450 0\nprocesses 7\nprocs_running 1\n",
    "1/stat": b"1 (java) S 0 1 1 0 -1 4194560 9 9 0 0 1000 0 0 0 20 0 1 0 9 1 1 1\n",
    "1/comm": b"java\n",
}


def test_a_container_without_half_of_it(tmp_path: Path) -> None:
    """PG-04: in a container without schedstat, pressure, load average and disks it looks all the same, at the ticks of
    its own processes, and says in words what it cannot see.
    """
    proc = files_below(tmp_path, CONTAINER)
    with watching(proc) as watch:
        files_below(tmp_path, {"1/stat": CONTAINER["1/stat"].replace(b" 1000 0 0 0 ", b" 1050 0 0 0 ")})
        time.sleep(0.1)
        seen = watch.look()
        assert seen is not None
        assert seen.processes["java"].cpu_ns == 50 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        assert set(seen.processes) == {"java"}
        assert watch.host.scope == "container"
        assert watch.host.cores <= 2
        assert "psi" not in seen.numbers.mean
        assert "disk" not in seen.numbers.add
        said = " | ".join(watch.host.unseen)
        for what in ("container", "schedstat", "wait channels", "PSI", "loadavg", "diskstats"):
            assert what in said, what
        health = watch.host.health()
        assert (health["scope"], health["tasks"]) == ("container", 1)


def test_processes_that_are_hidden(tmp_path: Path) -> None:
    """hidepid: what other users' processes use is a part of the whole without a name, and that is said."""
    mine = CONTAINER["1/stat"].replace(b"1 (java)", b"77 (me)", 1)
    whole = {"stat": CONTAINER["stat"], "77/stat": mine, "loadavg": b"9.00 1.00 1.00 1/300 77\n"}
    proc = files_below(tmp_path, whole)
    with watching(proc) as watch:
        files_below(tmp_path, {"stat": CONTAINER["stat"].replace(b"cpu  100", b"cpu  180")})
        time.sleep(0.9)
        seen = watch.look()
        assert seen is not None
        assert watch.host.scope == "host"
        assert watch.host.hidden == 299
        assert seen.processes[SHORT].cpu_ns == 80 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        assert any("hidepid" in what for what in watch.host.unseen)


def test_an_unprivileged_agent(tmp_path: Path) -> None:
    """PG-04: another user than root sees the same names and seconds, and is told once that wait channels are hidden."""
    if os.getuid() != 0:
        pytest.skip("not run: needs root to become somebody else")
    code = (
        "import os, time\nfrom bitville_apm.agent.host.host import Host\nos.setgid(65534); os.setuid(65534)\n"
        "h = Host('/proc', 4096); h.look({}); time.sleep(.8); s = h.look({})\n"
        "print(s.processes['bv-burner'].cpu_ns > 0, h.hidden < 100, *h.unseen, sep='|')"
    )
    with named("bv-burner", BURN, tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("True|True|no wait channels"), done.stdout + done.stderr[-500:]


def test_without_descriptors_to_spare(tmp_path: Path) -> None:
    """Beyond its share of open files each look opens them anew, and sees the same; all are closed in the end."""
    before = len(os.listdir("/proc/self/fd"))
    with watching(most_open=5) as watch, named("bv-burner", BURN, tmp_path) as process:
        watch.look()
        told = watch.cpu_s("bv-burner")
        began = schedstat(process.pid)[0]
        watch.for_(0.8, 0.4)
        assert near(watch.cpu_s("bv-burner") - told, schedstat(process.pid)[0] - began)
        assert watch.host.tasks.files.open <= 5
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_of_what_is_gone_are_closed(tmp_path: Path) -> None:
    """A host that makes a thousand processes an hour does not run out of descriptors."""
    with watching() as watch:
        for _ in range(2):
            with named("bv-gone", SLEEP, tmp_path) as process:
                watch.look()
                assert process.pid in watch.host.tasks.census.processes
            watch.look()
            assert process.pid not in watch.host.tasks.census.processes
        tasks = [task for p in watch.host.tasks.census.processes.values() for task in p.threads.values()]
        assert watch.host.tasks.files.open == sum((task.fd >= 0) + (task.stat_fd >= 0) for task in tasks)
        assert len(watch.host.tasks.census.tasks) == len(tasks)


def test_a_gap_is_no_load(tmp_path: Path) -> None:
    """After a suspended machine, or a look that hung, what happened meanwhile is not told as of one second."""
    with watching() as watch, named("bv-burner", BURN, tmp_path):
        watch.look()
        tasks = watch.host.tasks
        assert tasks._last is not None
        tasks._last -= 2 * limits.WINDOW_S
        assert watch.host.look({}) is None
        assert watch.host.look({}) is not None


def test_a_look_survives_what_comes_and_goes(tmp_path: Path) -> None:
    """Threads and processes that end in the midst of a look do it no harm."""
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            subprocess.run(["/bin/true"], check=False)

    threads = [threading.Thread(target=storm) for _ in range(2)]
    for thread in threads:
        thread.start()
    host = Host("/proc", 64)
    try:
        for _ in range(20):
            host.period = host.tasks.every = 1
            host.look({})
    finally:
        over.set()
        for thread in threads:
            thread.join()
        host.close()
    assert host.tasks.files.open == 0


def test_another_namespaces_proc(tmp_path: Path) -> None:
    """With a /proc that counts processes otherwise, a number that is PHP's here is somebody else's there."""
    whole = {**CONTAINER, "2/comm": b"kthreadd\n", "2/stat": CONTAINER["1/stat"].replace(b"1 (java)", b"2 (kthreadd)")}
    proc = files_below(tmp_path, whole)
    (tmp_path / "self").symlink_to("999999999")
    with watching(proc) as watch:
        files_below(tmp_path, {"1/stat": CONTAINER["1/stat"].replace(b" 1000 0 0 0 ", b" 1050 0 0 0 ")})
        time.sleep(0.1)
        watch.look({1: "key"})
        assert watch.host.scope == "host"
        assert watch.named["java"].cpu_ns > 0
        assert watch.php == {}
        assert any("another namespace" in what for what in watch.host.unseen)
