"""What is to be appended to one journal, until it is written: what one turn of the reactor gathered is one write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import groupby
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from bitville_apm.agent.segment import Entry, Place

_log = Logger()


class NotWritten(Exception):
    """The journal could not take an entry: whoever sent it must keep it."""


@attrs.frozen
class Waiting:
    """Entries to be written; `group` when all count or none."""

    entries: Sequence[Entry]
    written: Deferred[Place]
    group: bool = False


@attrs.define(eq=False)
class Appends:
    """They wait here while a write is in hand, and the next takes all of them.

    `write` writes such a batch, with the help of `answer`. `waiting_bytes` is what is held in memory for it.
    """

    clock: IReactorTime
    write: Callable[[Sequence[Waiting]], Coroutine[Any, Any, None]]
    waiting_bytes: int = 0
    _waiting: list[Waiting] = attrs.Factory(list)
    _writing_since: float | None = None

    def add(self, entries: Sequence[Entry], group: bool) -> Deferred[Place]:
        """One more: fires with the place of the last entry, or fails with `NotWritten`."""
        written: Deferred[Place] = Deferred()
        self._waiting.append(Waiting(entries, written, group))
        self.waiting_bytes += _size(entries)
        if self._writing_since is None:
            self._writing_since = self.clock.seconds()
            self.clock.callLater(0, self._next)
        return written

    @property
    def in_hand(self) -> bool:
        """Whether something is being written."""
        return self._writing_since is not None

    def stalled_for(self, now: float) -> float:
        """Seconds that the write in hand has taken so far; 0 when there is none."""
        return 0.0 if self._writing_since is None else now - self._writing_since

    def _next(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self._writing_since = None
            return
        self._writing_since = self.clock.seconds()
        done = Deferred.fromCoroutine(self.write(batch))
        done.addErrback(lambda failure: _log.failure("journal: append failed", failure=failure))
        done.addCallback(lambda _: self._next())

    async def answer(
        self,
        batch: Sequence[Waiting],
        append: Callable[[list[Entry], bool], Awaitable[Sequence[Place]]],
        why: Callable[[], str],
    ) -> None:
        """Have a batch appended, a group by itself, and tell each who waits for it.

        `append` gives the places of as many as were written, `why` what kept it from the others.
        """
        for group, together in groupby(batch, key=lambda waiting: waiting.written if waiting.group else None):
            some = list(together)
            places = await append([entry for waiting in some for entry in waiting.entries], group is not None)
            self.waiting_bytes -= sum(_size(waiting.entries) for waiting in some)
            if group is not None and places:
                places = places[-1:]
            for number, waiting in enumerate(some):
                if number < len(places):
                    waiting.written.callback(places[number])
                else:
                    waiting.written.errback(NotWritten(why()))


def _size(entries: Iterable[Entry]) -> int:
    return sum(len(entry.body) for entry in entries)
