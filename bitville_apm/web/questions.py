"""What api and pages ask of the store, in the words of the wire: both answer from here, so they never differ."""

from __future__ import annotations

import math
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

from bitville_apm import limits
from bitville_apm.http import HttpProblem
from bitville_apm.records import canonical_id
from bitville_apm.store.interface import BadCursor, IStore, Page, Projects, Search, Stored, TopRow
from bitville_apm.web.detail import Detail, detail_of, found_json
from bitville_apm.web.parameters import wrong

_MINUTE = 60
_HOUR = 3600


@attrs.frozen
class Range:
    """From when to when, unix seconds; `widened` where whole hours are all that is kept for so long a time."""

    start: float
    end: float
    widened: bool = False


def range_of(start: float | None, end: float | None, now: float) -> Range:
    """The range that rolls can answer: whole minutes, beyond six hours whole hours; by default the last hour.

    Raises `HttpProblem` for a range that ends before it begins.
    """
    if end is None:
        end = math.ceil(now / _MINUTE) * _MINUTE if start is None or start < now else start + _HOUR
    if start is None:
        start = end - _HOUR
    if end <= start:
        raise wrong("to", "not after from")
    step = _MINUTE
    asked = Range(math.floor(start / step) * step, math.ceil(end / step) * step)
    if asked.end - asked.start <= limits.MINUTES_WINDOW_S:
        return asked
    step = _HOUR
    return Range(math.floor(start / step) * step, math.ceil(end / step) * step, widened=True)


@attrs.frozen
class Top:
    """The heaviest values of a dimension."""

    dimension: str
    range: Range
    rows: list[TopRow]

    def json(self) -> dict[str, Any]:
        """As wire.md 8 has it, and whether the range had to be widened."""
        return {
            "dimension": self.dimension,
            "from": self.range.start,
            "to": self.range.end,
            "widened": self.range.widened,
            "items": [msgspec.structs.asdict(row) for row in self.rows],
        }


def page_json(page: Page) -> dict[str, Any]:
    """The answer of a search (wire.md 8)."""
    return {
        "items": [found_json(found) for found in page.items],
        "cursor": page.cursor,
        "hasMore": page.cursor is not None,
    }


@attrs.frozen
class Questions:
    """The store's answers. `clock` is the reactor."""

    store: IStore
    clock: IReactorTime

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.seconds()

    async def search(self, projects: Projects, search: Search) -> Page:
        """Records that match; 400 for a cursor of another search."""
        try:
            return await self.store.search(projects, search)
        except BadCursor:
            raise wrong("after", "no cursor of this search") from None

    async def top(self, projects: Projects, dimension: str, range_: Range, host: str | None, limit: int) -> Top:
        """The heaviest values of a dimension over a range of `range_of`."""
        rows = await self.store.top(projects, dimension, range_.start, range_.end, host, limit)
        return Top(dimension, range_, list(rows))

    async def detail(self, projects: Projects, id: str) -> Detail:
        """One record; 404 where there is none that the caller may see."""
        stored = await self.store.request(projects, canonical_id(id))
        if stored is None:
            raise HttpProblem(404, f"no request {id[: limits.PARAMETER_CHARACTERS]}")
        return await self._read(stored)

    async def projects(self, projects: Projects) -> list[str]:
        """The projects that sent anything."""
        return sorted(await self.store.projects(projects))

    async def hosts(self, projects: Projects) -> list[str]:
        """The hosts that sent anything."""
        return sorted(await self.store.hosts(projects))

    def _read(self, stored: Stored) -> Deferred[Detail]:
        # A profile of a megabyte takes tens of milliseconds: too long between two agents' batches.
        if IReactorThreads.providedBy(self.clock):
            return deferToThreadPool(self.clock, self.clock.getThreadPool(), detail_of, stored)
        return succeed(detail_of(stored))
