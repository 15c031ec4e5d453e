"""What frames cannot tell of a spike: requests to look at, what was in flight, who held which lock, earlier spikes.

Each part may fail by itself: a report without it is better than none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.analysis.report import Before, Blocking, Example, Flying, Report
from bitville_apm.cells import percentile
from bitville_apm.store.interface import Found, Framed, IStore, Search

T = TypeVar("T")
_log = Logger()


class _Node(msgspec.Struct):
    """One session of a lock tree, as the agent sends it."""

    depth: int
    session: str = ""
    state: str = ""
    statement: str = ""
    blocked: int = 0


class _Data(msgspec.Struct):
    tree: list[_Node] = []
    waiting: int = 0


class _Locks(msgspec.Struct):
    """An observation of `pg_locks`, of which only this much is looked at."""

    data: _Data


_locks = msgspec.json.Decoder(_Locks)


async def beside(store: IStore, project: str, report: Report, now: float, own: str | None = None) -> Report:
    """The report with what the store knows beside frames. `own` is the spike's id, None for a window picked by hand."""
    projects = frozenset({project})
    end = now if report.end is None else report.end

    async def tried(part: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        try:
            return await part()
        except Exception:  # noqa: BLE001 - whatever it is, the rest of the report is still worth having
            _log.failure("a part of a report could not be told")
            return []

    if report.kind == "none":
        return report
    return msgspec.structs.replace(
        report,
        examples=await tried(lambda: _examples(store, projects, report, end)),
        in_flight=await tried(lambda: _in_flight(store, projects, report.peak)),
        locks=await tried(lambda: _lock_tree(store, projects, report.peak)),
        seen_before=await tried(lambda: _seen_before(store, projects, report, own)),
    )


def endpoint_of(report: Report) -> str | None:
    """The endpoint of the first cause that has one."""
    for cause in report.causes:
        steps = [(step.dimension, step.value) for step in cause.story] + [(cause.dimension, cause.value)]
        for dimension, value in steps:
            if dimension == "endpoint" and not value.startswith("~"):
                return value
    return None


# --- Requests ---------------------------------------------------------------------------------------------


async def _examples(store: IStore, projects: frozenset[str], report: Report, end: float) -> list[Example]:
    """Of the cause's endpoint, or of all where no cause has one: the slowest, one that died, one that is typical."""
    endpoint = endpoint_of(report)
    start = report.onset - limits.WINDOW_S
    search = Search(
        source="php_agent", endpoint=endpoint, timestamp_start=start, timestamp_end=end, limit=limits.SEARCH_LIMIT
    )
    rows = (await store.search(projects, search)).items
    picked: list[tuple[Any, Found | None]] = [("slowest", next((row for row in rows if not row.died), None))]
    if endpoint is not None:
        picked.append(("median", await _typical(store, projects, endpoint, start, end)))
    picked.append(("died", next((row for row in rows if row.died), None)))
    made, seen = [], set()
    for why, row in picked:
        if row is not None and row.id not in seen:
            seen.add(row.id)
            made.append(_example(why, row))
    return made


async def _typical(store: IStore, projects: frozenset[str], endpoint: str, start: float, end: float) -> Found | None:
    """A stored request about as long as the median of all that were counted."""
    histogram: dict[int, int] = {}
    for point in await store.series(projects, "endpoint", endpoint, start // 60 * 60, end + 60, None):
        for i, count in point.histogram.items():
            histogram[i] = histogram.get(i, 0) + count
    us = percentile(histogram, 0.5)
    if us is None:
        return None
    search = Search(
        source="php_agent", endpoint=endpoint, timestamp_start=start, timestamp_end=end, limit=limits.SEARCH_LIMIT,
        duration_min=us / 1000 * 0.75, duration_max=us / 1000 * 1.33,
    )  # fmt: skip
    rows = (await store.search(projects, search)).items
    return min(rows, key=lambda row: abs((row.duration_ms or 0.0) - us / 1000), default=None)


def _example(why: Any, row: Found) -> Example:
    return Example(
        why=why, id=row.id, at=row.at, host=row.host, endpoint=row.endpoint, method=row.method, url=row.url,
        status=row.status, duration_ms=row.duration_ms or 0.0,
    )  # fmt: skip


async def _in_flight(store: IStore, projects: frozenset[str], peak: float) -> list[Flying]:
    """The requests that ran at the worst second, the oldest first: those that are stored, and those that looks saw."""
    search = Search(
        source="php_agent", timestamp_start=peak - limits.FLYING_S, timestamp_end=peak, limit=limits.SEARCH_LIMIT
    )
    rows = (await store.search(projects, search)).items
    flying = {row.id: _flying(row, peak) for row in rows if row.at + (row.duration_ms or 0.0) / 1000 >= peak}
    start = peak - peak % limits.WINDOW_S
    framed = await store.frames(projects, start, start + limits.WINDOW_S, None, columns=())
    looked = [(id, host) for id, host in _looked_at(framed) if id not in flying][: limits.FLYING_LOOKED]
    for id, host in looked:
        stored = await store.request(projects, id)
        if stored is None:
            flying[id] = Flying(id=id, endpoint="still running", host=host, age_ms=(peak - start) * 1000)
        elif stored.found.at <= peak <= stored.found.at + (stored.found.duration_ms or 0.0) / 1000:
            flying[id] = _flying(stored.found, peak)
    return sorted(flying.values(), key=lambda one: (-one.age_ms, one.id))[: limits.FLYING]


def _flying(row: Found, peak: float) -> Flying:
    return Flying(id=row.id, endpoint=row.endpoint, host=row.host, age_ms=max(0.0, peak - row.at) * 1000)


def _looked_at(frames: Iterable[Framed]) -> Iterable[tuple[str, str]]:
    """The requests that a window names one by one: over a hundredth of it."""
    for framed in frames:
        table = framed.frame.cells.get("request")
        if table is not None:
            yield from ((value, framed.host) for value in table.values if not value.startswith("~"))


# --- The database, and the past ---------------------------------------------------------------------------


async def _lock_tree(store: IStore, projects: frozenset[str], peak: float) -> list[Blocking]:
    """The lock tree nearest the worst second in which anybody waited."""
    search = Search(
        source="postgres_agent", endpoint="pg_locks", timestamp_start=peak - limits.LOCKS_NEAR_S,
        timestamp_end=peak + limits.LOCKS_NEAR_S, sort="time", limit=limits.SEARCH_LIMIT,
    )  # fmt: skip
    rows = sorted((await store.search(projects, search)).items, key=lambda row: abs(row.at - peak))
    for row in rows[: limits.LOCKS_LOOKED]:
        stored = await store.request(frozenset({row.project}), row.id)
        try:
            found = _locks.decode(stored.body).data if stored is not None else _Data()
        except msgspec.MsgspecError:
            continue  # the first version's, or another's shape
        if found.waiting and found.tree:
            return [
                Blocking(depth=n.depth, session=n.session, state=n.state, statement=n.statement, blocked=n.blocked)
                for n in found.tree[: limits.LOCKS_SHOWN]
            ]
    return []


async def _seen_before(store: IStore, projects: frozenset[str], report: Report, own: str | None) -> list[Before]:
    """Earlier spikes of the same cause, the last first."""
    if not report.signature:
        return []
    found = await store.spikes(projects, 0.0, report.onset, None, limits.SEEN_BEFORE + 1, report.signature)
    others = [one for one in found if one.id != own and one.onset < report.onset]
    return [Before(id=one.id, onset=one.onset, verdict=one.verdict) for one in others[: limits.SEEN_BEFORE]]
