"""One sight of the processes behind requests, from /proc (wire.md 6). Blocks: for a thread of its own.

The kernel tells how long a process was on a CPU and how long it was runnable without one (`schedstat`). What is left
of the time since the last look it was asleep, or blocked in uninterruptible sleep: its state now decides which.

The files of a process stay open. That is a quarter of the cost, and a descriptor is of one process for ever: a
reused pid cannot be taken for it. PHP serves a request on a process's first thread, which is what these files
tell of; a profiler's helper thread is not in them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping

import attrs

from bitville_apm.agent.inflight import Open
from bitville_apm.agent.processes import TICKS
from bitville_apm.cells import Looked

_NS = 1_000_000_000


class Gone(Exception):
    """The process is not there any more."""


class Sight:
    """What was read of a process: its state, nanoseconds on a CPU and runnable, and when it was (monotonic)."""

    __slots__ = ("at", "cpu", "queue", "state")

    def __init__(self, at: float, state: str, cpu: int, queue: int | None) -> None:
        self.at, self.state, self.cpu, self.queue = at, state, cpu, queue


class Process:
    """One process: its two files while they may stay open, when it started (boot time), and the last sight."""

    __slots__ = ("_raw", "_schedstat", "_stat", "pid", "request", "seen", "started")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.request: Open | None = None
        self.seen: Sight | None = None
        self._stat = self._schedstat = -1
        self._raw = b""
        self.started = int(self._fields()[19]) / TICKS

    def open(self) -> None:
        """Keep its files open; without descriptors to spare they are opened each time."""
        try:
            self._stat = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            self._schedstat = os.open(f"/proc/{self.pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of them."""
        for descriptor in (self._stat, self._schedstat):
            if descriptor >= 0:
                os.close(descriptor)
        self._stat = self._schedstat = -1

    def sight(self) -> Sight:
        """Look. Raises `Gone`.

        While its schedstat stays the same it has not run, and so cannot have changed its state.
        """
        raw = b""
        if self._schedstat >= 0:
            try:
                raw = os.pread(self._schedstat, 96, 0)
            except OSError:
                raise Gone from None
            last = self.seen
            if raw == self._raw and last is not None and last.state and last.state != "R":
                return Sight(time.monotonic(), last.state, last.cpu, last.queue)
        fields = self._fields()
        state = fields[0].decode("ascii", "replace")
        if state in "ZX" or int(fields[19]) / TICKS != self.started:
            raise Gone
        at = time.monotonic()
        try:
            cpu, queue, _ = (raw or self._read(-1, "schedstat", 96)).split()
        except (OSError, ValueError):
            return Sight(at, state, (int(fields[11]) + int(fields[12])) * _NS // TICKS, None)
        self._raw = raw
        return Sight(at, state, int(cpu), int(queue))

    def ran(self) -> Sight:
        """Only how long it ran: a quarter of a look. Raises `Gone`, also where that is not to be had."""
        if self._schedstat < 0:
            raise Gone
        try:
            cpu, queue, _ = os.pread(self._schedstat, 96, 0).split()
        except OSError:
            raise Gone from None
        return Sight(time.monotonic(), "", int(cpu), int(queue))

    def _fields(self) -> list[bytes]:
        """`/proc/PID/stat` from the state on."""
        try:
            return self._read(self._stat, "stat", 1024).rpartition(b")")[2].split()
        except OSError:
            raise Gone from None

    def _read(self, descriptor: int, name: str, most: int) -> bytes:
        if descriptor >= 0:
            return os.pread(descriptor, most, 0)
        with open(f"/proc/{self.pid}/{name}", "rb") as file:
            return file.read(most)


@attrs.define
class Seen:
    """One look. `now` is unix seconds, `elapsed` since the look before; `spent` what each request took meanwhile.

    `before` is what a request had taken before these eyes opened: an agent that replaced itself counted it.
    `outside` is by key of the caller's; `over` are requests whose process is gone or in another; `unknown` are
    those whose process nobody can see.
    """

    now: float
    elapsed: float
    spent: list[tuple[Open, Looked]] = attrs.Factory(list)
    before: list[tuple[Open, Looked]] = attrs.Factory(list)
    outside: dict[object, Looked] = attrs.Factory(dict)
    over: list[Open] = attrs.Factory(list)
    unknown: int = 0


@attrs.define(eq=False)
class Eyes:
    """All processes that were in a request once. `most_open` of them keep their files open.

    `now` is unix seconds, `boottime` seconds on the clock in which requests begin and processes start.
    """

    most_open: int
    now: Callable[[], float]
    boottime: Callable[[], float]
    _processes: dict[int, tuple[Process, object]] = attrs.Factory(dict)
    _opened: float = attrs.field(init=False)
    _last: float | None = None

    def __attrs_post_init__(self) -> None:
        self._opened = self.boottime()

    def look(self, requests: Iterable[tuple[object, Open]], begun: Mapping[int, object]) -> Seen:
        """Look at the processes of all open requests, each under a key of the caller's, and at those outside one.

        `begun` are the processes that began a request since the last look, with their key.
        """
        at, now, boottime = time.monotonic(), self.now(), self.boottime()
        elapsed = at - self._last if self._last is not None else 0.0
        self._last = at
        seen = Seen(now, elapsed)
        latest: dict[int, tuple[object, Open]] = {}
        for key, request in requests:
            pid = request.peer.pid
            if pid <= 0:
                seen.unknown += 1
                continue
            other = latest.get(pid)
            if other is not None:
                older = min(other[1], request, key=lambda r: r.since)
                seen.over.append(older)
                if older is request:
                    continue
            latest[pid] = (key, request)
        for pid, (key, request) in latest.items():
            try:
                self._look_at(pid, key, request, boottime, seen)
            except Gone:
                self._forget(pid)
                seen.over.append(request)
        self._outside(latest, begun, seen)
        return seen

    def known(self) -> dict[int, object]:
        """The processes that are PHP's, each with the key of its caller."""
        return {pid: key for pid, (_, key) in self._processes.items()}

    def close(self) -> None:
        """Let go of all files."""
        for pid in list(self._processes):
            self._forget(pid)

    def _look_at(self, pid: int, key: object, request: Open, boottime: float, seen: Seen) -> None:
        process = self._known(pid, key)
        if process.started > request.since:
            raise Gone
        sight, last = process.sight(), process.seen
        request.state = sight.state
        request.looks += 1
        if process.request is not request:
            process.request = request
            last = self._baseline(request, sight, boottime, seen)
        process.seen = sight
        if last is not None:
            seen.spent.append((request, _between(last, sight)))

    def _baseline(self, request: Open, sight: Sight, boottime: float, seen: Seen) -> Sight | None:
        """Where a request's process stood when it began, as far as that is known and can be."""
        if request.begin.ss is None or sight.queue is None:
            return None
        cpu, queue = request.begin.ss
        age = max(0.0, boottime - request.since)
        taken = sight.cpu - cpu + sight.queue - queue
        if cpu > sight.cpu or queue > sight.queue or taken > (age + 1.0) * _NS:
            return None
        began = Sight(sight.at - age, sight.state, cpu, queue)
        if request.since >= self._opened:
            return began
        seen.before.append((request, _between(began, sight)))
        return None

    def _outside(self, latest: Mapping[int, object], begun: Mapping[int, object], seen: Seen) -> None:
        """What processes of PHP do in no request: only those that have been in none since the last look."""
        for pid, key in begun.items():
            if pid > 0 and pid not in latest:
                try:
                    self._known(pid, key).request = None
                except Gone:
                    continue
        for pid, (process, key) in list(self._processes.items()):
            if pid in latest:
                continue
            try:
                sight, last = process.ran(), process.seen
            except Gone:
                self._forget(pid)
                continue
            idle = process.request is None and pid not in begun
            process.request, process.seen = None, sight
            if idle and last is not None and last.queue is not None and sight.cpu > last.cpu:
                sums = seen.outside.setdefault(key, Looked())
                sums.cpu_us += (sight.cpu - last.cpu) // 1000
                sums.queue_us += max(0, (sight.queue or 0) - last.queue) // 1000

    def _known(self, pid: int, key: object) -> Process:
        found = self._processes.get(pid)
        if found is None:
            process = Process(pid)
            if len(self._processes) < self.most_open:
                process.open()
            self._processes[pid] = (process, key)
            return process
        return found[0]

    def _forget(self, pid: int) -> None:
        found = self._processes.pop(pid, None)
        if found is not None:
            found[0].close()


def _between(last: Sight, now: Sight) -> Looked:
    """What a process took from one sight to the next."""
    passed = max(0.0, now.at - last.at)
    cpu_s = max(0, now.cpu - last.cpu) / _NS
    known = now.queue is not None and last.queue is not None
    queue_s = max(0, now.queue - last.queue) / _NS if known else 0.0  # type: ignore[operator]
    rest = max(0.0, passed - cpu_s - queue_s)
    if not known and now.state == "R":
        queue_s, rest = rest, 0.0
    blocked = rest if now.state == "D" else 0.0
    return Looked(round(cpu_s * 1e6), round(queue_s * 1e6), round(blocked, 6), round(rest - blocked, 6))
