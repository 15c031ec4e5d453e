"""How far each day's file had come, written beside the files after every commit.

A damaged write-ahead log is cut off by SQLite where its checksums end, without a word: the file opens, whole and
older. Whether that happened shows by a second count elsewhere. The note is written without waiting for the disk: it
may be behind after a power cut, never ahead, so what it says is missing is missing.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import attrs

from bitville_apm.store.sqlite.files import days_in, open_reader

_NAME = "commits"


@attrs.define(eq=False)
class Commits:
    """The note of one directory: day -> how many records its file has."""

    path: Path
    _known: dict[datetime.date, int]
    _descriptor: int | None = None

    @classmethod
    def read(cls, directory: Path) -> Commits:
        """What the note says; nothing where it cannot be read."""
        known: dict[datetime.date, int] = {}
        path = directory / _NAME
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text("ascii").splitlines():
                day, _, records = line.partition(" ")
                known[datetime.date.fromisoformat(day)] = int(records)
        return cls(path, known)

    def lost(self, directory: Path) -> Mapping[datetime.date, int]:
        """Records that days had at their last commit here and no longer have. What was told is not told again."""
        found = {}
        for date, path in days_in(directory).items():
            with contextlib.suppress(sqlite3.Error, ValueError), contextlib.closing(open_reader(path)) as db:
                (empty,) = db.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()
                (held,) = (0,) if empty else db.execute("SELECT records FROM change").fetchone() or (0,)
                if held < self._known.get(date, 0):
                    found[date] = self._known[date] - held
                    self.note(date, held)
        return found

    def note(self, date: datetime.date, records: int) -> None:
        """A day has come so far. Never raises: a disk that is full or gone has been told of elsewhere."""
        self._known[date] = records
        self._write()

    def forget(self, kept: datetime.date) -> None:
        """Days before one are gone."""
        self._known = {date: records for date, records in self._known.items() if date >= kept}

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self) -> None:
        text = "".join(f"{date.isoformat()} {records:20}\n" for date, records in sorted(self._known.items()))
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            os.pwrite(self._descriptor, text.encode("ascii"), 0)
            os.ftruncate(self._descriptor, len(text))
