"""A journal on a real directory, its thread called in place, and a clock that stands still."""

from __future__ import annotations

import os
import uuid
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.segment import Entry, Record
from bitville_apm.agent.totals import Totals


def at_once(function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
    return maybeDeferred(function, *arguments)


class Slow:
    """A thread that does its work when the test says so."""

    def __init__(self) -> None:
        self.handed: list[tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]] = []

    def __call__(self, function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
        self.handed.append((Deferred(), function, arguments))
        return self.handed[-1][0]

    def work(self) -> None:
        """The first that waits."""
        done, function, arguments = self.handed.pop(0)
        at_once(function, *arguments).chainDeferred(done)


def result(deferred: Deferred[Any]) -> Any:
    """What a Deferred that has fired gave; raises what it failed with."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    (value,) = outcome
    if hasattr(value, "raiseException"):
        value.raiseException()
    return value


def done(coroutine: Any) -> Any:
    return result(Deferred.fromCoroutine(coroutine))


NOW = 1_795_231_300.0


class JournalRig:
    """A journal in a directory, with a clock that stands still."""

    def __init__(self, directory: Path, policy: str = "never") -> None:
        self.directory = directory
        self.clock = Clock()
        self.recent: array[int] = array("Q")
        self.hand: list[Record] = []
        self.journal = Journal(Disk(directory, policy), at_once, self.clock, lambda: NOW, on_open=self.opened)
        done(self.journal.start())

    def opened(self, recent: array[int]) -> None:
        self.recent = recent

    def append(self, *bodies: bytes) -> list[Deferred[None]]:
        deferreds = [self.journal.append(entry(body)) for body in bodies]
        self.clock.advance(0)
        return deferreds

    def take(self, items: int = 500, size: int = limits.BATCH_BYTES) -> list[Record]:
        taken: list[Record] = done(self.journal.take(items, size))
        self.hand += taken
        return taken

    def drain(self, items: int = 500, *, ack: bool = False) -> list[bytes]:
        found: list[Record] = []
        while batch := self.take(items):
            found += batch
            if ack:
                self.settle(batch)
        return [r.entry.body for r in found]

    def settle(self, records: list[Record]) -> None:
        """These and all taken before them are stored."""
        through = records[-1].place
        stored = counted([r for r in self.hand if r.place <= through])
        self.hand = [r for r in self.hand if r.place > through]
        result(self.journal.settle(through, Totals(stored=stored)))

    @property
    def lost(self) -> int:
        """Damaged records, once all that was taken is settled."""
        if self.hand:
            self.settle(self.hand)
        return self.journal.books.totals.corrupt.records

    def again(self, policy: str = "never") -> JournalRig:
        """As after a crash: nothing is closed in order."""
        return JournalRig(self.directory, policy)


def entry(body: bytes) -> Entry:
    return Entry("end", str(uuid.uuid4()), 1_795_231_261_000, body)


def numbered(n: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % i for i in range(start, start + n)]


def files_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


def raising(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse
