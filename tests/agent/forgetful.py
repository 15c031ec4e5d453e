"""A disk that forgets: what a power cut leaves of one directory, and a disk that refuses or lies.

Files are real; the calls that the journal makes on them (`os.pwrite`, `os.fsync` …) pass through here, where it is
kept what has reached the disk. A file's bytes reach it by an fsync of the file, its name by one of the directory; what
was not asked for may have reached it or not, whole or in part, as `chance` has it. After an fsync that failed, what
was waiting for it has left the page cache's list of dirty pages: a later one succeeds without it.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECTOR = 512


class Forgetful:
    """One directory on such a disk. `full`: writes fail half way. `deaf`: fsync fails. `lying`: writes do nothing.

    `calls_left`: after so many more calls nothing is done any more, the last write but in part; None for never.
    """

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.directory = directory
        self.chance = chance
        self.full = self.deaf = self.lying = False
        self.calls_left: int | None = None
        self._on_disk: dict[int, bytes] = {}
        self._dirty: dict[int, list[tuple[int, int]]] = {}
        self._names: dict[str, int] = {}
        self._real: dict[str, Callable[..., Any]] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts every call goes through here."""
        names = ("pwrite", "fsync", "fdatasync", "ftruncate", "open")
        self._real = {name: getattr(os, name) for name in names}
        try:
            for name in names:
                setattr(os, name, getattr(self, f"_{name}"))
            yield
        finally:
            for name, real in self._real.items():
                setattr(os, name, real)

    # --- calls ----------------------------------------------------------------------------------------------

    def _lives(self) -> bool:
        """Count one call; whether it is done whole."""
        if self.calls_left is None:
            return True
        self.calls_left -= 1
        if self.calls_left < 0:
            raise OSError(errno.EIO, "the process is dead")
        return self.calls_left > 0

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        self._lives()
        if self.full and flags & os.O_CREAT and not os.path.exists(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._real["open"](path, flags, *more, **named)  # type: ignore[no-any-return]

    def _pwrite(self, descriptor: int, data: Any, at: int) -> int:
        inode = os.fstat(descriptor).st_ino
        room = len(data)
        if not self._lives():
            room = self.chance.randrange(room + 1)
        if self.full and at + room > os.fstat(descriptor).st_size:
            room = self.chance.randrange(room)
            if not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.lying:
            return len(data)
        written: int = self._real["pwrite"](descriptor, bytes(data)[:room], at)
        self._dirty.setdefault(inode, []).append((at, at + written))
        return written

    def _ftruncate(self, descriptor: int, length: int) -> None:
        self._lives()
        if self.deaf and self.chance.random() < 0.3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real["ftruncate"](descriptor, length)

    def _fdatasync(self, descriptor: int) -> None:
        self._fsync(descriptor)

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._lives()
        if self.deaf:
            self._dirty.pop(status.st_ino, None)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if stat.S_ISDIR(status.st_mode):
            self._names = self._listing()
            return
        now = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        if status.st_ino not in self._on_disk and status.st_ino not in self._dirty:
            self._on_disk[status.st_ino] = now
            return
        kept = bytearray(self._on_disk.get(status.st_ino, b"")[: len(now)].ljust(len(now), b"\0"))
        for start, end in self._dirty.pop(status.st_ino, []):
            kept[start:end] = now[start:end]
        self._on_disk[status.st_ino] = bytes(kept)

    def _listing(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.directory.iterdir() if path.is_file()}

    def damage(self, path: Path, data: bytes) -> None:
        """The disk now has this in a file."""
        path.write_bytes(data)
        inode = path.stat().st_ino
        self._on_disk[inode] = data
        self._dirty.pop(inode, None)

    # --- the power cut --------------------------------------------------------------------------------------

    def cut_power(self) -> None:
        """Leave what the disk had. Nobody may have one of the files open any more."""
        now = self._listing()
        contents = {inode: (self.directory / name).read_bytes() for name, inode in now.items()}
        after: dict[str, int] = {}
        for name in sorted(now.keys() | self._names.keys()):
            inode = self.chance.choice([now.get(name), self._names.get(name)])
            if inode is not None:
                after[name] = inode
        left = {name: self._survived(inode, contents.get(inode)) for name, inode in after.items()}
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        self._on_disk, self._dirty = {}, {}
        for name, data in left.items():
            (self.directory / name).write_bytes(data)
            self._on_disk[(self.directory / name).stat().st_ino] = data
        self._names = self._listing()

    def _survived(self, inode: int, now: bytes | None) -> bytes:
        kept = bytearray(self._on_disk.get(inode, b""))
        if now is None:
            return bytes(kept)
        if inode not in self._on_disk and inode not in self._dirty:
            return self.chance.choice([b"", now])
        for start, end in self._dirty.get(inode, []):
            at = start
            while at < end:
                sector = min(end, at - at % SECTOR + SECTOR)
                if self.chance.random() < 0.5:
                    kept.extend(bytes(max(0, sector - len(kept))))
                    kept[at:sector] = now[at:sector].ljust(sector - at, b"\0")
                at = sector
        return bytes(kept)
