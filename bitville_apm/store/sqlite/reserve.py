"""Room kept on the disk for the moment when there is none: dropping a day needs some pages before it frees any."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import attrs

from bitville_apm import limits


@attrs.define(eq=False)
class Reserve:
    """A file of `limits.RESERVE_BYTES`, on a small disk of a smaller share."""

    path: Path

    @classmethod
    def of(cls, directory: Path) -> Reserve:
        """That of a store's directory."""
        return cls(directory / "reserve")

    def make(self) -> None:
        """Make the file if it is missing and fits with as much again beside it; else the next call does."""
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self.path.parent)
            size = min(limits.RESERVE_BYTES, disk.total // limits.RESERVE_SHARE)
            if self.path.exists() or disk.free < 2 * size:
                return
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError:
                self.path.unlink()
            finally:
                os.close(descriptor)

    def give_up(self) -> bool:
        """Free its room; whether there was any."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
