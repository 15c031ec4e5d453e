"""How long things are kept: whole days are unlinked, their hours stay in `main.db` for some more time.

A day goes in three steps, each of which can be the last before a crash: the writer lets go of it and takes nothing
more for it; its hours and `dropped_through` are committed together; its file is unlinked. A start does what is left.

A clock that runs ahead must not empty the store: more time than can have passed since the last look is not
believed before a day of waiting.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import Cleaned
from bitville_apm.store.sqlite import counting, drifts, hours, sending, spikes
from bitville_apm.store.sqlite.days import Damaged
from bitville_apm.store.sqlite.files import (
    SQL_ERRORS,
    day_numbered,
    day_of,
    day_path,
    days_in,
    flaw_of,
    is_damage,
    is_full,
    number_of,
    open_reader,
    open_writer,
    remove_day,
    size_of,
    transaction,
)
from bitville_apm.store.sqlite.reserve import Reserve

_log = Logger()
_DAY_S = 86_400.0


@attrs.define(eq=False)
class Keeper:
    """Retention of one directory. Synchronous, one call at a time; never on the writer's thread.

    `now` tells unix seconds, `steady` seconds that never jump. `let_go(date)` has the writer close every day before
    a date and refuse it from then on; `set_aside(damage)` has it put a damaged day out of the way.
    """

    directory: Path
    days: int
    now: Callable[[], float]
    let_go: Callable[[datetime.date], None]
    set_aside: Callable[[Damaged], None]
    most_bytes: int | None = None
    """What all day files together may take; over it the oldest go early."""
    steady: Callable[[], float] = time.monotonic
    stopping: bool = False
    """Set when the store stops: what is left is done after the next start."""
    dropped_for_space: int = 0
    """Days that went early, since the store began."""
    reserve: Reserve = attrs.field(init=False)
    _doubted: float | None = None

    def __attrs_post_init__(self) -> None:
        self.reserve = Reserve.of(self.directory)

    def first_kept(self) -> datetime.date:
        """The oldest day for which records are taken."""
        with self._main() as main:
            return self._first_kept(main, self._trusted(main))

    def clean_up(self) -> Cleaned:
        """Add up days that are over, drop those whose time is over. Raises `sqlite3.Error`, `OSError`.

        On a full disk the reserve is given up for it, and made again when there is room.
        """
        try:
            return self._clean_up()
        except (*SQL_ERRORS, OSError) as error:
            if not is_full(error, self.directory) or not self.reserve.give_up():
                raise
            _log.warn("the disk is full: the reserve is given up so that days can be dropped")
            return self._clean_up()
        finally:
            self.reserve.make()

    def _clean_up(self) -> Cleaned:
        cleaned = Cleaned()
        with self._main() as main:
            trusted = self._trusted(main)
            first = self._first_kept(main, trusted)
            self._let_go(first)
            for date in sorted(days_in(self.directory)):
                if self.stopping:
                    break
                if date < first:
                    self._drop(main, date)
                    cleaned.dropped.append(date.isoformat())
                elif date < day_of(self.now()) and self._add_up(main, date):
                    cleaned.added_up.append(date.isoformat())
            self._drop_for_space(main, cleaned)
            with transaction(main):
                hours.forget_before(main, number_of(day_of(trusted)) - limits.HOURS_KEPT_DAYS)
                spikes.forget(main, trusted - limits.HOURS_KEPT_DAYS * _DAY_S)
                drifts.forget(main, trusted - limits.HOURS_KEPT_DAYS * _DAY_S)
                for table in ("damage", "dictionary"):
                    main.execute(f"DELETE FROM {table} WHERE day < ?", (number_of(first) - 1,))  # noqa: S608
            self._remove_set_aside(first)
            main.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the store keeps main.db open: nobody else does it
        return cleaned

    def _drop_for_space(self, main: sqlite3.Connection, cleaned: Cleaned) -> None:
        """Drop the oldest days until the others are within the cap."""
        days = dict(sorted(days_in(self.directory).items()))
        sizes = {date: size_of(path) for date, path in days.items()}
        while self.most_bytes is not None and sum(sizes.values()) > self.most_bytes and not self.stopping:
            if len(sizes) <= limits.DAYS_UNCAPPED:
                break
            date = next(iter(sizes))
            del sizes[date]
            self._let_go(date + datetime.timedelta(days=1))
            whose = self._heaviest(date)
            self._drop(main, date)
            _set_state(main, "dropped_for_space", (_state(main, "dropped_for_space") or 0) + 1)
            _log.warn(
                "day {day} went early: all days together take more than their cap{whose}",
                day=date.isoformat(),
                whose=whose,
            )
            cleaned.dropped_for_space.append(date.isoformat())
        self.dropped_for_space = int(_state(main, "dropped_for_space") or 0)

    def _heaviest(self, date: datetime.date) -> str:
        """Whom a person should ask about a day that was too large, to be put behind a sentence."""
        with contextlib.suppress(*SQL_ERRORS), self._day(date) as day:
            if day is not None and (found := counting.heaviest(day)) is not None:
                return f"; {found[1]:.0%} of it was {found[0]}'s"
        return ""

    def _let_go(self, first: datetime.date) -> None:
        """Have the writer close the days before one. While we have them open too, it does not move their write-ahead
        logs into files that are about to go: on a full disk there is no room for that.
        """
        with contextlib.ExitStack() as stack:
            for date, path in days_in(self.directory).items():
                if date < first:
                    with contextlib.suppress(*SQL_ERRORS):
                        day = stack.enter_context(contextlib.closing(open_reader(path)))
                        day.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self.let_go(first)

    def _first_kept(self, main: sqlite3.Connection, trusted: float) -> datetime.date:
        first = day_of(trusted) - datetime.timedelta(days=self.days)
        dropped = _state(main, "dropped_through")
        return first if dropped is None else max(first, day_numbered(int(dropped) + 1))

    # --- One day ------------------------------------------------------------------------------------------

    def _add_up(self, main: sqlite3.Connection, date: datetime.date) -> bool:
        """Bring a day's hours in `main.db` up to date; whether they were not. A damaged day is set aside."""
        try:
            with self._day(date) as day:
                if day is None or hours.changes_of(day) == hours.changes_added_up(main, date):
                    return False
                flaw = flaw_of(day_path(self.directory, date))  # the only look at all of it, once a day is over
                if flaw is not None:
                    raise sqlite3.DatabaseError(flaw)
                with transaction(main):
                    hours.replace(main, date, day)
                return True
        except SQL_ERRORS as error:
            if not is_damage(error):
                raise
            self.set_aside(Damaged(date, str(error)))
            return False

    def _drop(self, main: sqlite3.Connection, date: datetime.date) -> None:
        """Drop a day for good. What cannot be read of it goes with it."""
        with contextlib.ExitStack() as stack:
            try:
                day = stack.enter_context(self._day(date))
                stale = day is not None and hours.changes_of(day) != hours.changes_added_up(main, date)
            except SQL_ERRORS as error:
                _log.error("day {day} goes without its hours: {error}", day=date.isoformat(), error=str(error))
                day, stale = None, False
            with transaction(main):
                if day is not None and stale:
                    main.execute("SAVEPOINT hours")
                    try:
                        hours.replace(main, date, day)
                    except SQL_ERRORS as error:
                        if not is_damage(error):
                            raise
                        main.execute("ROLLBACK TO hours")
                        _log.error("day {day} goes without its hours: {error}", day=date.isoformat(), error=str(error))
                unsent = sending.drop(main, number_of(date), day)
                _set_state(main, "dropped_through", max(number_of(date), _state(main, "dropped_through") or 0))
        remove_day(self.directory, date)
        _log.info("day {day} was dropped; its hours are kept", day=date.isoformat())
        if unsent:
            _log.warn("{n} records of day {day} went unsent: Graylog did not take them", n=unsent, day=date.isoformat())

    @contextlib.contextmanager
    def _day(self, date: datetime.date) -> Iterator[sqlite3.Connection | None]:
        """A day file read as it is in one commit; None while it has no tables yet."""
        with contextlib.closing(open_reader(day_path(self.directory, date))) as day:
            day.execute("BEGIN")
            yield day if day.execute("PRAGMA user_version").fetchone()[0] else None

    def _remove_set_aside(self, first: datetime.date) -> None:
        """Damaged files of days that are no longer kept."""
        for path in self.directory.glob("damaged-*.db*"):
            with contextlib.suppress(ValueError):
                date = datetime.datetime.strptime(path.name[8:16], "%Y%m%d").date()  # noqa: DTZ007 - a day
                if date < first:
                    path.unlink(missing_ok=True)

    # --- Time ---------------------------------------------------------------------------------------------

    def _trusted(self, main: sqlite3.Connection) -> float:
        """Unix seconds that retention acts on: the clock's, or less while it is doubted."""
        now, steady = self.now(), self.steady()
        known = _state(main, "clock")
        if known is None:
            newest = next(iter(days_in(self.directory)), None)
            known = now if newest is None else (number_of(newest) + 1) * _DAY_S
        if now > known + limits.CLOCK_STEP_S:
            if self._doubted is None:
                self._doubted = steady
                _log.warn(
                    "the clock is {hours:.0f} h ahead of the last look; no day is dropped for it within {wait:.0f} h",
                    hours=(now - known) / 3600,
                    wait=limits.CLOCK_DOUBTED_S / 3600,
                )
            waited = steady - self._doubted
            if waited < limits.CLOCK_DOUBTED_S:
                return known + waited
        self._doubted = None
        if now > known or _state(main, "clock") is None:
            _set_state(main, "clock", max(now, known))
        return now

    @contextlib.contextmanager
    def _main(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(open_writer(self.directory / "main.db", "main")) as main:
            yield main


def _state(main: sqlite3.Connection, name: str) -> float | None:
    row = main.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return float(row[0]) if row else None


def _set_state(main: sqlite3.Connection, name: str, value: float) -> None:
    main.execute("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)", (name, value))
