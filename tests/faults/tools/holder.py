"""Agents whose listening socket is held by their parent (LISTEN_FDS): a killed one refuses nobody, its heir answers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import attrs

from bitville_apm import limits
from tests.agent.rig import Agent, wait_until
from tests.faults.tools import nursery, strace

PASSED = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))"
AS_CHILD = (sys.executable, "-S", "-c", PASSED + "; os.execv(sys.argv[2], sys.argv[2:])")
"""Words before a command that give it the descriptor named next as systemd would (fd 3)."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[socket.socket]:
    """A listening socket at a path, as systemd makes one: it stays whoever serves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen(limits.LISTEN_BACKLOG)
        yield listening


def behind(listening: socket.socket, directory: Path, url: str, **more: Any) -> Agent:
    """An ordinary `Agent` (a process with its own imports, for restarts and `strace`) that adopts a held socket."""
    number = listening.fileno()
    before = (*AS_CHILD, str(number), *more.pop("before", ()))
    return Agent(directory, url, before=before, descriptors=(number,), **more)


@attrs.define(eq=False)
class Quick(Agent):
    """An agent that starts in milliseconds, on a held socket or one of its own.

    `trace` are options for strace (`strace.options`), from the agent's first act on.
    """

    listening: socket.socket | None = None
    trace: Sequence[str] = ()
    child: ForkServerProcess | None = None
    tracer: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.child is not None
        assert self.child.pid is not None
        return self.child.pid

    def spawn(self) -> Any:
        """Start the process without waiting for it."""
        traced = bool(self.trace)
        self.child = nursery.born(self.listening, self.arguments, str(self.log), str(self.directory), traced)
        if traced:
            wait_until(lambda: ") T " in Path(f"/proc/{self.pid}/stat").read_text(), what="waiting for its tracer")
            self.tracer = strace.attach(self.pid, self.trace)
        return self.child

    def start(self) -> Quick:
        """Start it and wait until it answers."""
        child = self.spawn()
        wait_until(lambda: child.exitcode is not None or self.answers(), what=self.text()[-2000:])
        assert child.exitcode is None, self.text()[-2000:]
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self.child is not None
        self.child.kill()
        self.child.join()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and wait for the end: the exit code."""
        assert self.child is not None
        os.kill(self.pid, signal.SIGTERM)
        self.child.join(seconds)
        assert self.child.exitcode is not None, "still running"
        return self.child.exitcode

    def clean_up(self) -> None:
        if self.child is not None and self.child.exitcode is None:
            self.kill()
        if self.tracer is not None:
            self.tracer.wait(10)
