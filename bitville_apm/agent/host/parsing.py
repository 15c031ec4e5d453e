"""What files of /proc say. Pure: their bytes in, values out; no clock, no file.

The kernel's formats, as `proc(5)` and its sources have them: fields are added at the end of a line and lines are added
to a file, so that nothing here asks how many there are. What is missing reads as None or as nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

PF_KTHREAD = 0x00200000
"""The bit in a task's flags that says it is the kernel's."""
SECTOR_BYTES = 512
"""What /proc/diskstats counts in, whatever the disk's own sectors are."""


class Stat(Struct):
    """`/proc/PID/stat`. Times are in ticks, of all threads together but for `state`; `children` is user and system
    time of those that were waited for, with theirs. `started` is ticks since the machine's start.
    """

    name: bytes
    state: str
    parent: int
    kernel: bool
    cpu: int
    children: int
    threads: int
    started: int


def stat(data: bytes) -> Stat:
    """One task. A name may have anything in it, brackets too. Raises `ValueError` for what is no such line."""
    begins, ends = data.find(b"("), data.rfind(b")")
    f = data[ends + 3 :].split(b" ", 19)
    if begins < 0 or len(f) < 20:
        raise ValueError("no stat line")
    # In the order of the fields: this runs for each task that ran in the last second.
    return Stat(
        data[begins + 1 : ends],
        chr(data[ends + 2]),
        int(f[1]),
        bool(int(f[6]) & PF_KTHREAD),
        int(f[11]) + int(f[12]),
        int(f[13]) + int(f[14]),
        int(f[17]),
        int(f[19].partition(b" ")[0]),
    )


def is_process(data: bytes) -> bool:
    """Whether a stat line is of a process, and not of another thread: those send no signal when they end."""
    f = data[data.rfind(b")") + 3 :].split(b" ", 36)
    return len(f) < 36 or f[35] != b"-1"


def state(data: bytes) -> str:
    """The state alone, of the same line."""
    ends = data.rfind(b")")
    if ends < 0 or len(data) < ends + 3:
        raise ValueError("no stat line")
    return chr(data[ends + 2])


_NUMBERS = re.compile(r"[\s.:_/#-]*\d[\d.]*$")


def name(comm: bytes, kernel: bool) -> str:
    """What tasks like this one are called together: numbers at the end dropped, the kernel's own in brackets.

    Of a kernel thread what is behind the first slash says which of many it is: `kworker/u8:3+flush`, `jbd2/sda1-8`.
    """
    text = comm.decode("utf-8", "replace").strip()
    if kernel and "/" in text:
        return f"[{text.partition('/')[0]}]"
    short = text
    while (cut := _NUMBERS.sub("", short)) != short and cut:
        short = cut
    short = short or "?"
    return f"[{short}]" if kernel else short


class Total(Struct):
    """`/proc/stat`. Ticks of all CPUs since the machine's start; `forks` are processes and threads ever made."""

    user: int = 0
    system: int = 0
    interrupts: int = 0
    iowait: int = 0
    steal: int = 0
    cpus: int = 0
    forks: int | None = None
    running: int | None = None


def total(data: bytes) -> Total:
    """All CPUs together. A guest's time is in `user` already."""
    found = Total()
    for line in data.splitlines():
        if line.startswith(b"cpu "):
            f = [int(n) for n in line.split()[1:]] + [0] * 8
            found.user, found.system = f[0] + f[1], f[2]
            found.iowait, found.interrupts, found.steal = f[4], f[5] + f[6], f[7]
        elif line.startswith(b"cpu"):
            found.cpus += 1
        elif line.startswith(b"processes "):
            found.forks = int(line.split()[1])
        elif line.startswith(b"procs_running "):
            found.running = int(line.split()[1])
    return found


def schedstat(data: bytes) -> tuple[int, int] | None:
    """`/proc/schedstat`, all CPUs together: nanoseconds that tasks ran, and that they waited for a CPU."""
    ran = waited = 0
    seen = False
    for line in data.splitlines():
        if line.startswith(b"cpu"):
            f = line.split()
            if len(f) < 9:
                return None
            ran, waited, seen = ran + int(f[7]), waited + int(f[8]), True
    return (ran, waited) if seen else None


def task_schedstat(data: bytes) -> tuple[int, int]:
    """A task's own: nanoseconds on a CPU, and runnable without one."""
    cpu, queue, _ = data.split()
    return int(cpu), int(queue)


def loadavg(data: bytes) -> tuple[float, int, int]:
    """`/proc/loadavg`: the average of a minute, how many tasks the kernel has, and the last pid it gave."""
    f = data.split()
    return float(f[0]), int(f[3].partition(b"/")[2]), int(f[4])


def numbers(data: bytes, *names: bytes) -> dict[bytes, int]:
    """Of a file with a name and a number a line, such as meminfo and vmstat, those asked for that are there."""
    pattern = rb"^(" + b"|".join(names) + rb"):?\s+(\d+)"
    return {key: int(number) for key, number in re.findall(pattern, data, re.MULTILINE)}


class Disk(Struct):
    """Bytes read and written, milliseconds in which it had something to do."""

    read: int
    written: int
    busy_ms: int


_STACKED = re.compile(rb"(loop|ram|zram|sr|fd|dm-|md|drbd|bcache|nbd)\d")
_PART = re.compile(rb"(.*\d)p\d+|(.*\D)\d+")


def disks(data: bytes) -> dict[str, Disk]:
    """`/proc/diskstats`: each disk once. What stands on other disks (raid, lvm, loop) would count their work twice."""
    rows = {}
    for line in data.splitlines():
        f = line.split()
        if len(f) >= 14 and not _STACKED.match(f[2]):
            rows[f[2]] = f
    found = {}
    for device, f in rows.items():
        part = _PART.fullmatch(device)
        if part is not None and (part[1] or part[2]) in rows:
            continue
        found[device.decode("ascii", "replace")] = Disk(int(f[5]) * SECTOR_BYTES, int(f[9]) * SECTOR_BYTES, int(f[12]))
    return found


_VIRTUAL = re.compile(
    rb"(lo|veth|docker|br[-\d]|virbr|cni|flannel|cali|vnet|tap|tun|wg|dummy|ifb|bond|team|lxc|vxlan|nlmon)"
)


def network(data: bytes) -> dict[str, tuple[int, int]]:
    """`/proc/net/dev`: bytes received and sent, of what leads out of this machine; bridges and tunnels go over that."""
    found = {}
    for line in data.splitlines():
        interface, colon, rest = line.partition(b":")
        f, interface = rest.split(), interface.strip()
        if colon and len(f) >= 9 and not _VIRTUAL.match(interface) and b"." not in interface:
            found[interface.decode("ascii", "replace")] = int(f[0]), int(f[8])
    return found


def pressure(data: bytes) -> dict[str, int]:
    """`/proc/pressure/…`: `some` and `full`, microseconds since the machine's start."""
    found = {}
    for line in data.splitlines():
        kind, _, rest = line.partition(b" ")
        at = rest.rfind(b"total=")
        if at >= 0:
            found[kind.decode("ascii", "replace")] = int(rest[at + 6 :])
    return found


def cgroup(data: bytes) -> str | None:
    """`/proc/PID/cgroup`: the group of the unified hierarchy, or where that has none systemd's or the CPU's."""
    groups: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        f = line.split(":", 2)
        if len(f) == 3:
            for controller in f[1].split(","):
                groups[controller] = f[2]
    for controller in ("", "name=systemd", "cpu", "memory"):
        if groups.get(controller, "/") != "/":
            return groups[controller]
    return None


def quota(data: bytes) -> float | None:
    """`cpu.max` of a cgroup: how many CPUs it may use; None where that is not limited."""
    f = data.split()
    if len(f) != 2 or f[0] == b"max" or not int(f[1]):
        return None
    return int(f[0]) / int(f[1])


def cpus(data: bytes) -> int:
    """A list such as `0-3,8`, how many that are."""
    count = 0
    for part in data.strip().split(b","):
        first, _, last = part.partition(b"-")
        if first:
            count += int(last or first) - int(first) + 1
    return count


def differences(before: Mapping[str, tuple[int, ...]], now: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """By how much counters of devices grew. A device that is new, or that began anew, says nothing this time."""
    for key, values in now.items():
        last = before.get(key)
        if last is not None and all(a <= b for a, b in zip(last, values, strict=True)):
            yield tuple(b - a for a, b in zip(last, values, strict=True))
