"""Where agents are born that have their imports behind them: a start costs milliseconds, so that many can be killed.

Everything an agent does, from reading its configuration on, happens in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.context import ForkServerProcess

FIRST_PASSED = 3
"""The descriptor that `LISTEN_FDS` begins at."""
BEFOREHAND = [
    "twisted.scripts._twistd_unix",
    "werkzeug.routing",
    "prometheus_client",
    "bitville_apm.http",
    "bitville_apm.agent.control",
    "bitville_apm.agent.listener",
    "bitville_apm.agent.spool",
    "bitville_apm.agent.transmitter",
]
"""Most of what an agent imports, but nothing that makes a reactor (klein does): two processes cannot share one."""


def born(
    listening: socket.socket | None, arguments: list[str], log: str, directory: str, stopped: bool = False
) -> ForkServerProcess:
    """Run `twistd` with these arguments in a new process, `listening` passed as systemd would.

    `stopped`: it waits for SIGCONT before it does anything, so that a tracer misses nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(BEFOREHAND)
    process = context.Process(target=_live, args=(listening, arguments, log, directory, stopped), daemon=True)
    process.start()
    return process


def _live(listening: socket.socket | None, arguments: list[str], log: str, directory: str, stopped: bool) -> None:
    os.chdir(directory)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for name in [name for name in os.environ if name.startswith("BITVILLE_")]:
        del os.environ[name]
    if listening is not None:
        os.dup2(listening.fileno(), FIRST_PASSED)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    if stopped:
        os.kill(os.getpid(), signal.SIGSTOP)
    sys.argv = ["twistd", *arguments]
    from twisted.scripts.twistd import run

    run()
