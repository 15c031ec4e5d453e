"""The processes of the demo: started in order, stopped in the reverse one, and never left behind.

Each runs in a session of its own, so that Ctrl-C in a terminal reaches only the demo, which then stops them one by
one. The kernel tells each when its parent is gone (PR_SET_PDEATHSIG), so that even SIGKILL leaves nobody; a file of
their ids lets the next start wait for those still on their way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

PR_SET_PDEATHSIG = 1
STOP_S = 35.0
"""A little more than the 30 s that the agent may take to stop (DAEMON-04); nobody here takes longer."""
TAIL_LINES = 15


class ChildDied(Exception):
    """A process of the demo ended though nobody asked it to; the message is for the person who started it."""


@attrs.define(eq=False)
class Child:
    """One running process, and where it writes."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raise `ChildDied`, with the last lines of the log, if it is not running."""
        code = self.process.poll()
        if code is None:
            return
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise ChildDied("\n".join([f"the {self.name} ended ({how}); the end of {self.log}:", *lines]))

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of its group."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@attrs.define(eq=False)
class Children:
    """All of them. `record` is the file that remembers their ids."""

    logs: Path
    record: Path
    _running: list[Child] = attrs.field(factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a process; its output goes to `logs/NAME.log`, the run before it to `NAME.log.1`."""
        log = self.logs / f"{name}.log"
        with contextlib.suppress(FileNotFoundError):
            log.rename(log.with_suffix(".log.1"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_dies_with(os.getpid()),  # no thread runs yet when children start
            )
        child = Child(name, log, process)
        self._running.append(child)
        self._remember()
        return child

    def check(self) -> None:
        """Raise `ChildDied` for the first that is not running."""
        for child in self._running:
            child.check()

    def stop(self) -> None:
        """Stop all, the last started first."""
        while self._running:
            self._running.pop().stop()
            self._remember()

    def _remember(self) -> None:
        born = {child.process.pid: _born(child.process.pid) for child in self._running}
        self.record.write_text(json.dumps(born))

    def leftovers(self) -> dict[int, int]:
        """The processes of an earlier demo, killed before it could stop them, that still run: id and birth."""
        try:
            born = {int(pid): when for pid, when in json.loads(self.record.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}
        return {pid: when for pid, when in born.items() if when is not None and _born(pid) == when}

    def clear_leftovers(self) -> None:
        """Wait for them, for they have been told to end; and end those that do not."""
        deadline = time.monotonic() + STOP_S
        while left := self.leftovers():
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)
            time.sleep(0.1)


def _born(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the id it names a process for ever. None if gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _dies_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was killed before the line above
            os._exit(1)

    return before_exec
