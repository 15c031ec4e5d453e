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
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import msgspec

from bitville_apm import limits, records
from bitville_apm.store.interface import BadCursor, Found, Page, Search
from bitville_apm.store.sqlite import letters

Rank = tuple[float, bytes, str, str]
"""The place of a row in the order: key, id, project, source."""
Row = tuple[Any, ...]
"""What a query gave: `COLUMNS` or `POSTGRES_COLUMNS`, as the rank's source says."""

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


@attrs.define
class Best:
    """The first rows of a search so far: a page and one more, which tells whether another page follows."""

    limit: int
    rows: list[tuple[Rank, Row]] = attrs.field(factory=list)

    @property
    def floor(self) -> float | None:
        """The key below which no row gets in any more; None while there is room."""
        return self.rows[-1][0][0] if len(self.rows) > self.limit else None

    def add(self, rows: Iterable[tuple[Rank, Row]]) -> None:
        """Put in what belongs there."""
        both = sorted([*self.rows, *rows], key=lambda row: row[0], reverse=True)
        self.rows = both[: self.limit + 1]

    def page(self, search: Search) -> Page:
        """As it is answered."""
        rows = self.rows[: self.limit]
        items = [(found_request if rank[3] == PHP else found_postgres)(rank[2], row) for rank, row in rows]
        return Page(items=items, cursor=cursor_of(search, rows[-1][0]) if len(self.rows) > self.limit else None)


@attrs.frozen
class Asked:
    """One search in one project of one day file; rows whose key is below `floor` are not wanted."""

    db: sqlite3.Connection
    number: int
    project: str
    search: Search
    after: Rank | None
    floor: float | None

    def rows(self) -> Iterator[tuple[Rank, Row]]:
        """Up to a page and one more, of requests and of Postgres records."""
        search = self.search
        if search.source in (None, PHP):
            yield from self._requests()
        wants_request = (search.url, search.status, search.release, search.duration_min, search.duration_max)
        if search.source in (None, POSTGRES) and all(wanted is None for wanted in wants_request):
            yield from self._postgres()

    def _requests(self) -> Iterator[tuple[Rank, Row]]:
        search = self.search
        key = "duration_ms" if search.sort == "duration" else "at"
        where = _Where(self.db)
        where.add("project = ?", self.number)
        if search.correlation_id is not None:
            where.add("id = ?", id_bytes(search.correlation_id))
        few: list[int] | None = None
        if search.url is not None:
            bits = letters.wanted(search.url.split("%"))
            where.add("letters & ? = ?", bits, bits)
            where.add("url LIKE ? ESCAPE '\\'", _pattern(search.url))
            few = None if self._near(key) else self._few(search.url)
            if few is not None:
                where.add(f"row IN ({','.join(map(str, few))})")
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
        self._between(where, key, PHP)
        table = "request" if few is None else "request NOT INDEXED"  # else a whole day's index is walked for these rows
        for row in where.select(table, COLUMNS, f"{key} DESC, id DESC", search.limit + 1):
            yield (float(row[3] if search.sort == "duration" else row[2]), row[0], self.project, PHP), row

    def _near(self, key: str) -> bool:
        """Whether so few rows are above the floor that the letters of each can be looked at."""
        if self.floor is None:
            return False
        beyond = f"SELECT 1 FROM request WHERE project = ? AND {key} >= ? LIMIT 1 OFFSET ?"  # noqa: S608
        return self.db.execute(beyond, (self.number, self.floor, limits.URL_NEAR)).fetchone() is None

    def _few(self, url: str) -> list[int] | None:
        """The rows of the day whose URL may contain what is wanted; None where they are too many to look at each."""
        threes = sorted({part[i : i + 3] for part in url.split("%") for i in range(len(part) - 2)}, key=len)
        if not threes:
            return None
        some = self.db.execute(
            "SELECT lower(url), url LIKE ? ESCAPE '\\' FROM request NOT INDEXED ORDER BY row DESC LIMIT ?",
            (_pattern(url), limits.URL_SAMPLE),
        ).fetchall()
        if limits.URL_OFTEN * sum(matches for _, matches in some) >= len(some) > 0:
            return None  # walking the rows in order finds a page sooner than the index even tells how many there are
        # Letters that every tenth URL has tell little and have long lists; LIKE looks at what is found anyway.
        texts = "\n".join(text for text, _ in some)
        rare = [three for three in threes if 10 * texts.count(three.lower()) < len(some)]
        wanted = " AND ".join('"' + three.replace('"', '""') + '"' for three in rare or threes)
        rows = self.db.execute("SELECT rowid FROM url WHERE url MATCH ? LIMIT ?", (wanted, limits.URL_MATCHES + 1))
        found = [row for (row,) in rows]
        return found if len(found) <= limits.URL_MATCHES else None

    def _postgres(self) -> Iterator[tuple[Rank, Row]]:
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
        self._between(where, key, POSTGRES)
        order = "id DESC" if search.sort == "duration" else "at DESC, id DESC"
        for row in where.select("postgres", POSTGRES_COLUMNS, order, search.limit + 1):
            yield (_NO_DURATION if search.sort == "duration" else row[1], row[0], self.project, POSTGRES), row

    def _between(self, where: _Where, key: str, source: str) -> None:
        """Only what comes after the cursor (of rows with its key and id, those of a later project or source), and
        nothing below the floor: of a day with no such rows that is one look into its index.
        """
        where.add(f"{key} >= ?", self.floor)
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
