"""Requests of an open transaction, on their way into a day's file: gathered, so that each table is gone to once.

A hundred rows in one go cost SQLite two thirds of what they cost one by one, and zstd as well, whose tables stay in the
processor's cache meanwhile. Whoever asks what is held hears of those that wait, too.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.requests import Request
from bitville_apm.store.interface import Arrival
from bitville_apm.store.sqlite import letters
from bitville_apm.store.sqlite.blocks import integer
from bitville_apm.store.sqlite.compressing import Bodies

Key = tuple[int, bytes]
"""The number of a project, and the 16 bytes of an id."""

_INSERT_REQUEST = (
    "INSERT INTO request (row, project, id, kind, at, duration_ms, recv_ms, host, endpoint, method, url, status,"
    " cpu_us, sql_n, sql_ms, memory_peak, release, client_id, rolled, letters)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_INSERT_PAYLOAD = "INSERT INTO payload (row, body) VALUES (?, ?)"
_INSERT_URL = "INSERT INTO url (rowid, text) VALUES (?, ?)"


@attrs.frozen
class Removed:
    """What was known of a request that is no longer held."""

    body: bytes
    recv_ms: int
    host: int
    rolled: bool


@attrs.define(eq=False)
class Requests:
    """The requests of one open file: those in its tables, and those that wait to be put there."""

    _db: sqlite3.Connection
    _bodies: Bodies
    _kinds: dict[Key, str] = attrs.field(factory=dict)
    _rows: list[tuple[Any, ...]] = attrs.field(factory=list)
    _urls: list[str] = attrs.field(factory=list)
    _plain: list[bytes] = attrs.field(factory=list)

    def kind_of(self, key: Key) -> str | None:
        """The kind of the request that is held under an identity; None when there is none."""
        waiting = self._kinds.get(key)
        if waiting is not None:
            return waiting
        row = self._db.execute("SELECT kind FROM request WHERE project = ? AND id = ?", key).fetchone()
        return row[0] if row else None

    def add(
        self, key: Key, arrival: Arrival, request: Request, *, host: int, endpoint: int, release: int | None
    ) -> None:
        """Add one that is not held yet; names as their numbers in the file."""
        url = request.uri[: limits.URL_CHARACTERS]
        self._rows.append(
            (
                *key,
                arrival.kind,
                request.at,
                request.ms,
                arrival.recv_ms,
                host,
                endpoint,
                request.method[: limits.NAME_CHARACTERS],
                url,
                _fits(request.status),
                _fits(request.cpu_us),
                _fits(request.sql_n),
                request.sql_ms,
                _fits(request.memory_peak),
                release,
                arrival.client_id,
                bool(arrival.cells),
                letters.of(url),
            )
        )
        self._urls.append(url)
        self._plain.append(arrival.body)
        self._kinds[key] = arrival.kind

    def write(self) -> None:
        """Put those that wait into the tables."""
        if not self._rows:
            return
        # Behind every row there ever was: one that was removed may have been sent on.
        (newest,) = self._db.execute(
            "SELECT max(newest, coalesce((SELECT max(row) FROM request), 0)) FROM change"
        ).fetchone()
        first = 1 + newest
        kept = [self._bodies.compress(body) for body in self._plain]
        self._db.executemany(_INSERT_REQUEST, [(n, *row) for n, row in enumerate(self._rows, first)])
        self._db.executemany(_INSERT_PAYLOAD, enumerate(kept, first))
        self._db.executemany(_INSERT_URL, enumerate(self._urls, first))
        self.forget()

    def remove(self, key: Key) -> Removed:
        """Take one out again that is held."""
        self.write()
        row, recv_ms, host, rolled, url, kept = self._db.execute(
            "SELECT request.row, recv_ms, host, rolled, url, body FROM request JOIN payload USING (row)"
            " WHERE project = ? AND id = ?",
            key,
        ).fetchone()
        body = self._bodies.decompress(kept)
        self._db.execute("INSERT INTO url (url, rowid, text) VALUES ('delete', ?, ?)", (row, url))
        self._db.execute("DELETE FROM request WHERE row = ?", (row,))
        self._db.execute("DELETE FROM payload WHERE row = ?", (row,))
        return Removed(body, recv_ms, host, bool(rolled))

    def forget(self) -> None:
        """Nothing waits any more."""
        for waiting in (self._kinds, self._rows, self._urls, self._plain):
            waiting.clear()


def _fits(number: float | None) -> int | None:
    return None if number is None else integer(number)
