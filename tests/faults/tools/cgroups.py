"""Groups of processes as systemd makes them, with accounting and a weight of their own: cgroups, version 1 or 2."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

NORMAL = 100
"""The weight of a service that asks for none (CPUWeight)."""
_numbers = itertools.count()


@attrs.frozen
class Group:
    """One group: `path` is its directory, `unified` tells version 2."""

    path: Path
    unified: bool

    def add(self, pid: int) -> None:
        """Take a process in, with all its threads; what it has used so far is not counted here."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def cpu_s(self) -> float:
        """CPU seconds that its processes used while they were in it, as the kernel counts them."""
        if not self.unified:
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        lines = (self.path / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e6

    def weigh(self, weight: int) -> None:
        """What systemd does for CPUWeight. OSError where this level has no weights."""
        if self.unified:
            (self.path / "cpu.weight").write_text(str(weight))
        else:
            (self.path / "cpu.shares").write_text(str(weight * 1024 // NORMAL))


@contextlib.contextmanager
def group(controller: str) -> Iterator[Group]:
    """A group below this process's own, `cpu` for a weight, `cpuacct` for accounting. OSError where that is refused.

    Whatever is left in it afterwards goes back to where this process is.
    """
    parent, unified = _own(controller)
    path = parent / f"bitville-test-{os.getpid()}-{next(_numbers)}"
    path.mkdir()
    try:
        yield Group(path, unified)
    finally:
        for pid in (path / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            path.rmdir()


def _own(controller: str) -> tuple[Path, bool]:
    """The directory of this process's own group for a controller, and whether it is version 2."""
    mounts = [line.split()[1:4] for line in Path("/proc/mounts").read_text().splitlines()]
    groups = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for kind, unified in (("cgroup", False), ("cgroup2", True)):
        wanted = "" if unified else controller
        where = [at for at, what, options in mounts if what == kind and (unified or wanted in options.split(","))]
        own = [path for names, path in groups if wanted in names.split(",")]
        if where and own:
            # A container may see its own group as the root of the mount.
            below = Path(where[0]) / own[0].lstrip("/")
            return (below if below.is_dir() else Path(where[0])), unified
    raise OSError(f"no cgroup controller {controller} is mounted")
