"""Connections that questions leave behind for the next one: opening eight files costs more than most answers.

An idle one has no transaction, so that it pins no write-ahead log. It is closed when its file is no longer the one
under that name; for a day that is dropped at once, since an open file keeps its space.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs

from bitville_apm import limits
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.days import inode_of
from bitville_apm.store.sqlite.files import open_reader

MAIN = datetime.date.max - datetime.timedelta(days=1)
"""Stands for `main.db`: later than any day that is let go of, and closed with all others."""


class Names(dict[int, str]):
    """Names of a file by their numbers, each looked up once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db

    def __missing__(self, number: int) -> str:
        """Look a number up. Raises `LookupError` where the file lost it."""
        row = self._db.execute("SELECT text FROM name WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise LookupError(f"the name {number} is gone")
        self[number] = str(row[0])
        return str(row[0])


@attrs.frozen(eq=False)
class Lent:
    """A connection to a day's file, with what was learned by it. One thread at a time has it."""

    db: sqlite3.Connection
    names: Names
    bodies: Bodies

    @classmethod
    def open(cls, path: Path) -> Lent:
        """A new one."""
        db = open_reader(path)
        return cls(db, Names(db), Bodies(db))


@attrs.define(eq=False)
class Pool:
    """Idle connections by day and file. Any thread may borrow."""

    _idle: dict[tuple[datetime.date, int], list[Lent]] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _first: datetime.date = datetime.date.min
    _closed: bool = False

    @contextlib.contextmanager
    def borrowed(self, date: datetime.date, path: Path) -> Iterator[Lent]:
        """A connection to a day's file as it is now; one that something went wrong with is not used again."""
        key = (date, inode_of(path) or 0)
        with self._lock:
            known = self._idle.get(key)
            lent = known.pop() if known else None
        if lent is None:
            lent = Lent.open(path)
        db = lent.db
        try:
            yield lent
        except BaseException:
            db.close()
            raise
        db.set_progress_handler(None, 0)
        if len(lent.names) > limits.NAMES_LENT:
            lent.names.clear()
        with self._lock:
            kept = self._idle.setdefault(key, [])
            keep = not self._closed and date >= self._first and len(kept) < limits.READERS and not db.in_transaction
            if keep:
                kept.append(lent)
        if not keep:
            db.close()
        self._close_others(key)

    def let_go(self, first: datetime.date) -> None:
        """Every earlier day is about to be dropped."""
        with self._lock:
            self._first = max(first, self._first)
            gone = [lent for key in list(self._idle) if key[0] < self._first for lent in self._idle.pop(key)]
        for lent in gone:
            lent.db.close()

    def close(self) -> None:
        """Close every idle connection, and each other one when it comes back."""
        self._closed = True
        self.let_go(datetime.date.max)

    def _close_others(self, key: tuple[datetime.date, int]) -> None:
        """Those to another file of the same day: it was set aside."""
        with self._lock:
            old = [other for other in self._idle if other[0] == key[0] and other[1] != key[1]]
            gone = [lent for other in old for lent in self._idle.pop(other)]
        for lent in gone:
            lent.db.close()
