"""The rows of a damaged table that can be read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bitville_apm import limits
from bitville_apm.store.sqlite.files import SQL_ERRORS


def rows(
    db: sqlite3.Connection, table: str, key: str, columns: str, lost: Callable[[], object], like: Sequence[str] = ()
) -> Iterator[tuple[Any, ...]]:
    """Each row's integer key and columns. Where a page cannot be read, every row in it is tried by itself.

    `lost` is called for each that cannot. The tables of `like` have the same keys, should this one not tell its last.
    """
    after, last = 0, _last(db, (table, *like), key)
    while True:
        question = f"SELECT {key}, {columns} FROM {table} WHERE {key} > ? ORDER BY {key}"  # noqa: S608
        try:
            for row in db.execute(question, (after,)):
                after = row[0]
                yield row
            return
        except SQL_ERRORS:
            one = f"SELECT {key}, {columns} FROM {table} WHERE {key} = ?"  # noqa: S608
            for number in range(after + 1, last + 1):
                after = number
                try:
                    found = db.execute(one, (number,)).fetchone()
                except SQL_ERRORS:
                    lost()
                    continue
                if found is not None:
                    yield found
                    break  # on from here in one go: each round gets at least one row further
            else:
                return


def _last(db: sqlite3.Connection, tables: Sequence[str], key: str) -> int:
    """The highest row there may be; where nothing tells, as many as are tried in vain."""
    for table in tables:
        with contextlib.suppress(*SQL_ERRORS):
            return int(db.execute(f"SELECT max({key}) FROM {table}").fetchone()[0] or 0)  # noqa: S608
    return limits.SALVAGE_ROWS
