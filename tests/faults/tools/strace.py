"""Faults in system calls: strace makes the n-th of a kind fail, die, wait or lie.

Each thread counts for itself. `options` name the calls and the fault; `words` go before a command, `attach` takes a
process that waits to be traced (`Quick.trace`), so that starting Python is neither counted nor slowed down.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.agent.rig import wait_until
from tests.tools import require


def options(call: str, how: str = "", log: str | Path = os.devnull, paths: Sequence[Path] = ()) -> list[str]:
    """Trace `call` (a comma-separated set, `pwrite64,write`) into `log`, a line each, and inject `how`.

    `how` as strace has it: `error=EIO:when=3`, `signal=SIGKILL:when=7`, `retval=5:when=2+`, `delay_enter=100000`
    (µs). `paths` narrow it to calls on these very files or directories; the n-th is then the n-th of them.
    """
    require("strace")
    told = ["-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", "signal=none"]
    if how:
        told += ["-e", f"inject={call}:{how}"]
    for path in paths:
        told += ["-P", str(path)]
    return told


def words(told: Sequence[str]) -> list[str]:
    """Before a command. strace stands beside it (-D): its process, signals and end are the command's own."""
    return ["strace", "-D", "--seccomp-bpf", *told]


def attach(pid: int, told: Sequence[str]) -> subprocess.Popen[bytes]:
    """Trace a stopped process, then let it run. The tracer ends with it."""
    tracer = subprocess.Popen(["strace", *told, "-p", str(pid)], stderr=subprocess.DEVNULL)
    wait_until(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), 10, "strace attached")
    os.kill(pid, signal.SIGCONT)
    return tracer
