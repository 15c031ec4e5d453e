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
from bitville_apm.store.sqlite.days import inode_of
from bitville_apm.store.sqlite.files import open_reader


@attrs.define(eq=False)
class Pool:
    """Idle connections by day and file. Any thread may borrow."""

    _idle: dict[tuple[datetime.date, int], list[sqlite3.Connection]] = attrs.field(factory=dict)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _first: datetime.date = datetime.date.min
    _closed: bool = False

    @contextlib.contextmanager
    def borrowed(self, date: datetime.date, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection to a day's file as it is now; one that something went wrong with is not used again."""
        key = (date, inode_of(path) or 0)
        with self._lock:
            known = self._idle.get(key)
            db = known.pop() if known else None
        if db is None:
            db = open_reader(path)
        try:
            yield db
        except BaseException:
            db.close()
            raise
        db.set_progress_handler(None, 0)
        with self._lock:
            kept = self._idle.setdefault(key, [])
            keep = not self._closed and date >= self._first and len(kept) < limits.READERS and not db.in_transaction
            if keep:
                kept.append(db)
        if not keep:
            db.close()
        self._close_others(key)

    def let_go(self, first: datetime.date) -> None:
        """Every earlier day is about to be dropped."""
        with self._lock:
            self._first = max(first, self._first)
            gone = [db for key in list(self._idle) if key[0] < self._first for db in self._idle.pop(key)]
        for db in gone:
            db.close()

    def close(self) -> None:
        """Close every idle connection, and each other one when it comes back."""
        self._closed = True
        self.let_go(datetime.date.max)

    def _close_others(self, key: tuple[datetime.date, int]) -> None:
        """Those to another file of the same day: it was set aside."""
        with self._lock:
            old = [other for other in self._idle if other[0] == key[0] and other[1] != key[1]]
            gone = [db for other in old for db in self._idle.pop(other)]
        for db in gone:
            db.close()
