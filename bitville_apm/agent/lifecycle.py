"""When the agent replaces itself by a new process, whether it may, and how.

The new one has the same pid, and goes on with everything its clients hold on to: the listening sockets, each held
connection, what was said on it (`handover.py`). Clients that connect meanwhile wait in the socket's queue.

    due, asked for, SIGHUP ──▶ check ──good──▶ stop reading, finish, sync ──▶ exec ──▶ take up again
                                 └─bad: one line says why, nothing has changed

The check is a process of its own that does all of a start but the start: new code, new configuration. Nothing that
is wrong with them ends an agent that runs. What goes wrong after that ends the process, for its supervisor to start:
what was acknowledged is on disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent import handover
from bitville_apm.agent.handover import Handover, Holds
from bitville_apm.agent.worker import Run

_log = Logger()
HANDOVER = "BITVILLE_APM_HANDOVER"
"""`pid:descriptor` of the handover. With the pid, so that nobody else ever takes it for his."""
HELD = "BITVILLE_APM_HELD"
"""For a check: what the agent that asks has itself, as JSON (`handover.Holds`)."""
CHECKED = "bitville-agent: good"
"""How a check that found nothing ends: in front of the version of the handover that it understands."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class NotRestarted(Exception):
    """Why the agent goes on as it is, in one line."""


# --- How this process was started ---------------------------------------------------------------------------


@attrs.frozen
class Command:
    """How to start this program again in its own place. `arguments` are those behind the interpreter."""

    arguments: tuple[str, ...]
    directory: str
    pidfile: str = ""

    @classmethod
    def of(cls, twistd: Mapping[str, Any], original: Sequence[str], given: int, directory: str) -> Command:
        """From twistd's options, `sys.orig_argv`, how many of those are the program's, and where it was started.

        A twistd that made itself a daemon must not fork again: then it would have another pid.
        """
        split = len(original) - given
        head, tail = list(original[1:split]), list(original[split:])
        if not twistd.get("nodaemon", True):
            head.append("--nodaemon")
            if not twistd.get("syslog"):
                head.append(f"--logfile={twistd.get('logfile') or 'twistd.log'}")
        return cls((*head, *tail), directory, str(twistd.get("pidfile") or ""))

    def check(self, holds: Holds) -> None:
        """Try in another process whether this could be started now. Blocks. Raises `NotRestarted`."""
        try:
            done = subprocess.run(  # noqa: S603 - what this very process was started with
                [sys.executable, *self.arguments, "--check"],
                cwd=self.directory,
                env={**os.environ, HELD: msgspec.json.encode(holds).decode()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limits.CHECK_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotRestarted(f"the check did not end within {limits.CHECK_S:.0f} s") from None
        except OSError as error:
            raise NotRestarted(f"the check cannot be run: {error}") from None
        lines = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        if done.returncode:
            raise NotRestarted(lines[-1])
        if lines[-1] != f"{CHECKED} {handover.VERSION}":
            raise NotRestarted("the installed version cannot take over from this one; let its supervisor restart it")
        pidfile = self.pidfile and os.path.dirname(os.path.abspath(self.pidfile))
        if pidfile and not os.access(pidfile, os.W_OK):
            raise NotRestarted(f"{self.pidfile} could not be removed; this user must own {pidfile}, or use --pidfile=")

    def execute(self, handed: Handover) -> None:
        """Become a new process. Only returns, by raising `OSError`, when that cannot be.

        Signals that come from here on wait for the new process: their default would be its end.
        """
        descriptor = os.memfd_create("handover")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(handover.encoded(handed))
        os.lseek(descriptor, 0, os.SEEK_SET)
        for kept in (descriptor, *handover.descriptors(handed)):
            os.set_inheritable(kept, True)
        if self.pidfile:
            Path(self.pidfile).unlink(missing_ok=True)
        os.chdir(self.directory)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        environment = {**os.environ, HANDOVER: f"{os.getpid()}:{descriptor}"}
        os.execve(sys.executable, [sys.executable, *self.arguments], environment)  # noqa: S606


def handed_over(environment: MutableMapping[str, str]) -> Handover | None:
    """What the process before left to this one; None at a real start. Raises `msgspec.DecodeError`."""
    pid, _, number = environment.pop(HANDOVER, "").partition(":")
    if pid != str(os.getpid()):
        return None
    with open(int(number), "rb") as file:
        handed = handover.decoded(file.read())
    for kept in handover.descriptors(handed):
        os.set_inheritable(kept, False)
    return handed


# --- When ---------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Lifecycle:
    """Looks each second whether a restart is due. `memory` is in MiB; `run` may take as long as a check does.

    `busy` says why a restart must not be begun now, if so. `suspend` lets everything come to rest; it gives None
    when the agent was told to end meanwhile. `before` is what the process before left.
    """

    command: Command
    clock: Any
    run: Run
    holds: Holds
    max_requests: int
    min_lifetime: float
    memory_mb: int
    requests: Callable[[], int]
    memory: Callable[[], float]
    busy: Callable[[], str]
    suspend: Callable[[str], Awaitable[Handover | None]]
    before: Handover | None = None
    _started: float = 0.0
    _not_before: float = 0.0
    _restarting: bool = False
    _again: bool = False
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin to count."""
        self._started = self.clock.seconds()
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.RESTART_LOOK_S, now=False)

    def stop(self) -> None:
        """End."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    @property
    def restarts(self) -> int:
        """How often it has replaced itself since it was really started."""
        return self.before.restarts if self.before is not None else 0

    def due(self) -> str:
        """Why it is time for a restart; empty while it is not (DAEMON-01, -02)."""
        age, requests, memory = self.clock.seconds() - self._started, self.requests(), self.memory()
        if self.memory_mb and memory > self.memory_mb and age >= limits.RESTART_AGAIN_S:
            return f"memory {memory:.0f}/{self.memory_mb} MB"
        if self.max_requests and requests >= self.max_requests and age >= self.min_lifetime:
            return f"requests {requests}/{self.max_requests}"
        return ""

    def tick(self) -> None:
        """One look."""
        if self._restarting or self.clock.seconds() < self._not_before:
            return
        why = self.due()
        if why:
            self.begin(why)

    def begin(self, why: str) -> None:
        """Restart, if it may be; the log says what comes of it. While one is being checked, it is checked again."""
        if self._restarting:
            self._again = True
            return

        def refused(failure: Failure) -> None:
            failure.trap(NotRestarted)
            self._not_before = self.clock.seconds() + limits.RESTART_REFUSED_S
            _log.error("not restarted because of {why}: {problem}", why=why, problem=failure.value)

        checking = Deferred.fromCoroutine(self.check())
        checking.addCallback(lambda _: self.go(why))
        checking.addErrback(refused)
        checking.addErrback(lambda failure: _log.failure("not restarted", failure))

    async def check(self) -> None:
        """Find out whether a restart would succeed. Raises `NotRestarted`; else `go` must follow."""
        if self._restarting:
            raise NotRestarted("a restart is under way")
        self._restarting = True
        try:
            self._again = True
            while self._again:
                self._again = False
                await self.run(self.command.check, self.holds)
            await self._calm()
        except BaseException:
            self._restarting = False
            raise

    async def _calm(self) -> None:
        """A disk that is slow for a moment is waited for."""
        until = self.clock.seconds() + limits.HANDOVER_S
        while problem := self.busy():
            if self.clock.seconds() >= until:
                raise NotRestarted(problem)
            await deferLater(self.clock, limits.RESTART_LOOK_S)

    def go(self, why: str) -> None:
        """Restart now."""
        _log.info("restart because of {why}", why=why)
        # Outlives the exec: a process that does not come up ends by it, and its supervisor starts another.
        signal.alarm(limits.AGENT_STOP_S)
        Deferred.fromCoroutine(self._go(why)).addErrback(self._broken)

    async def _go(self, why: str) -> None:
        handed = await self.suspend(why)
        if handed is not None:
            self.command.execute(handed)

    def _broken(self, failure: Failure) -> None:
        """Nothing listens any more, and nothing waits to be written: the quickest end is the best."""
        _log.failure("restart failed: this process ends, its supervisor has to start another", failure)
        os._exit(1)

    def took_over(self) -> None:
        """The reactor runs and listens to signals: what the process before held back may come now."""
        signal.alarm(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
