"""Traffic for the shop: visits at a steady rate, and now and then a rush on one page.

Visitors do not wait for one another: visits come when they come (exponential gaps), and a few threads carry them
out. Where the machine cannot keep up, visits are left out and counted, so that the demo never piles work up.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable

import attrs

from bitville_apm.demo.visits import Visit, Visits

RATE = 8.0
RUSH_EVERY_S = 180.0
RUSH_AFTER_S = 90.0
RUSH_S = 15.0
RUSH_SHARE = 0.75
"""A rush adds this share of the usual rate, all of it on one page: two cores are busy with it."""
THREADS = 8
WAITING = 16
FAILURE_PAUSE_S = 0.2
STOP_S = 10.0


@attrs.define(eq=False)
class Counts:
    """What became of the visits."""

    answered: int = 0
    failed: int = 0
    left_out: int = 0


@attrs.define(eq=False)
class Traffic:
    """Sends visits until it is stopped. `ask` carries one out and may raise OSError."""

    ask: Callable[[Visit], tuple[int, bytes]]
    rate: float = RATE
    chance: random.Random = attrs.field(factory=random.Random)
    counts: Counts = attrs.field(factory=Counts, init=False)
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _waiting: queue.Queue[Visit] = attrs.field(factory=lambda: queue.Queue(WAITING), init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def start(self) -> None:
        """Begin."""
        jobs = [("arrivals", self._arrive), *((f"visitor-{n}", self._visit) for n in range(THREADS))]
        self._threads = [threading.Thread(target=job, name=name, daemon=True) for name, job in jobs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for the visits that are being answered, but not for a shop that hangs."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _arrive(self) -> None:
        visits = Visits(self.chance)
        started = time.monotonic()
        while True:
            extra = self.rate * RUSH_SHARE if is_rush(time.monotonic() - started) else 0.0
            if self._stopping.wait(self.chance.expovariate(self.rate + extra)):
                return
            visit = visits.rush() if self.chance.random() * (self.rate + extra) < extra else visits.next()
            try:
                self._waiting.put_nowait(visit)
            except queue.Full:
                self._count("left_out")

    def _visit(self) -> None:
        while not self._stopping.is_set():
            try:
                visit = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                self.ask(visit)
            except OSError:
                self._count("failed")
                self._stopping.wait(FAILURE_PAUSE_S)
            else:
                self._count("answered")

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)


def is_rush(elapsed: float) -> bool:
    """Whether there is a rush so many seconds after the start."""
    return elapsed >= RUSH_AFTER_S and (elapsed - RUSH_AFTER_S) % RUSH_EVERY_S < RUSH_S
