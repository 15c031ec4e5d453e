"""What api and pages ask of the store, in the words of the wire: both answer from here, so they never differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.endpoints import endpoint
from bitville_apm.http import HttpProblem
from bitville_apm.interfaces import IExplainer
from bitville_apm.records import canonical_id
from bitville_apm.store.interface import BadCursor, Found, IStore, Load, Page, Point, Projects, Search, Spike, TopRow
from bitville_apm.web.detail import Detail, detail_json, detail_of, found_json
from bitville_apm.web.drifted import Drifted
from bitville_apm.web.parameters import wrong
from bitville_apm.web.ranges import Range, range_of
from bitville_apm.web.seen import Seen
from bitville_apm.web.usual import Usual

T = TypeVar("T")
_MINUTE = 60
_HOUR = 3600
_DAY = 86_400


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


async def together(asking: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Several answers, asked for at once: on a busy machine a question waits longer for its thread than for the store.

    Raises what the first that failed did.
    """
    try:
        return await gatherResults([Deferred.fromCoroutine(one) for one in asking], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise


def page_json(page: Page) -> dict[str, Any]:
    """The answer of a search (wire.md 8)."""
    return {
        "items": [found_json(found) for found in page.items],
        "cursor": page.cursor,
        "hasMore": page.cursor is not None,
    }


def spike_json(spike: Spike) -> dict[str, Any]:
    """A row of `/api/spikes`: all that is kept of a spike but its report, and who was told."""
    told = msgspec.structs.asdict(spike)
    del told["report"], told["told"]
    return told


def report_json(spike: Spike, report: Report) -> dict[str, Any]:
    """What `/api/spikes/<id>` answers: the report, and what is known of the spike beside it."""
    own = {"id": spike.id, "project": spike.project, "hosts": spike.hosts, "revision": spike.revision}
    return {**own, **msgspec.structs.asdict(report)}


def request_json(detail: Detail, seen: Seen) -> dict[str, Any]:
    """What `/api/requests/<id>` answers: the record, and what its database was seen doing."""
    return {**detail_json(detail), "database": seen.json()}


@attrs.frozen
class Questions:
    """The store's answers. `clock` is the reactor; `explainer` explains windows."""

    store: IStore
    clock: IReactorTime
    explainer: IExplainer

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
        return await self.aside(detail_of, stored)

    async def series(
        self, projects: Projects, dimension: str, value: str | None, range_: Range, host: str | None
    ) -> Sequence[Point]:
        """One value of a dimension, or all together, over time."""
        return await self.store.series(projects, dimension, value, range_.start, range_.end, host)

    async def load(self, projects: Projects, start: float, end: float, step: int, host: str | None) -> Sequence[Load]:
        """What each host ran, in steps of so many seconds."""
        return await self.store.load(projects, start, end, step, host)

    async def top_json(self, projects: Projects, top: Top, host: str | None) -> dict[str, Any]:
        """What `/api/top` answers: the values, and over how many seconds their means are to be taken."""
        return {**top.json(), "known_s": await self.known_s(projects, top.range, host)}

    async def known_s(self, projects: Projects, range_: Range, host: str | None) -> float:
        """How many seconds of a range are known: those in which some host told of its load; never none.

        A mean over more than these would be too low, most of all where the first agent has just been started. Minutes
        without a frame are left out, beyond six hours whole hours; the begin and the end are right to a frame. What was
        counted before the first frame (by senders without an agent, in days that are gone) makes all the time from then
        on known, and without any frame the whole range is.
        """
        step = range_.step_s
        steps = {load.at for load in await self.load(projects, range_.start, range_.end, step, host)}
        if not steps:
            return range_.end - range_.start
        counted = await self.series(projects, "endpoint", None, range_, host)
        if counted:
            steps.update(range(counted[0].at, min(steps), step))
        first, last = min(steps), max(steps)
        begins = await self.load(projects, first, first + step, limits.WINDOW_S, host)
        ends = begins if first == last else await self.load(projects, last, last + step, limits.WINDOW_S, host)
        late = min(load.at for load in begins) - first if begins else 0
        early = last + step - limits.WINDOW_S - max(load.at for load in ends) if ends else 0
        return float(len(steps) * step - late - early)

    async def usual(self, projects: Projects, endpoint: str, range_: Range) -> Usual:
        """All requests of an endpoint in a range."""
        return Usual.of(await self.store.series(projects, "endpoint", endpoint, range_.start, range_.end, None))

    async def endpoint_of(self, projects: Projects, url: str) -> str:
        """The endpoint of a URL: of the newest record that has it, else what its path alone would be called."""
        page = await self.search(projects, Search(url=url, source="php_agent", sort="time", limit=1))
        return page.items[0].endpoint if page.items else endpoint("GET", url)

    async def statistics(self, projects: Projects) -> dict[str, Any]:
        """How much there is, in the shape of QUERY-05."""
        counted = await self.store.statistics(projects)
        everything = range_of(0.0, math.ceil(self.now() / _HOUR) * _HOUR, self.now())
        usual = Usual.of(await self.series(projects, "endpoint", None, everything, None))
        return {
            "total_records": counted.requests + counted.observations,
            "total_php_requests": counted.requests,
            "total_postgres_records": counted.observations,
            "counted_requests": usual.count,
            "oldest_timestamp": counted.oldest,
            "newest_timestamp": counted.newest,
            "avg_duration": usual.average,
            "by_source": {"php_agent": counted.requests, "postgres_agent": counted.observations},
        }

    async def compared(self, projects: Projects, id: str) -> dict[str, Any]:
        """One request against all of its endpoint in the day up to its end, in the shape of QUERY-05."""
        found = (await self.detail(projects, id)).found
        if found.duration_ms is None:
            raise wrong("correlation_id", "an observation of a database, no request")
        end = found.at + found.duration_ms / 1000
        range_ = range_of(end - _DAY, end + _MINUTE, self.now())
        usual = await self.usual(frozenset({found.project}), found.endpoint, range_)
        return {
            "request": {
                "correlation_id": found.id,
                "url": found.url,
                "endpoint": found.endpoint,
                "duration_ms": found.duration_ms,
                "timestamp": found.at,
            },
            "comparison": {
                "avg_duration": usual.average,
                "percentile_rank": usual.share(found.duration_ms),
                "faster_than_percent": usual.share(found.duration_ms, slower=True),
                "sample_size": usual.count,
            },
        }

    async def correlation(self, projects: Projects, id: str) -> dict[str, Any]:
        """A request with its statements and what its database was seen doing, in the shape of QUERY-05."""
        canonical = canonical_id(id)
        stored = await self.store.request(projects, canonical)
        others = await self.store.correlated(projects, canonical)
        if stored is None and not others:
            raise HttpProblem(404, f"nothing is known of {id[: limits.PARAMETER_CHARACTERS]}")
        detail = None if stored is None or stored.kind == "pg" else await self.aside(detail_of, stored)
        whole = None if detail is None else detail_json(detail)
        return {
            "correlation_id": canonical,
            "trace": {
                "php_request": whole,
                "sql_queries": [] if whole is None else whole["statements"],
                "other_records": [{**found_json(o.found), "data": msgspec.Raw(o.body)} for o in others],
            },
            "summary": {
                "total_records": (detail is not None) + len(others),
                "php_count": int(detail is not None),
                "postgres_count": len(others),
                "total_sql_time_ms": 0.0 if detail is None else detail.found.sql_ms,
            },
        }

    async def seen(self, found: Found) -> Seen:
        """What the databases of its project were seen doing for a request, and who held it up while it ran."""
        own = frozenset({found.project})
        observed = await self.store.correlated(own, found.id)
        end = found.at + (found.duration_ms or 0.0) / 1000 + limits.WINDOW_S
        wanted = Search(
            source="postgres_agent", endpoint="pg_locks", timestamp_start=found.at, timestamp_end=end, sort="time",
            limit=limits.LOCK_TREES,
        )  # fmt: skip
        trees = [await self.store.request(own, tree.id) for tree in (await self.store.search(own, wanted)).items]
        return Seen.of(found.id, observed, [tree for tree in trees if tree is not None])

    async def watches_database(self, projects: Projects) -> bool:
        """Whether an agent has told of a database on any day that is kept: it does so once a minute at the least."""
        return bool((await self.search(projects, Search(source="postgres_agent", sort="time", limit=1))).items)

    async def spikes(
        self,
        projects: Projects,
        start: float = 0.0,
        end: float | None = None,
        host: str | None = None,
        limit: int = limits.SEARCH_DEFAULT,
    ) -> Sequence[Spike]:
        """The spikes that lasted into a window, newest first, without their reports; open at the end: up to now."""
        behind = self.now() + limits.CLOCK_AHEAD_S if end is None else end
        return await self.store.spikes(projects, start, behind, host, limit)

    async def spike(self, projects: Projects, id: str) -> tuple[Spike, Report]:
        """One spike and its report; 404 where there is none that the caller may see."""
        spike = await self.store.spike(projects, id)
        if spike is None:
            raise HttpProblem(404, f"no spike {id[: limits.PARAMETER_CHARACTERS]}")
        return spike, msgspec.json.decode(spike.report, type=Report)

    async def drifts(self, projects: Projects, limit: int) -> Drifted:
        """What costs more than it did, as the last nights found it."""
        return Drifted.of(await self.store.drifts(projects), limit)

    async def explain(
        self, projects: Projects, start: float | None, end: float | None, host: str | None = None
    ) -> Report:
        """Any window explained against the hour before it; open at the end: up to now. 400 for one of no use."""
        if start is None:
            raise wrong("from", "missing; the window to explain is from … to …")
        end = self.now() if end is None else end
        if end - start < limits.WINDOW_S:
            raise wrong("to", f"less than {limits.WINDOW_S} s after from")
        if end - start > limits.EXPLAIN_WINDOW_S:
            raise wrong("to", f"more than {limits.EXPLAIN_WINDOW_S / 3600:.0f} h after from: ask for a shorter time")
        report: Report = await self.explainer.explain(projects, start, end, host)
        return report

    async def projects(self, projects: Projects) -> list[str]:
        """The projects that sent anything."""
        return sorted(await self.store.projects(projects))

    async def hosts(self, projects: Projects) -> list[str]:
        """The hosts that sent anything."""
        return sorted(await self.store.hosts(projects))

    def aside(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Call in a thread what takes tens of milliseconds on a large profile: too long between two agents' batches."""
        if IReactorThreads.providedBy(self.clock):
            return deferToThreadPool(self.clock, self.clock.getThreadPool(), function, *arguments)
        return succeed(function(*arguments))
