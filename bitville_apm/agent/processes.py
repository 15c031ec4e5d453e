"""Whether a process still lives, from /proc. Blocks."""

from __future__ import annotations

import os

TICKS = os.sysconf("SC_CLK_TCK")
"""Units of time in /proc, a second."""


def alive(pid: int, since: float) -> bool:
    """Whether process `pid` lives and had started by `since` (seconds on CLOCK_BOOTTIME).

    A process that started later only has the number of the one that is meant. A process that the kernel does not
    name (pid 0: another namespace that we cannot see into) is taken to live.
    """
    if pid <= 0:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) / TICKS <= since
