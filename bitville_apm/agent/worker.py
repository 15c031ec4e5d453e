"""A thread of its own for work that may block: the reactor's thread never touches a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Run(Protocol):
    """Calls a blocking function elsewhere, one after another, and brings back its result."""

    def __call__(self, function: Callable[..., T], /, *arguments: object) -> Deferred[T]:
        """Hand in one call."""
        ...


@attrs.define(eq=False)
class Worker:
    """One thread; calls are done in the order they were handed in. A `Run`."""

    reactor: IReactorFromThreads
    name: str
    _pool: ThreadPool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPool(1, 1, self.name)

    def start(self) -> None:
        """Begin to work."""
        self._pool.start()

    def __call__(self, function: Callable[..., T], /, *arguments: object) -> Deferred[T]:
        """Hand in one call."""
        return deferToThreadPool(self.reactor, self._pool, function, *arguments)

    def stop(self) -> None:
        """Finish what was handed in, then end the thread. Blocks until then."""
        self._pool.stop()
