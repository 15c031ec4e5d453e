"""Faults in system calls: strace makes the n-th of a kind fail, die, wait or lie.

`path` narrows it to calls on files below a directory, so that n counts the agent's own work and not Python's.
A call is counted per thread; the journal's calls are all made by one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.tools import require


def injecting(call: str, how: str, paths: Sequence[Path] = (), log: str = os.devnull) -> list[str]:
    """Words before a command: inject `how` into `call` (a comma-separated set: `pwrite64,write`).

    `how` as strace has it: `error=EIO:when=3`, `signal=SIGKILL:when=7`, `retval=5:when=2+`, `delay_enter=100000`
    (µs). `paths` are the very files, or directories for calls with a path; -P knows no wildcards.
    """
    return traced(call, paths, log, "-e", f"inject={call}:{how}")


def traced(call: str, paths: Sequence[Path] = (), log: str = os.devnull, *more: str) -> list[str]:
    """Words before a command: only watch, one line a call into `log`."""
    require("strace")
    words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", f"trace={call}", "-e", "signal=none", *more]
    for path in paths:
        words += ["-P", str(path)]
    return words
