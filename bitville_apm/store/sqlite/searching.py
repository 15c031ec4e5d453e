"""A search of one project in one day file: the SQL of its conditions, and the cursor that continues it.

The order is total: sort key, id, project, source, all descending. A record of Postgres has no duration and comes
after every request when the slowest are asked for: its key is -1 there.
"""

from __future__ import annotations

import base64
import binascii
import math
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from bitville_apm import limits, records
from bitville_apm.store.interface import BadCursor, Found, Search

Rank = tuple[float, bytes, str, str]
"""The place of a row in the order: key, id, project, source."""

PHP, POSTGRES = "php_agent", "postgres_agent"
_NO_DURATION = -1.0

COLUMNS = (
    "r.id, r.kind, r.at, r.duration_ms, r.method, r.url, r.status, r.cpu_us, r.sql_n, r.sql_ms, r.memory_peak,"
    " (SELECT text FROM name WHERE name.id = r.endpoint), (SELECT text FROM name WHERE name.id = r.host),"
    " (SELECT text FROM name WHERE name.id = r.release)"
)
"""What `found_request` makes a row from."""
POSTGRES_COLUMNS = (
    "r.id, r.at, (SELECT text FROM name WHERE name.id = r.source), (SELECT text FROM name WHERE name.id = r.host)"
)
"""What `found_postgres` makes a row from."""


@attrs.frozen
class Asked:
    """One search in one project of one day file."""

    db: sqlite3.Connection
    number: int
    project: str
    search: Search
    after: Rank | None

    def rows(self) -> Iterator[tuple[Rank, Found]]:
        """Up to a page and one more, of requests and of Postgres records."""
        search = self.search
        if search.source in (None, PHP):
            yield from self._requests()
        wants_request = (search.url, search.status, search.release, search.duration_min, search.duration_max)
        if search.source in (None, POSTGRES) and all(wanted is None for wanted in wants_request):
            yield from self._postgres()

    def _requests(self) -> Iterator[tuple[Rank, Found]]:
        search = self.search
        where = _Where(self.db)
        where.add("project = ?", self.number)
        if search.correlation_id is not None:
            where.add("id = ?", id_bytes(search.correlation_id))
        if search.url is not None:
            where.add("url LIKE ? ESCAPE '\\'", _pattern(search.url))
            few = self._few(search.url)
            if few is not None:
                where.add(f"+row IN ({','.join(map(str, few))})")
        where.name("endpoint", search.endpoint)
        where.name("host", search.host)
        where.name("release", search.release)
        for condition, value in (
            ("status = ?", search.status),
            ("duration_ms >= ?", search.duration_min),
            ("duration_ms <= ?", search.duration_max),
            ("at >= ?", search.timestamp_start),
            ("at <= ?", search.timestamp_end),
        ):
            where.add(condition, value)
        key = "duration_ms" if search.sort == "duration" else "at"
        self._after(where, key, PHP)
        for row in where.select("request", COLUMNS, f"{key} DESC, id DESC", search.limit + 1):
            found = found_request(self.project, row)
            yield (float(row[3] if search.sort == "duration" else row[2]), row[0], self.project, PHP), found

    def _few(self, url: str) -> list[int] | None:
        """The rows of the day whose URL may contain what is wanted; None where they are too many to look at each."""
        letters = sorted({part[i : i + 3] for part in url.split("%") for i in range(len(part) - 2)}, key=len)
        if not letters:
            return None
        wanted = " AND ".join('"' + three.replace('"', '""') + '"' for three in letters)
        rows = self.db.execute("SELECT rowid FROM url WHERE url MATCH ? LIMIT ?", (wanted, limits.URL_MATCHES + 1))
        found = [row for (row,) in rows]
        return found if len(found) <= limits.URL_MATCHES else None

    def _postgres(self) -> Iterator[tuple[Rank, Found]]:
        search = self.search
        where = _Where(self.db)
        where.add("project = ?", self.number)
        if search.correlation_id is not None:
            wanted = id_bytes(search.correlation_id)
            where.add("(correlation = ? OR id = ?)", wanted, wanted)
        where.name("source", search.endpoint)
        where.name("host", search.host)
        where.add("at >= ?", search.timestamp_start)
        where.add("at <= ?", search.timestamp_end)
        key = str(_NO_DURATION) if search.sort == "duration" else "at"
        self._after(where, key, POSTGRES)
        order = "id DESC" if search.sort == "duration" else "at DESC, id DESC"
        for row in where.select("postgres", POSTGRES_COLUMNS, order, search.limit + 1):
            found = found_postgres(self.project, row)
            yield (_NO_DURATION if search.sort == "duration" else row[1], row[0], self.project, POSTGRES), found

    def _after(self, where: _Where, key: str, source: str) -> None:
        """Only what comes after the cursor; of rows with its key and id, those of a later project or source."""
        if self.after is not None:
            comparison = "<=" if (self.project, source) < self.after[2:] else "<"
            where.add(f"({key}, id) {comparison} (?, ?)", *self.after[:2])


@attrs.define
class _Where:
    """Conditions and their values."""

    db: sqlite3.Connection
    conditions: list[str] = attrs.field(factory=list)
    values: list[Any] = attrs.field(factory=list)

    def add(self, condition: str, *values: Any) -> None:
        """A condition; none where its value is None."""
        if values != (None,):
            self.conditions.append(condition)
            self.values += values

    def name(self, column: str, text: str | None) -> None:
        """A column that holds the number of a name."""
        if text is not None:
            number = "(SELECT id FROM name WHERE text = ?)"
            self.add(f"{column} = {number}", text[: limits.NAME_CHARACTERS])

    def select(self, table: str, columns: str, order: str, limit: int) -> list[tuple[Any, ...]]:
        """The rows; names are looked up for these only."""
        inner = f"SELECT * FROM {table} WHERE {' AND '.join(self.conditions)} ORDER BY {order} LIMIT ?"  # noqa: S608
        return self.db.execute(f"SELECT {columns} FROM ({inner}) r", (*self.values, limit)).fetchall()  # noqa: S608


def found_request(project: str, row: tuple[Any, ...]) -> Found:
    """A row of `COLUMNS`."""
    id, kind, at, ms, method, url, status, cpu_us, sql_n, sql_ms, memory, endpoint, host, release = row
    return Found(
        id=str(uuid.UUID(bytes=id)),
        project=project,
        source=PHP,
        at=at,
        endpoint=endpoint,
        method=method,
        url=url,
        status=status,
        duration_ms=ms,
        cpu_ms=None if cpu_us is None else cpu_us / 1000,
        sql_count=sql_n,
        sql_ms=sql_ms,
        memory_peak_bytes=memory,
        host=host,
        release=release,
        died=kind == "died",
    )


def found_postgres(project: str, row: tuple[Any, ...]) -> Found:
    """A row of `POSTGRES_COLUMNS`: what was observed stands where a request has its endpoint."""
    id, at, source, host = row
    return Found(
        id=str(uuid.UUID(bytes=id)),
        project=project,
        source=POSTGRES,
        at=at,
        endpoint=source,
        method="",
        url="",
        status=None,
        duration_ms=None,
        cpu_ms=None,
        sql_count=0,
        sql_ms=0.0,
        memory_peak_bytes=None,
        host=host,
        release=None,
        died=False,
    )


def id_bytes(id: str) -> bytes:
    """An id as the files keep it, whatever its spelling."""
    return uuid.UUID(records.canonical_id(id)).bytes


def _pattern(url: str) -> str:
    """Found anywhere, `%` for anything; what else LIKE treats specially is meant as it stands."""
    return f"%{url.replace(chr(92), chr(92) * 2).replace('_', chr(92) + '_')}%"


def cursor_of(search: Search, rank: Rank) -> str:
    """The cursor behind a row."""
    key, id, project, source = rank
    plain = msgspec.json.encode([search.sort, key, id.hex(), project, source])
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def rank_of(search: Search) -> Rank | None:
    """The place that the search's cursor names. Raises `BadCursor`."""
    if search.after is None:
        return None
    try:
        plain = base64.b64decode(search.after + "=" * (-len(search.after) % 4), altchars=b"-_", validate=True)
        sort, key, id, project, source = msgspec.json.decode(plain, type=tuple[str, float, str, str, str])
        found = bytes.fromhex(id)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadCursor("after is no cursor of a search") from None
    if sort != search.sort:
        raise BadCursor(f"after belongs to a search with sort={sort}")
    if not math.isfinite(key) or len(found) != 16:
        raise BadCursor("after is no cursor of a search")
    return key, found, project, source
