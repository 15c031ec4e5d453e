"""Small file systems, and what befalls them: full, without inodes, read-only, frozen. As root only; else `lacking`."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.tools import lacking, require

SBIN = "/usr/sbin:/sbin"


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A command of the system, found in /usr/sbin too."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return subprocess.run([str(word) for word in command], capture_output=True, check=False, env={"PATH": path})


def done(*command: str | Path) -> None:
    """Run it; what this machine's kernel or container refuses is said, and the check is not run."""
    result = run(*command)
    if result.returncode:
        lacking(f"{' '.join(map(str, command))}: {result.stderr.decode(errors='replace').strip()}")


@contextlib.contextmanager
def _mounted(directory: Path, *how: str | Path) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    done("mount", *how, directory)
    try:
        yield directory
    finally:
        # Lazily: a process that the check has not ended yet must not keep the mount for ever.
        run("umount", "-l", directory)


@contextlib.contextmanager
def tmpfs(directory: Path, size: str = "4m", inodes: int = 0) -> Iterator[Path]:
    """A file system in memory of that size ("64k", "4m"), with that many inodes (0: as many as it likes)."""
    require("mount", "umount")
    options = f"mode=0700,size={size}" + (f",nr_inodes={inodes}" if inodes else "")
    with _mounted(directory, "-t", "tmpfs", "-o", options, "tmpfs") as mounted:
        yield mounted


@contextlib.contextmanager
def ext4(directory: Path, mib: int = 64) -> Iterator[Path]:
    """A real file system in a file beside `directory`, which can be frozen and has a journal of its own."""
    require("mount", "umount", "mkfs.ext4", "losetup")
    image = directory.with_name(directory.name + ".img")
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    done("mkfs.ext4", "-q", "-F", image)
    with _mounted(directory, "-o", "loop", image) as mounted:
        yield mounted


@contextlib.contextmanager
def frozen(mounted: Path) -> Iterator[None]:
    """While inside, every write to this ext4 waits (fsfreeze): a disk that hangs. Thawed whatever happens."""
    require("fsfreeze")
    done("fsfreeze", "--freeze", mounted)
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", mounted)


def remount(mounted: Path, *options: str) -> None:
    """Change a mount: `ro`, `rw`, `size=8m`, `nr_inodes=100`."""
    done("mount", "-o", ",".join(("remount", *options)), mounted)


def fill(mounted: Path, leave: int = 0) -> Path:
    """Take what room there is, but for `leave` bytes: the file that has it, to be unlinked."""
    filler = mounted / "filler"
    free = os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        # Written, not allocated: tmpfs counts pages.
        left = max(0, free - leave)
        while left > 0:
            left -= file.write(b"x" * min(left, 1 << 20))
    return filler
