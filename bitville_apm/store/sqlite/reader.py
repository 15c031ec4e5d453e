"""Questions, answered from several day files at once: what is asked of each, and how answers are put together."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import (
    Drifts,
    Framed,
    Load,
    Page,
    Point,
    Projects,
    Search,
    Spike,
    Statistics,
    Stored,
    TopRow,
)
from bitville_apm.store.sqlite import counting, drifts, loads, packing, ranks, searching, spikes, tops
from bitville_apm.store.sqlite.asking import Asking, Day
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.files import day_of

T = TypeVar("T")
_log = Logger()


@attrs.define(eq=False)
class Reader:
    """The questions of `IStore`, answering at once. Any number of threads may ask at the same time."""

    asking: Asking

    def search(self, projects: Projects, search: Search) -> Page:
        """See `IStore.search`. Each day is only asked for what can still get onto the page."""
        after, best = searching.rank_of(search), searching.Best(search.limit)

        def of_day(day: Day) -> Iterable[None]:
            for project, number in day.projects.items():
                best.add(searching.Asked(day.db, number, project, search, after, best.floor).rows())
            return ()

        self.asking.each_day(projects, of_day)
        return best.page(search)

    def request(self, projects: Projects, id: str) -> Stored | None:
        """See `IStore.request`. Of several (a died and its end, or one id in two projects) an end comes first."""
        wanted = searching.id_bytes(id)
        found = self.asking.each_day(
            projects,
            lambda day: (
                stored
                for project, number in day.projects.items()
                for stored in (*_request(day.db, project, number, wanted), *_postgres(day.db, project, number, wanted))
            ),
        )
        return min(found, key=lambda stored: (stored.kind == "pg", stored.found.died), default=None)

    def top(
        self, projects: Projects, dimension: str, start: float, end: float, host: str | None, limit: int
    ) -> Sequence[TopRow]:
        """See `IStore.top`."""
        asked = tops.Asked.of(dimension, start, end, host)
        weights = self._weights(projects, asked, every=False)
        if len(weights) < limit:
            weights = self._weights(projects, asked, every=True)
        wanted = tops.ranked(weights)[:limit]
        totals = {value: tops.Total() for value in wanted}
        for value, total in self.asking.each_roll(projects, asked, lambda file: asked.totals(file, wanted)):
            totals[value].add(total)
        return [total.row(value) for value, total in totals.items()]

    def _weights(self, projects: Projects, asked: tops.Asked, every: bool) -> dict[str, ranks.Rank]:
        found = self.asking.each_roll(projects, asked, lambda file: asked.weights(file, every))
        return ranks.together({}, found)

    def series(
        self, projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Sequence[Point]:
        """See `IStore.series`."""
        asked = tops.Asked.of(dimension, start, end, host)
        totals: dict[int, tops.Total] = {}

        for minute, total in self.asking.each_roll(projects, asked, lambda file: asked.times(file, value)):
            totals.setdefault(minute, tops.Total()).add(total)
        label = value if value is not None else ""
        return [Point(minute * 60, totals[minute].row(label), totals[minute].histogram) for minute in sorted(totals)]

    def load(self, projects: Projects, start: float, end: float, step: int, host: str | None) -> Sequence[Load]:
        """See `IStore.load`."""
        first, last = day_of(start // step * step), day_of(-(-end // step) * step)  # whole steps

        def of_day(day: Day) -> Iterable[tuple[loads.Key, loads.Step]]:
            number = day.number(host) if host is not None else None
            if host is not None and number is None:
                return
            for project in day.projects.values():
                yield from loads.steps(day.db, project, start, end, step, number, day.names)

        return loads.together(self.asking.each_day(projects, of_day, wanted=lambda date: first <= date <= last))

    def statistics(self, projects: Projects) -> Statistics:
        """See `IStore.statistics`."""
        days = self.asking.each_day(
            projects, lambda day: [counting.counted(day.db, number) for number in day.projects.values()]
        )
        return counting.together(days)

    def correlated(self, projects: Projects, id: str) -> Sequence[Stored]:
        """See `IStore.correlated`."""
        wanted = searching.id_bytes(id)
        found = self.asking.each_day(
            projects,
            lambda day: (
                stored
                for project, number in day.projects.items()
                for stored in _postgres(day.db, project, number, wanted, "correlation")
            ),
        )
        return sorted(found, key=lambda stored: (stored.found.at, stored.found.id))[: limits.CORRELATED]

    def frames(
        self,
        projects: Projects,
        start: float,
        end: float,
        host: str | None,
        cells: bool = True,
        columns: Collection[str] | None = None,
    ) -> Sequence[Framed]:
        """See `IStore.frames`."""
        first, last = day_of(start), day_of(end)

        def of_day(day: Day) -> Iterable[Framed]:
            number = day.number(host) if host is not None else None
            if host is not None and number is None:
                return
            for project, its in day.projects.items():
                for where, body in day.db.execute(
                    "SELECT host, body FROM frame WHERE project = ? AND at >= ? AND at < ?"
                    " AND (?4 IS NULL OR host = ?4)",
                    (its, start, end, number),
                ):
                    plain = day.bodies.decompress(body)
                    frame = packing.unpacked(plain, day.names.__getitem__, cells, columns)
                    yield Framed(project=project, host=day.names[where], frame=frame)

        found = self.asking.each_day(projects, of_day, wanted=lambda date: first <= date <= last)
        return sorted(found, key=lambda framed: framed.frame.at)

    def spikes(
        self, projects: Projects, start: float, end: float, host: str | None, limit: int, signature: str | None
    ) -> Sequence[Spike]:
        """See `IStore.spikes`."""
        with self.asking.main() as main:
            return spikes.found(main, projects, start, end, host, limit, signature)

    def spike(self, projects: Projects, id: str) -> Spike | None:
        """See `IStore.spike`."""
        with self.asking.main() as main:
            return spikes.one(main, projects, id)

    def drifts(self, projects: Projects) -> Sequence[Drifts]:
        """See `IStore.drifts`."""
        with self.asking.main() as main:
            return drifts.kept(main, projects)

    def projects(self, projects: Projects) -> Sequence[str]:
        """See `IStore.projects`."""
        return sorted(set(self.asking.each_day(projects, lambda day: day.projects)))

    def hosts(self, projects: Projects) -> Sequence[str]:
        """See `IStore.hosts`."""
        question = "SELECT text FROM presence JOIN name ON name.id = host WHERE project = ?"
        return sorted(
            set(
                self.asking.each_day(
                    projects,
                    lambda day: (
                        host for number in day.projects.values() for (host,) in day.db.execute(question, (number,))
                    ),
                )
            )
        )


def _request(db: sqlite3.Connection, project: str, number: int, id: bytes) -> Iterable[Stored]:
    for row in db.execute(
        f"SELECT {searching.COLUMNS}, r.recv_ms, r.client_id, body FROM request r JOIN payload USING (row)"  # noqa: S608
        " WHERE project = ? AND id = ?",
        (number, id),
    ):
        *columns, recv_ms, client_id, body = row
        found = searching.found_request(project, tuple(columns))
        yield _stored(found, row[1], recv_ms, client_id, Bodies(db).decompress(body))


def _postgres(
    db: sqlite3.Connection, project: str, number: int, id: bytes, column: Literal["id", "correlation"] = "id"
) -> Iterable[Stored]:
    for row in db.execute(
        f"SELECT {searching.POSTGRES_COLUMNS}, r.recv_ms, r.body FROM postgres r WHERE project = ? AND {column} = ?"  # noqa: S608
        " ORDER BY at LIMIT ?",
        (number, id, limits.CORRELATED),
    ):
        *columns, recv_ms, body = row
        yield _stored(
            searching.found_postgres(project, tuple(columns)), "pg", recv_ms, None, Bodies(db).decompress(body)
        )


def _stored(found: Any, kind: str, recv_ms: int, client_id: str | None, body: bytes) -> Stored:
    return Stored(found=found, kind=kind, recv_ms=recv_ms, client_id=client_id, body=body)
