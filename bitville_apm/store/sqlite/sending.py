"""Where each day was read to by whoever sends records on (in `main.db`), and what is behind that in a day's file."""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.store.feed import Mark, Waiting
from bitville_apm.store.interface import Stored
from bitville_apm.store.sqlite import searching
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.files import SQL_ERRORS, transaction

_SINCE, _DROPPED = "graylog_since", "graylog_dropped"


class Head(Struct, frozen=True):
    """How far a day's file has come. `last` is the highest row of a request that is there; the mark's may be higher, of
    one that is gone again."""

    mark: Mark
    last: int

    def behind(self, mark: Mark | None) -> Mark:
        """Where to read on: at the beginning of another file, and never beyond the end, which damage may have cut."""
        if mark is None or mark.file != self.mark.file:
            return Mark(day=self.mark.day, file=self.mark.file)
        if mark.request <= self.mark.request and mark.postgres <= self.mark.postgres:
            return mark
        return Mark(
            day=mark.day, file=mark.file,
            request=min(mark.request, self.last), postgres=min(mark.postgres, self.mark.postgres),
        )  # fmt: skip

    def left(self, mark: Mark) -> int:
        """Records behind a mark; a few less where some gave way to others."""
        return max(0, self.last - mark.request) + max(0, self.mark.postgres - mark.postgres)


# --- In main.db -------------------------------------------------------------------------------------------


def begin(db: sqlite3.Connection, now: float, heads: Sequence[Head]) -> None:
    """See `IFeed.begin`."""
    with transaction(db):
        fresh = db.execute("INSERT OR IGNORE INTO state (name, value) VALUES (?, ?)", (_SINCE, now)).rowcount
        known = kept(db)
        if fresh:
            keep(db, [head.mark for head in heads])
        else:
            keep(db, [head.behind(known[head.mark.day]) for head in heads if head.mark.day in known])


def end(db: sqlite3.Connection) -> None:
    """See `IFeed.end`."""
    with transaction(db):
        db.execute("DELETE FROM graylog")
        db.execute("DELETE FROM state WHERE name IN (?, ?)", (_SINCE, _DROPPED))


def kept(db: sqlite3.Connection) -> Mapping[int, Mark]:
    """See `IFeed.marks`."""
    rows = db.execute("SELECT day, file, request, postgres FROM graylog")
    return {day: Mark(day=day, file=file, request=request, postgres=postgres) for day, file, request, postgres in rows}


def keep(db: sqlite3.Connection, marks: Iterable[Mark]) -> None:
    """See `IFeed.sent`."""
    db.executemany(
        "INSERT OR REPLACE INTO graylog (day, file, request, postgres) VALUES (?,?,?,?)",
        [(mark.day, mark.file, mark.request, mark.postgres) for mark in marks],
    )


def dropped(db: sqlite3.Connection) -> int:
    """Records that retention has dropped unsent."""
    row = db.execute("SELECT value FROM state WHERE name = ?", (_DROPPED,)).fetchone()
    return int(row[0]) if row else 0


def drop(db: sqlite3.Connection, number: int, day: sqlite3.Connection | None) -> int:
    """A day goes: how many of its records were never sent, where any are to be. `day`: None for one without tables."""
    mark = kept(db).get(number)
    db.execute("DELETE FROM graylog WHERE day <= ?", (number,))
    if day is None or db.execute("SELECT 1 FROM state WHERE name = ?", (_SINCE,)).fetchone() is None:
        return 0
    try:
        found = head(day, number)
    except SQL_ERRORS:
        return 0  # damaged: nobody can tell
    left = found.left(found.behind(mark))
    question = "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"
    db.execute(question, (_DROPPED, left))
    return left


# --- In a day's file --------------------------------------------------------------------------------------


def head(db: sqlite3.Connection, number: int) -> Head:
    """How far a day has come; `number` counts it from 1970."""
    file, newest, last, postgres = db.execute(
        "SELECT file, newest, (SELECT coalesce(max(row), 0) FROM request), (SELECT coalesce(max(row), 0) FROM postgres)"
        " FROM change"
    ).fetchone()
    return Head(Mark(day=number, file=file, request=max(newest, last), postgres=postgres), last)


def behind(
    db: sqlite3.Connection, names: Mapping[int, str], bodies: Bodies, mark: Mark, most: int
) -> Iterator[Waiting]:
    """The records behind a mark, so many at most, and no more once they have `limits.GRAYLOG_READ_BYTES`. Requests and
    observations are merged by when agents had them; each keep the order in which they were stored.
    """
    size = 0
    with (
        contextlib.closing(_requests(db, names, mark.request, most)) as requests,
        contextlib.closing(_postgres(db, names, mark.postgres, most)) as observations,
    ):
        merged = heapq.merge(requests, observations, key=lambda row: row[2].recv_ms)
        for count, (table, row, stored, kept_body) in enumerate(merged, 1):
            mark = Mark(
                day=mark.day, file=mark.file,
                request=row if table == "request" else mark.request,
                postgres=row if table == "postgres" else mark.postgres,
            )  # fmt: skip
            body = bodies.decompress(kept_body)
            yield Waiting(msgspec.structs.replace(stored, body=body), mark)
            size += len(body)
            if count == most or size >= limits.GRAYLOG_READ_BYTES:
                return


_Row = tuple[str, int, Stored, bytes]


def _requests(db: sqlite3.Connection, names: Mapping[int, str], after: int, most: int) -> Generator[_Row, None, None]:
    for row in db.execute(
        f"SELECT {searching.COLUMNS}, r.row, r.project, r.recv_ms, r.client_id, body"  # noqa: S608 - our own names
        " FROM request r JOIN payload USING (row) WHERE r.row > ? ORDER BY r.row LIMIT ?",
        (after, most),
    ):
        *columns, number, project, recv_ms, client_id, body = row
        found = searching.found_request(names[project], tuple(columns))
        yield "request", number, Stored(found=found, kind=row[1], recv_ms=recv_ms, client_id=client_id, body=b""), body


def _postgres(db: sqlite3.Connection, names: Mapping[int, str], after: int, most: int) -> Generator[_Row, None, None]:
    for row in db.execute(
        f"SELECT {searching.POSTGRES_COLUMNS}, r.row, r.project, r.recv_ms, r.body"  # noqa: S608
        " FROM postgres r WHERE r.row > ? ORDER BY r.row LIMIT ?",
        (after, most),
    ):
        *columns, number, project, recv_ms, body = row
        found = searching.found_postgres(names[project], tuple(columns))
        yield "postgres", number, Stored(found=found, kind="pg", recv_ms=recv_ms, client_id=None, body=b""), body
