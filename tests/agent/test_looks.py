"""Looks at real processes: what burns, sleeps, hangs in the kernel, dies and comes back as another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitville_apm.agent.eyes import Eyes, Seen
from bitville_apm.agent.inflight import Open, Peer
from bitville_apm.cells import Looked
from bitville_apm.records import Begin

KEY = "source"
Start = Callable[..., subprocess.Popen[bytes]]


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def schedstat(pid: int) -> tuple[int, int]:
    cpu, queue, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(cpu), int(queue)


def begun(pid: int, n: int = 1, ss: tuple[int, int] | None = None) -> Open:
    """A request that process `pid` begins now."""
    id_ = f"00000000-0000-4000-8000-{n:012d}"
    begin = Begin(id=id_, at=time.time(), method="GET", uri="/", ss=ss)
    return Open(id=id_, begin=begin, body=b"", peer=Peer(pid, 0), since=boottime())


def spent_by(seen: Seen) -> dict[str, Looked]:
    return {request.id: spent for request, spent in seen.spent}


@pytest.fixture
def eyes() -> Iterator[Eyes]:
    made = Eyes(64, time.time, boottime)
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that are surely gone at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-S", "-c", code, *arguments], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield run
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


BURN = "print(flush=True)\nwhile True: pass"
SLEEP = "import time; print(flush=True); time.sleep(600)"
HANG = """
import os, sys
print(flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""
"""The parent of a vfork whose child waits to open a FIFO is in uninterruptible sleep, as with a slow disk."""


def test_what_a_process_does_is_told_apart(eyes: Eyes, start: Start, tmp_path: Path) -> None:
    """Wire 6: on a CPU, runnable, blocked, asleep, and together the time that really passed since the last look."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hanging = start(HANG, str(fifo))
    requests = [(KEY, begun(p.pid, n)) for n, p in enumerate((start(BURN), start(SLEEP), hanging))]
    time.sleep(0.2)
    assert spent_by(eyes.look(requests, {})) == {}, "without a schedstat in begin there is nothing to compare with yet"
    time.sleep(0.5)
    seen = eyes.look(requests, {})
    spent = spent_by(seen)
    os.close(os.open(fifo, os.O_WRONLY))
    burning, sleeping, blocked = (spent[request.id] for _, request in requests)
    assert burning.cpu_us > 0
    assert burning.cpu_us + burning.queue_us > 4 * (burning.waiting_s + burning.blocked_s) * 1e6
    assert sleeping.waiting_s > 0.45
    assert sleeping.blocked_s == 0
    assert blocked.blocked_s > 0.45
    assert blocked.waiting_s == 0
    for one in (burning, sleeping, blocked):
        whole = (one.cpu_us + one.queue_us) / 1e6 + one.waiting_s + one.blocked_s
        assert abs(whole - seen.elapsed) < 0.05 * seen.elapsed + 0.02
    assert [request.state for _, request in requests][1:] == ["S", "D"]
    assert requests[0][1].looks == 2


def test_cpu_is_counted_from_begin(eyes: Eyes, start: Start) -> None:
    """The first look counts from what begin told; looks together are what the kernel counted since then."""
    process = start(BURN)
    before = schedstat(process.pid)
    request = begun(process.pid, ss=before)
    total = 0
    for _ in range(4):
        time.sleep(0.1)
        total += spent_by(eyes.look([(KEY, request)], {}))[request.id].cpu_us
    after = schedstat(process.pid)
    assert 0 < total <= (after[0] - before[0]) / 1000 + 2
    assert total > 0.5 * (after[0] - before[0]) / 1000


def test_a_begin_that_cannot_be_true_is_not_believed(eyes: Eyes, start: Start) -> None:
    """A client cannot make its request look like the whole life of its process."""
    process = start("t=__import__('time'); e=t.process_time()+1.5\nwhile t.process_time()<e: pass\n" + BURN)
    assert spent_by(eyes.look([(KEY, begun(process.pid, ss=(0, 0)))], {})) == {}
    assert spent_by(eyes.look([(KEY, begun(process.pid, ss=(10**15, 0)))], {})) == {}


def test_a_request_from_before_these_eyes(start: Start) -> None:
    """After a re-execution the CPU until then is told apart: the process before has counted it."""
    process = start(BURN)
    request = begun(process.pid, ss=schedstat(process.pid))
    time.sleep(0.2)
    eyes = Eyes(64, time.time, boottime)
    seen = eyes.look([(KEY, request)], {})
    assert seen.spent == []
    ((found, before),) = seen.before
    assert found is request
    assert before.cpu_us > 0
    time.sleep(0.1)
    again = eyes.look([(KEY, request)], {})
    assert spent_by(again)[request.id].cpu_us > 0
    assert again.before == []
    eyes.close()


def test_a_process_that_ends(eyes: Eyes, start: Start) -> None:
    """Its request is over, also while it is a zombie; the others are looked at all the same."""
    process, other = start(SLEEP), start(SLEEP)
    requests = [(KEY, begun(process.pid, 1)), (KEY, begun(other.pid, 2))]
    eyes.look(requests, {})
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seen = eyes.look(requests, {})
    assert seen.over == [requests[0][1]]
    assert list(spent_by(seen)) == [requests[1][1].id]
    process.wait()
    assert eyes.look(requests, {}).over == [requests[0][1]]


def test_a_reused_pid_is_another_process(eyes: Eyes, start: Start) -> None:
    """A process that started after the request began cannot be in it."""
    request = begun(os.getpid())
    request.since = 1.0
    assert eyes.look([(KEY, request)], {}).over == [request]


def test_a_process_that_began_another_request(eyes: Eyes, start: Start) -> None:
    """A child of PHP's exec() may hold the old connection open: the newer request is the one that runs."""
    process = start(SLEEP)
    older, newer = begun(process.pid, 1), begun(process.pid, 2)
    for order in ([older, newer], [newer, older]):
        seen = eyes.look([(KEY, request) for request in order], {})
        assert seen.over == [older]


def test_a_process_nobody_can_see(eyes: Eyes) -> None:
    """Another pid namespace: the request is counted as in flight, what it does is unknown, and that is said."""
    assert eyes.look([(KEY, begun(0))], {}).unknown == 1


def test_php_outside_a_request(eyes: Eyes, start: Start) -> None:
    """A worker that runs on after its request is `~php`; one that was in a request meanwhile is not."""
    process = start(BURN)
    eyes.look([(KEY, begun(process.pid))], {})
    time.sleep(0.05)
    assert eyes.look([], {}).outside == {}, "until now some of it was in the request"
    time.sleep(0.05)
    outside = eyes.look([], {}).outside
    assert outside[KEY].cpu_us > 0
    assert outside[KEY].waiting_s == 0
    time.sleep(0.05)
    assert eyes.look([], {process.pid: KEY}).outside == {}, "a short request began and ended since"
    time.sleep(0.05)
    assert eyes.look([], {}).outside[KEY].cpu_us > 0


def test_without_descriptors_to_spare(start: Start) -> None:
    """Beyond its share of open files each look opens them anew, and sees the same."""
    eyes = Eyes(0, time.time, boottime)
    open_before = len(os.listdir("/proc/self/fd"))
    request = begun(start(BURN).pid)
    eyes.look([(KEY, request)], {})
    time.sleep(0.1)
    assert spent_by(eyes.look([(KEY, request)], {}))[request.id].cpu_us > 0
    assert len(os.listdir("/proc/self/fd")) <= open_before + 1
    eyes.close()


def test_files_are_closed(start: Start) -> None:
    """A process that is gone leaves no open file behind."""
    eyes = Eyes(64, time.time, boottime)
    process = start(SLEEP)
    open_before = len(os.listdir("/proc/self/fd"))
    eyes.look([(KEY, begun(process.pid))], {})
    assert len(os.listdir("/proc/self/fd")) == open_before + 2
    process.kill()
    process.wait()
    eyes.look([], {})
    assert len(os.listdir("/proc/self/fd")) == open_before
