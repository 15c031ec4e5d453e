"""Questions, answered from several day files at once. Each opens its files read-only and closes them again.

Every question goes through `_each_day`, which hands out a day together with the projects in it that the caller
may see: nothing below it reaches another project's rows (STOR-04).
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import (
    BadCursor,
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
    TooSlow,
    TopRow,
)
from bitville_apm.store.sqlite import counting, drifts, loads, packing, ranks, searching, spikes, tops
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.days import inode_of
from bitville_apm.store.sqlite.files import day_numbered, day_of, days_in, is_damage, number_of, open_reader
from bitville_apm.store.sqlite.pool import MAIN, Names, Pool

T = TypeVar("T")
_log = Logger()


@attrs.frozen
class _Day:
    """One open day file, and the visible projects in it with their numbers."""

    db: sqlite3.Connection
    projects: dict[str, int]
    names: Names
    bodies: Bodies

    def number(self, name: str) -> int | None:
        """The number of a name in this file."""
        row = self.db.execute("SELECT id FROM name WHERE text = ?", (name,)).fetchone()
        return int(row[0]) if row else None


@attrs.define(eq=False)
class Reader:
    """The questions of `IStore`, answering at once. Any number of threads may ask at the same time."""

    directory: Path
    damaged: dict[datetime.date, str] = attrs.field(factory=dict)
    """Days that could not be read, and why."""
    stopping: bool = False
    """Set when the store stops: questions under way are given up."""
    pool: Pool = attrs.field(factory=Pool)
    on_damage: Callable[[datetime.date, str, int | None, bool], None] = lambda date, why, inode, certain: None
    """Called when a day could not be read: why, which file it was, and whether that is damage for certain."""

    def search(self, projects: Projects, search: Search) -> Page:
        """See `IStore.search`. Each day is only asked for what can still get onto the page."""
        after, best = searching.rank_of(search), searching.Best(search.limit)

        def of_day(day: _Day) -> Iterable[None]:
            for project, number in day.projects.items():
                best.add(searching.Asked(day.db, number, project, search, after, best.floor).rows())
            return ()

        self._each_day(projects, of_day)
        return best.page(search)

    def request(self, projects: Projects, id: str) -> Stored | None:
        """See `IStore.request`. Of several (a died and its end, or one id in two projects) an end comes first."""
        wanted = searching.id_bytes(id)
        found = self._each_day(
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
        for value, total in self._each_roll(projects, asked, lambda file: asked.totals(file, wanted)):
            totals[value].add(total)
        return [total.row(value) for value, total in totals.items()]

    def _weights(self, projects: Projects, asked: tops.Asked, every: bool) -> dict[str, ranks.Rank]:
        found = self._each_roll(projects, asked, lambda file: asked.weights(file, every))
        return ranks.together({}, found)

    def series(
        self, projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Sequence[Point]:
        """See `IStore.series`."""
        asked = tops.Asked.of(dimension, start, end, host)
        totals: dict[int, tops.Total] = {}

        for minute, total in self._each_roll(projects, asked, lambda file: asked.times(file, value)):
            totals.setdefault(minute, tops.Total()).add(total)
        label = value if value is not None else ""
        return [Point(minute * 60, totals[minute].row(label), totals[minute].histogram) for minute in sorted(totals)]

    def load(self, projects: Projects, start: float, end: float, step: int, host: str | None) -> Sequence[Load]:
        """See `IStore.load`."""
        first, last = day_of(start // step * step), day_of(-(-end // step) * step)  # whole steps

        def of_day(day: _Day) -> Iterable[tuple[loads.Key, loads.Step]]:
            number = day.number(host) if host is not None else None
            if host is not None and number is None:
                return
            for project in day.projects.values():
                yield from loads.steps(day.db, project, start, end, step, number, day.names)

        return loads.together(self._each_day(projects, of_day, wanted=lambda date: first <= date <= last))

    def statistics(self, projects: Projects) -> Statistics:
        """See `IStore.statistics`."""
        days = self._each_day(
            projects, lambda day: [counting.counted(day.db, number) for number in day.projects.values()]
        )
        return counting.together(days)

    def correlated(self, projects: Projects, id: str) -> Sequence[Stored]:
        """See `IStore.correlated`."""
        wanted = searching.id_bytes(id)
        found = self._each_day(
            projects,
            lambda day: (
                stored
                for project, number in day.projects.items()
                for stored in _postgres(day.db, project, number, wanted, "correlation")
            ),
        )
        return sorted(found, key=lambda stored: (stored.found.at, stored.found.id))[: limits.CORRELATED]

    def _each_roll(self, projects: Projects, asked: tops.Asked, ask: Callable[[tops.File], Iterable[T]]) -> list[T]:
        """What every day's rolls say: its file's, or those that `main.db` keeps of a day without one."""
        first, last = asked.days
        check = self._clock()
        answered: set[datetime.date] = set()
        found = self._each_day(
            projects,
            lambda day: [
                row
                for number in day.projects.values()
                for row in ask(tops.File(day.db, day.bodies, day.names, number, check))
            ],
            answered,
            lambda date: first <= number_of(date) <= last,
        )
        with self.pool.borrowed(MAIN, self.directory / "main.db") as lent, self._timed(lent.db):
            main = lent.db
            question = (
                "SELECT day, text, project FROM presence JOIN name ON name.id = project WHERE day BETWEEN ? AND ?"
            )
            for day, name, number in main.execute(question, (first, last)).fetchall():
                if day_numbered(day) not in answered and (projects is None or name in projects):
                    # No name is remembered: there a number may be another's later.
                    found += ask(tops.File(main, lent.bodies, {}, number, check, day))
        return found

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

        def of_day(day: _Day) -> Iterable[Framed]:
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

        found = self._each_day(projects, of_day, wanted=lambda date: first <= date <= last)
        return sorted(found, key=lambda framed: framed.frame.at)

    def spikes(
        self, projects: Projects, start: float, end: float, host: str | None, limit: int, signature: str | None
    ) -> Sequence[Spike]:
        """See `IStore.spikes`."""
        with contextlib.closing(open_reader(self.directory / "main.db")) as main, self._timed(main):
            return spikes.found(main, projects, start, end, host, limit, signature)

    def spike(self, projects: Projects, id: str) -> Spike | None:
        """See `IStore.spike`."""
        with contextlib.closing(open_reader(self.directory / "main.db")) as main, self._timed(main):
            return spikes.one(main, projects, id)

    def drifts(self, projects: Projects) -> Sequence[Drifts]:
        """See `IStore.drifts`."""
        with contextlib.closing(open_reader(self.directory / "main.db")) as main, self._timed(main):
            return drifts.kept(main, projects)

    def projects(self, projects: Projects) -> Sequence[str]:
        """See `IStore.projects`."""
        return sorted(set(self._each_day(projects, lambda day: day.projects)))

    def hosts(self, projects: Projects) -> Sequence[str]:
        """See `IStore.hosts`."""
        question = "SELECT text FROM presence JOIN name ON name.id = host WHERE project = ?"
        return sorted(
            set(
                self._each_day(
                    projects,
                    lambda day: (
                        host for number in day.projects.values() for (host,) in day.db.execute(question, (number,))
                    ),
                )
            )
        )

    def _each_day(
        self,
        projects: Projects,
        ask: Callable[[_Day], Iterable[T]],
        answered: set[datetime.date] | None = None,
        wanted: Callable[[datetime.date], bool] = lambda date: True,
    ) -> list[T]:
        """What every wanted day says, newest first; `answered` gets those that did. A damaged day is left out and
        noted. Raises `TooSlow`.
        """
        found: list[T] = []
        until = time.monotonic() + limits.READ_S
        for date, path in days_in(self.directory).items():
            if not wanted(date):
                continue
            inode = inode_of(path)
            try:
                with self.pool.borrowed(date, path) as lent, self._timed(lent.db, until):
                    db = lent.db
                    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                        continue  # the writer is just making it
                    found += list(ask(_Day(db, _visible(db, projects), lent.names, lent.bodies)))
                    if answered is not None:
                        answered.add(date)
                    self.damaged.pop(date, None)
            except (TooSlow, BadCursor):
                raise
            except Exception as error:  # noqa: BLE001 - a damaged row may go wrong anywhere; the others have answers
                if not path.exists():
                    continue  # its time was over
                if date not in self.damaged:
                    _log.error("{name} cannot be read: {error}", name=path.name, error=str(error))
                self.damaged[date] = str(error)
                self.on_damage(date, str(error), inode, is_damage(error))
        return found

    def _clock(self) -> Callable[[], None]:
        """Raises `TooSlow` when the time of a question that begins now is over, or the store stops."""
        until = time.monotonic() + limits.READ_S

        def check() -> None:
            if self.stopping or time.monotonic() > until:
                raise TooSlow

        return check

    @contextlib.contextmanager
    def _timed(self, db: sqlite3.Connection, until: float | None = None) -> Iterator[None]:
        """Give a question up when its time is over or the store stops. Raises `TooSlow`."""
        end = until if until is not None else time.monotonic() + limits.READ_S
        db.set_progress_handler(lambda: self.stopping or time.monotonic() > end, limits.READ_STEPS)
        try:
            yield
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise TooSlow from None
            raise


def _visible(db: sqlite3.Connection, projects: Projects) -> dict[str, int]:
    rows = db.execute("SELECT DISTINCT text, project FROM presence JOIN name ON name.id = project")
    return {text: number for text, number in rows if projects is None or text in projects}


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
