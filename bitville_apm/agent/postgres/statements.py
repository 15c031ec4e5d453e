"""What each statement cost since the last reading of pg_stat_statements. Pure.

The view has other columns in each version of the extension, so it is asked for those it has. Its sums begin anew for
one statement or for all: by an administrator's reset, or because there were too many and this one was forgotten. A
reset is known by `stats_since` (17 and later), by the view's own `stats_reset` (14), or else by a count that fell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import attrs
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.agent.postgres.sessions import MARK
from bitville_apm.sqltext import statement

COLUMNS_SQL = (
    "SELECT quote_ident(n.nspname), e.extversion, "
    "(SELECT string_agg(a.attname, ',') FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
    "WHERE c.relname = 'pg_stat_statements' AND c.relnamespace = n.oid AND a.attnum > 0 AND NOT a.attisdropped), "
    "to_regclass(quote_ident(n.nspname) || '.pg_stat_statements_info') IS NOT NULL "
    "FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"
)
"""Where the extension is, its version, and the columns of its view; no row where it is not."""

SUMS = {
    "calls": ("calls",),
    "total_ms": ("total_exec_time", "total_time"),
    "plan_ms": ("total_plan_time",),
    "rows": ("rows",),
    "shared_hit": ("shared_blks_hit",),
    "shared_read": ("shared_blks_read",),
    "shared_dirtied": ("shared_blks_dirtied",),
    "temp_written": ("temp_blks_written",),
    "read_ms": ("shared_blk_read_time", "blk_read_time"),
    "write_ms": ("shared_blk_write_time", "blk_write_time"),
    "wal_bytes": ("wal_bytes",),
}
"""What is told of a statement, and the columns that have it, newest first. Blocks are the server's pages."""


class Extension(Struct, frozen=True):
    """The view of one server: `schema` quoted, `version` as the extension says it."""

    schema: str
    version: str
    columns: frozenset[str]
    tells_resets: bool

    @property
    def sums(self) -> dict[str, str]:
        """Our name -> its column, of those it has."""
        found = ((name, next((c for c in columns if c in self.columns), "")) for name, columns in SUMS.items())
        return {name: column for name, column in found if column}

    def sql(self) -> str:
        """All statements without their texts, dearest first; the reset of all beside them."""
        toplevel = "toplevel" if "toplevel" in self.columns else "true"
        since = "extract(epoch FROM stats_since)::float8" if "stats_since" in self.columns else "NULL::float8"
        reset = f"(SELECT extract(epoch FROM stats_reset)::float8 FROM {self.schema}.pg_stat_statements_info)"
        total = self.sums["total_ms"]
        return (
            f"SELECT userid::int8, dbid::int8, queryid, {toplevel}, {since}, "
            f"{reset if self.tells_resets else 'NULL::float8'}, extract(epoch FROM clock_timestamp())::float8, "
            f"{', '.join(f'{column}::float8' for column in self.sums.values())} "
            f"FROM {self.schema}.pg_stat_statements(false) WHERE queryid IS NOT NULL "
            f"ORDER BY {total} DESC LIMIT {limits.PG_STATEMENTS_HELD}"
        )

    def texts_sql(self, ids: Iterable[int]) -> str:
        """The texts of some statements: the server reads its file of texts for it."""
        return (
            f"SELECT DISTINCT ON (queryid) queryid, left(query, {limits.SQL_INPUT_BYTES}) "
            f"FROM {self.schema}.pg_stat_statements(true) "
            f"WHERE queryid = ANY('{{{','.join(str(int(id_)) for id_ in ids)}}}'::int8[])"
        )


def extension_of(rows: Sequence[Sequence[Any]]) -> Extension | None:
    """The answer to `COLUMNS_SQL`; None where the extension is not in this database."""
    if not rows:
        return None
    schema, version, columns, tells = rows[0]
    return Extension(schema, version, frozenset(columns.split(",")), tells)


Key = tuple[int, int, int, bool]
"""User, database, query id, whether it was run by a client itself."""


class Cost(Struct, frozen=True):
    """What one statement of one user in one database did since the last reading: `sums` as in `SUMS`."""

    key: Key
    sums: dict[str, float]


@attrs.define
class Statements:
    """The last reading of one server. `resets` counts those seen."""

    resets: int = 0
    _before: dict[Key, tuple[float, ...]] = attrs.Factory(dict)
    _read_at: float | None = None
    _reset_at: float | None = None
    _whole: bool = False

    def read(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Cost]:
        """Take a reading (the answer to `Extension.sql`, `names` its sums): what each cost since the one before.

        Nothing after the first, which only says where to count from.
        """
        first, last_read, complete = self._read_at is None, self._read_at, self._whole
        calls = names.index("calls")
        now: dict[Key, tuple[float, ...]] = {}
        found: list[Cost] = []
        reset = False
        if rows and rows[0][5] is not None:
            reset = self._reset_at is not None and rows[0][5] != self._reset_at
            self._reset_at = rows[0][5]
        fell = False
        for row in rows:
            key: Key = (row[0], row[1], row[2], row[3])
            sums = tuple(value or 0.0 for value in row[7:])
            if key in now:  # cannot be, but must not count twice
                continue
            now[key] = sums
            before = self._before.get(key)
            if before is None:
                # One that was there, but not among those read, would bring all its past.
                began = row[4] >= last_read if row[4] is not None and last_read is not None else complete
                if first or not began:
                    continue
                before = (0.0,) * len(sums)
            elif sums[calls] < before[calls] or reset:
                fell = True
                before = (0.0,) * len(sums)
            if sums[calls] > before[calls]:
                spent = {name: max(0.0, a - b) for name, a, b in zip(names, sums, before, strict=True) if a != b}
                found.append(Cost(key, spent))
        self.resets += not first and (reset or fell)
        self._before = now
        self._whole = len(rows) < limits.PG_STATEMENTS_HELD
        if rows:
            self._read_at = rows[0][6]
        elif first:
            self._read_at = 0.0
        return found


@attrs.define
class Texts:
    """Query ids and the statements they stand for; `own` are ours, which nobody else has to hear of.

    One thread learns, others ask: what they share are single operations on a dict and a deque.
    """

    own: set[int] = attrs.Factory(set)
    _texts: dict[int, str] = attrs.Factory(dict)
    _wanted: deque[int] = attrs.field(factory=lambda: deque(maxlen=limits.PG_TEXTS_ASKED))

    def of(self, id_: int) -> str | None:
        """The statement of a query id, without comments; what is not known yet will be asked for."""
        found = self._texts.get(id_)
        if found is None:
            self._wanted.append(id_)
        return found or None

    def wanted(self) -> list[int]:
        """What others asked for in vain, once."""
        found = []
        while self._wanted:
            found.append(self._wanted.popleft())
        return found

    def missing(self, ids: Iterable[int]) -> list[int]:
        """Of these, the ones to ask for now."""
        return list(dict.fromkeys(id_ for id_ in ids if id_ not in self._texts))[: limits.PG_TEXTS_ASKED]

    def learn(self, asked: Collection[int], rows: Iterable[Sequence[Any]]) -> None:
        """The answer to `Extension.texts_sql`; what has no text any more is not asked for again soon."""
        found = dict.fromkeys(asked, "")
        for id_, text in rows:
            found[id_] = statement(text or "", "pg")
            if MARK in (text or ""):
                self.own.add(id_)
        self._texts.update(found)
        while len(self._texts) > limits.PG_TEXTS_HELD:
            del self._texts[(oldest := next(iter(self._texts)))]
            self.own.discard(oldest)
