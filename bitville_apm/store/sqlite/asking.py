"""Several day files asked at once, and `main.db` for what it keeps of days without one.

Every question about records goes through `each_day`, which hands out a day together with the projects in it that the
caller may see: nothing beyond it reaches another project's rows (STOR-04). Each file is asked read-only, for as long
as a question may take.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import BadCursor, Projects, TooSlow
from bitville_apm.store.sqlite import tops
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.days import inode_of
from bitville_apm.store.sqlite.files import day_numbered, days_in, is_damage, number_of, open_reader
from bitville_apm.store.sqlite.pool import MAIN, Names, Pool

T = TypeVar("T")
_log = Logger()


@attrs.frozen
class Day:
    """One open day file, and the visible projects in it with their numbers."""

    date: datetime.date
    db: sqlite3.Connection
    projects: dict[str, int]
    names: Names
    bodies: Bodies

    def number(self, name: str) -> int | None:
        """The number of a name in this file."""
        row = self.db.execute("SELECT id FROM name WHERE text = ?", (name,)).fetchone()
        return int(row[0]) if row else None


@attrs.define(eq=False)
class Asking:
    """The files of one directory, as questions find them. Any number of threads may ask at the same time."""

    directory: Path
    damaged: dict[datetime.date, str] = attrs.field(factory=dict)
    """Days that could not be read, and why."""
    stopping: bool = False
    """Set when the store stops: questions under way are given up."""
    pool: Pool = attrs.field(factory=Pool)
    on_damage: Callable[[datetime.date, str, int | None, bool], None] = lambda date, why, inode, certain: None
    """Called when a day could not be read: why, which file it was, and whether that is damage for certain."""

    def each_day(
        self,
        projects: Projects,
        ask: Callable[[Day], Iterable[T]],
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
                    found += list(ask(Day(date, db, _visible(db, projects), lent.names, lent.bodies)))
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

    def each_roll(self, projects: Projects, asked: tops.Asked, ask: Callable[[tops.File], Iterable[T]]) -> list[T]:
        """What every day's rolls say: its file's, or those that `main.db` keeps of a day without one."""
        first, last = asked.days
        check = self._clock()
        answered: set[datetime.date] = set()
        found = self.each_day(
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

    @contextlib.contextmanager
    def main(self) -> Iterator[sqlite3.Connection]:
        """`main.db`, for one question about what is no day's. Raises `TooSlow`."""
        with contextlib.closing(open_reader(self.directory / "main.db")) as main, self._timed(main):
            yield main

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
