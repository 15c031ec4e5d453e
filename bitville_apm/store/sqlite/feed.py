"""Records that are sent on, read from the day files behind the marks that `main.db` keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bitville_apm.store.feed import IFeed, Mark, Unsent, Waiting
from bitville_apm.store.sqlite import sending
from bitville_apm.store.sqlite.asking import Asking
from bitville_apm.store.sqlite.files import day_numbered, number_of
from bitville_apm.store.sqlite.main import Main

Thread = Callable[..., Deferred[Any]]
"""Does something in a thread: a function and its arguments."""


@implementer(IFeed)
@attrs.define(eq=False)
class Feed:
    """See `IFeed`. `ask` is for what only reads, `keep` for what uses `main`."""

    _main: Main
    _asking: Asking
    _ask: Thread
    _keep: Thread

    def begin(self, now: float) -> None:
        """See `IFeed`."""
        self._main.begin_feed(now, self._heads())

    def end(self) -> None:
        """See `IFeed`."""
        self._main.end_feed()

    def marks(self) -> Deferred[Mapping[int, Mark]]:
        """See `IFeed`."""
        return self._keep(self._main.marks)

    def unsent(self, marks: Mapping[int, Mark], most: int) -> Deferred[Unsent]:
        """See `IFeed`."""
        return self._ask(self._unsent, marks, most)

    def sent(self, marks: Sequence[Mark]) -> Deferred[None]:
        """See `IFeed`."""
        return self._keep(self._main.keep_marks, marks)

    def _unsent(self, marks: Mapping[int, Mark], most: int) -> Unsent:
        pending = 0
        records: list[Waiting] = []
        for head in self._heads():
            mark = head.behind(marks.get(head.mark.day))
            left = head.left(mark)
            pending += left
            if left and most and not records:
                records = self._behind(mark, most)
        with self._asking.main() as main:
            return Unsent(records=records, pending=pending, dropped=sending.dropped(main))

    def _heads(self) -> list[sending.Head]:
        """How far each day has come, oldest first."""
        heads = self._asking.each_day(None, lambda day: [sending.head(day.db, number_of(day.date))])
        return sorted(heads, key=lambda head: head.mark.day)

    def _behind(self, mark: Mark, most: int) -> list[Waiting]:
        """The next records of one day."""
        date = day_numbered(mark.day)
        return self._asking.each_day(
            None,
            lambda day: sending.behind(day.db, day.names, day.bodies, mark, most),
            wanted=lambda other: other == date,
        )
