"""A clock that jumps while a process runs (libfaketime): the wall clock only, monotonic time goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from tests.tools import lacking

LIBRARY = "libfaketime.so.1"


@attrs.frozen
class FalseClock:
    """Processes with `environment` take their wall time from `file`."""

    file: Path
    library: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """For the process."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            # Without it a thread's wait with a timeout ends at once, again and again.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            # Times of files are the kernel's, and stay so.
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: float) -> None:
        """From now on the clock is so far from the true one."""
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+.0f}\n")
        beside.replace(self.file)


def false_clock(directory: Path) -> FalseClock:
    """One that begins with the true time. Without libfaketime the check is not run."""
    found = list(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    if not found:
        lacking("libfaketime is missing on this machine (make test as root on Debian installs it)")
    directory.mkdir(parents=True, exist_ok=True)
    clock = FalseClock(directory / "faketime", found[0])
    clock.jump(0)
    return clock
