"""The numbers of the machine as a whole, from one second to the next: CPU, memory, swap, disks, network, pressure.

Blocks: for a thread of its own. Files stay open; one that is not there is asked for no more, and named in `missing`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from bitville_apm.agent.host import parsing
from bitville_apm.agent.processes import TICKS

T = TypeVar("T")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESSURES = ("cpu", "io", "memory")
_MEMORY = (b"MemTotal", b"MemAvailable", b"SwapTotal", b"SwapFree")
_PAGING = (b"pgmajfault", b"pswpin", b"pswpout")


@attrs.frozen
class Sight:
    """What was read at one moment; None or nothing where this machine does not tell."""

    total: parsing.Total
    schedstat: tuple[int, int] | None
    load: tuple[float, int, int] | None
    memory: Mapping[bytes, int]
    paging: Mapping[bytes, int]
    disks: Mapping[str, tuple[int, ...]]
    network: Mapping[str, tuple[int, ...]]
    pressure: Mapping[str, Mapping[str, int]]

    @property
    def cpu_ns(self) -> int:
        """What all tasks ran since the machine started: told exactly, or else in ticks."""
        if self.schedstat is not None:
            return self.schedstat[0]
        return (self.total.user + self.total.system) * 1_000_000_000 // TICKS


@attrs.define(eq=False)
class Machine:
    """Reads below `proc`. `missing` are the files that are not there or may not be read."""

    proc: str
    missing: list[str] = attrs.Factory(list)
    _open: dict[str, int] = attrs.Factory(dict)

    def sight(self) -> Sight:
        """Read everything once."""
        return Sight(
            total=self._read("stat", parsing.total, parsing.Total()),
            schedstat=self._read("schedstat", parsing.schedstat, None),
            load=self._read("loadavg", parsing.loadavg, None),
            memory=self._read("meminfo", lambda data: parsing.numbers(data, *_MEMORY), {}),
            paging=self._read("vmstat", lambda data: parsing.numbers(data, *_PAGING), {}),
            disks=self._read("diskstats", _disks, {}),
            # Not of this process: in a container with the host's /proc, of the host.
            network=self._read("1/net/dev", parsing.network, {}),
            pressure={name: self._read(f"pressure/{name}", parsing.pressure, {}) for name in _PRESSURES},
        )

    def close(self) -> None:
        """Let go of the files."""
        for fd in self._open.values():
            if fd >= 0:
                os.close(fd)
        self._open.clear()

    def _read(self, name: str, parse: Callable[[bytes], T], nothing: T) -> T:
        fd = self._open.get(name)
        try:
            if fd is None:
                fd = self._open[name] = os.open(f"{self.proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            if fd < 0:
                return nothing
            data = os.pread(fd, 1 << 20, 0)
            while len(piece := os.pread(fd, 1 << 20, len(data))) if len(data) % _PAGE == 0 and data else False:
                data += piece
            return parse(data)
        except (OSError, ValueError, IndexError):
            if fd is not None and fd >= 0:
                os.close(fd)
            self._open[name] = -1
            self.missing.append(name)
            return nothing


def _disks(data: bytes) -> dict[str, tuple[int, ...]]:
    return {name: (disk.read, disk.written, disk.busy_ms) for name, disk in parsing.disks(data).items()}


@attrs.frozen
class Numbers:
    """For the frame's `load`: what adds, what is a mean, what is the newest."""

    add: Mapping[str, Any]
    mean: Mapping[str, Any]
    last: Mapping[str, Any]


def numbers(before: Sight, now: Sight, elapsed: float, cores: float) -> Numbers:
    """What happened between two sights, `elapsed` seconds apart. What is not known is left out."""
    add: dict[str, Any] = {}
    mean: dict[str, Any] = {}
    last: dict[str, Any] = {"cores": round(cores, 2) if cores % 1 else int(cores)}
    a, b = before.total, now.total
    if b.cpus:
        add["cpu"] = {
            "user_s": _rise(a.user, b.user) / TICKS,
            "system_s": _rise(a.system + a.interrupts, b.system + b.interrupts) / TICKS,
            "iowait_s": _rise(a.iowait, b.iowait) / TICKS,
            "steal_s": _rise(a.steal, b.steal) / TICKS,
        }
    mean["procs_running"] = b.running
    if now.load is not None:
        last["load1"] = now.load[0]
    memory = now.memory
    if b"MemTotal" in memory:
        last["memory"] = {
            "total_bytes": memory[b"MemTotal"] * 1024,
            "available_bytes": memory[b"MemAvailable"] * 1024 if b"MemAvailable" in memory else None,
        }
    if b"SwapTotal" in memory:
        last["swap"] = {"used_bytes": (memory[b"SwapTotal"] - memory.get(b"SwapFree", 0)) * 1024}
    paging = {key: _rise(before.paging[key], n) for key, n in now.paging.items() if key in before.paging}
    if b"pgmajfault" in paging:
        add["major_faults"] = paging[b"pgmajfault"]
    if b"pswpin" in paging:
        add["swap"] = {"in_bytes": paging[b"pswpin"] * _PAGE, "out_bytes": paging.get(b"pswpout", 0) * _PAGE}
    disks = list(parsing.differences(before.disks, now.disks))
    if disks:
        read, written, busy_ms = zip(*disks, strict=True)
        busy_s = min(elapsed, max(busy_ms) / 1000)
        add["disk"] = {"read_bytes": sum(read), "written_bytes": sum(written), "busy_s": busy_s}
    network = list(parsing.differences(before.network, now.network))
    if network:
        received, sent = zip(*network, strict=True)
        add["network"] = {"received_bytes": sum(received), "sent_bytes": sum(sent)}
    psi = {
        name: {
            kind: min(100.0, _rise(before.pressure[name][kind], us) / 1e4 / elapsed)
            for kind, us in kinds.items()
            if kind in before.pressure[name] and not (name == "cpu" and kind == "full")
        }
        for name, kinds in now.pressure.items()
        if kinds
    }
    if psi:
        mean["psi"] = psi
    return Numbers(add, mean, last)


def _rise(before: int, now: int) -> int:
    """Counters of the kernel may go back a little."""
    return max(0, now - before)
