"""What is to be appended to one journal, until it is written: what one turn of the reactor gathered is one write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import attrs
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from bitville_apm.agent.segment import Entry, Place

_log = Logger()


class NotWritten(Exception):
    """The journal could not take an entry: whoever sent it must keep it."""


class Waiting(Struct, frozen=True):
    """Entries to be written, `size` bytes: one, or a `group` of which all count or none."""

    entries: Sequence[Entry]
    written: Deferred[Place]
    size: int
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
        size = len(entries[0].body) if len(entries) == 1 else sum(len(entry.body) for entry in entries)
        self._waiting.append(Waiting(entries, written, size, group))
        self.waiting_bytes += size
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
        for some in _together(batch):
            group = some[0].group
            entries = list(some[0].entries) if group else [waiting.entries[0] for waiting in some]
            places = await append(entries, group)
            self.waiting_bytes -= sum([waiting.size for waiting in some])
            if group:
                places = places[-1:]
            for waiting, place in zip(some, places, strict=False):
                waiting.written.callback(place)
            for waiting in some[len(places) :]:
                waiting.written.errback(NotWritten(why()))


def _together(batch: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """What is written at once: a group, or all up to the next one."""
    first = 0
    for last, waiting in enumerate(batch, 1):
        if waiting.group or last == len(batch) or batch[last].group:
            yield batch[first:last]
            first = last
