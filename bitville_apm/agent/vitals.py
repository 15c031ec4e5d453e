"""The agent's own signs of life: memory, garbage collection, and the heartbeat file that PHP clients look at.

The heartbeat is touched each second while the reactor turns and no append has waited over a second: a client
that finds it old stops waiting for acks (design.md 3), and goes on sending.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.worker import Run
from bitville_apm.garbage import Garbage
from bitville_apm.repeated import Repeated

_log = Logger()


@attrs.define(eq=False)
class Vitals:
    """`stalled_for` is how long the journals' longest write in hand has taken, seconds; `requests` counts them."""

    heartbeat: Path
    run: Run
    clock: IReactorTime
    stalled_for: Callable[[], float]
    requests: Callable[[], int]
    memory_mb: float = 0.0
    _garbage: Garbage = attrs.Factory(Garbage)
    _collected_at: int = 0
    _collected: float = 0.0
    _busy: bool = False
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    @property
    def gc_runs(self) -> int:
        """How often garbage was collected."""
        return self._garbage.runs

    def start(self) -> None:
        """Begin. From here on garbage is collected between two turns of the reactor (DAEMON-03)."""
        self._garbage.start()
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.HEARTBEAT_S)

    def stop(self) -> None:
        """End."""
        self._garbage.stop()
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def _collect(self) -> None:
        """Each 100 requests, or once a minute."""
        requests, now = self.requests(), self.clock.seconds()
        if requests - self._collected_at < limits.GC_REQUESTS and now - self._collected < limits.GC_IDLE_S:
            return
        self._collected_at, self._collected = requests, now
        self._garbage.collect()

    def tick(self) -> None:
        """One beat."""
        self._collect()
        if self._busy:
            return
        self._busy = True
        beats = self.stalled_for() <= limits.STALLED_S
        done: Deferred[float] = self.run(_sign, self.heartbeat if beats else None)
        done.addCallbacks(self._signed, self._failed)
        done.addBoth(self._free)

    def _signed(self, memory_mb: float) -> None:
        self.memory_mb = memory_mb

    def _failed(self, failure: Failure) -> None:
        n = self._repeated.due("heartbeat", self.clock.seconds())
        if n:
            _log.warn("heartbeat {path} failed {n} times: {error}", path=str(self.heartbeat), n=n, error=failure.value)

    def _free(self, _: object) -> None:
        self._busy = False


def _sign(heartbeat: Path | None) -> float:
    """Touch the heartbeat; gives back resident memory in MiB."""
    with open("/proc/self/statm", "rb") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / limits.MIB
    if heartbeat is not None:
        try:
            os.utime(heartbeat)
        except FileNotFoundError:
            descriptor = os.open(heartbeat, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            os.fchmod(descriptor, 0o644)
            os.close(descriptor)
    return memory
