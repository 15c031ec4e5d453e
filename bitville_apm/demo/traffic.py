"""Traffic for the shop: visits at a steady rate, and now and then a crowd beside them.

Visitors do not wait for one another: visits come when they come (exponential gaps), and a few threads carry them
out. Where the machine cannot keep up, visits are left out and counted, so that the demo never piles work up. A crowd
is bounded in another way: each of it asks for the next page only when it has the last one.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from bitville_apm.demo.visits import Visit, Visits

RATE = 8.0
THREADS = 8
WAITING = 16
FAILURE_PAUSE_S = 0.2
STOP_S = 10.0

Ask = Callable[[Visit], tuple[int, bytes]]
"""Carries a visit out, and may raise OSError."""


@attrs.define(eq=False)
class Counts:
    """What became of the visits."""

    answered: int = 0
    failed: int = 0
    left_out: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def add(self, what: str) -> None:
        """One more of them, from any thread."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)


@attrs.define(eq=False)
class Traffic:
    """Sends visits until it is stopped."""

    ask: Ask
    rate: float = RATE
    chance: random.Random = attrs.field(factory=random.Random)
    threads: int = THREADS
    weights: Sequence[float] | None = None
    counts: Counts = attrs.field(factory=Counts, init=False)
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _waiting: queue.Queue[Visit] = attrs.field(factory=lambda: queue.Queue(WAITING), init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list, init=False)

    def start(self) -> None:
        """Begin."""
        jobs = [("arrivals", self._arrive), *((f"visitor-{n}", self._visit) for n in range(self.threads))]
        self._threads = [threading.Thread(target=job, name=name, daemon=True) for name, job in jobs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and wait for the visits that are being answered, but not for a shop that hangs."""
        self._stopping.set()
        _join(self._threads)

    def _arrive(self) -> None:
        visits = Visits(self.chance) if self.weights is None else Visits(self.chance, self.weights)
        while not self._stopping.wait(self.chance.expovariate(self.rate)):
            try:
                self._waiting.put_nowait(visits.next())
            except queue.Full:
                self.counts.add("left_out")

    def _visit(self) -> None:
        while not self._stopping.is_set():
            try:
                visit = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            _carry_out(self.ask, visit, self.counts, self._stopping)


@attrs.define(eq=False)
class Crowd:
    """So many visitors who ask for one page after the other, without a pause, until it is stopped."""

    ask: Ask
    visits: Callable[[], Visit]
    size: int
    counts: Counts
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list, init=False)

    def start(self) -> None:
        """Begin."""
        self._threads = [threading.Thread(target=self._visit, name="crowd", daemon=True) for _ in range(self.size)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the visits being answered."""
        self._stopping.set()
        _join(self._threads)

    def _visit(self) -> None:
        while not self._stopping.is_set():
            _carry_out(self.ask, self.visits(), self.counts, self._stopping)


def _carry_out(ask: Ask, visit: Visit, counts: Counts, stopping: threading.Event) -> None:
    try:
        ask(visit)
    except OSError:
        counts.add("failed")
        stopping.wait(FAILURE_PAUSE_S)
    else:
        counts.add("answered")


def _join(threads: Sequence[threading.Thread]) -> None:
    deadline = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
