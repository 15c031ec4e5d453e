"""Which day files there are, which are open, and how a batch changes them.

An id is looked for in its own day and in the days beside it: a record keeps its `recv` on every retry, but a
request that was taken for dead may end after midnight, and a bare record may be sent again after it.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import Arrival, NoSpace, Outcome
from bitville_apm.store.sqlite import compressing
from bitville_apm.store.sqlite.commits import Commits
from bitville_apm.store.sqlite.day import Day, Mark
from bitville_apm.store.sqlite.files import day_of, day_path, days_in, is_damage, is_full, open_reader

_log = Logger()
_ONE_DAY = datetime.timedelta(days=1)


class Damaged(Exception):
    """A day's file turned out to be damaged. `inode`: of that file, not of one that took its place meanwhile."""

    def __init__(self, date: datetime.date, why: str, inode: int | None = None) -> None:
        super().__init__(why)
        self.date = date
        self.inode = inode


class _Watched:
    """Tell damage from everything else. Raises `Damaged`."""

    def __init__(self, date: datetime.date) -> None:
        self._date = date

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and is_damage(error):
            raise Damaged(self._date, str(error)) from error


@attrs.define(eq=False)
class DayFiles:
    """The day files of a directory and how a batch changes them. Synchronous; belongs to one thread."""

    directory: Path
    first_kept: datetime.date = datetime.date.min
    """Records of earlier days are expired."""
    on_set_aside: Callable[[], None] = lambda: None
    """Called when a damaged file was put out of the way."""
    on_trouble: Callable[[datetime.date], None] = lambda date: None
    """Called with each day of a batch that failed for no reason that is known."""
    on_untaught: Callable[[datetime.date], None] = lambda date: None
    """Called when a day has records enough to learn a dictionary of its own."""
    _commits: Commits = attrs.field(init=False)
    _existing: set[datetime.date] = attrs.field(init=False)
    _open: dict[datetime.date, Day] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._existing = set(days_in(self.directory))
        self._commits = Commits.read(self.directory)

    def let_go(self, first_kept: datetime.date) -> None:
        """Close every earlier day and take nothing more for it."""
        self.first_kept = first_kept
        for date in [date for date in self._open if date < first_kept]:
            self._open.pop(date).close()
        self._existing = {date for date in self._existing if date >= first_kept}
        self._commits.forget(first_kept)

    def missing(self) -> Mapping[datetime.date, int]:
        """Records that days had once and no longer have: the end of a write-ahead log is gone. Before any write."""
        return self._commits.lost(self.directory)

    def teach(self, date: datetime.date, id: int, dictionary: bytes) -> None:
        """Give a day the dictionary that was learned from it."""
        if date in self._existing:
            with _Watched(date):
                self._day(date).teach(id, dictionary, own=True)

    def keep_on(self, date: datetime.date, marks: Sequence[Mark]) -> None:
        """Bring watermarks of a file that was set aside into the day's new one."""
        with _Watched(date):
            self._day(date).keep_on(marks)

    def write(self, batches: Sequence[Sequence[Arrival]]) -> list[list[Outcome]]:
        """Store some batches in one commit a day; outcomes in the same order.

        Raises `NoSpace` when the disk is full, else what SQLite raises; then no batch counts as stored.
        """
        renewed: set[datetime.date] = set()
        while True:
            try:
                outcomes = [[self._take(arrival) for arrival in batch] for batch in batches]
                changing = [date for date in sorted(self._open, reverse=True) if self._open[date].changing]
                for date in changing:
                    with _Watched(date):
                        self._open[date].prepare()
                for date in changing:  # one right after the other: between them a request is both dead and ended
                    with _Watched(date):
                        records = self._open[date].commit()
                    self._commits.note(date, records)
                break
            except Damaged as damage:
                self._roll_back()
                if damage.date in renewed:
                    raise
                renewed.add(damage.date)
                self.set_aside(damage)
            except BaseException as error:
                touched = [date for date, day in self._open.items() if day.changing]
                self._roll_back()
                if is_full(error, self.directory):
                    raise NoSpace from error
                for date in touched:
                    self.on_trouble(date)
                raise
        self._close_all_but(limits.DAYS_OPEN)
        for date, day in self._open.items():
            if day.wants_dictionary:
                day.wants_dictionary = False
                self.on_untaught(date)
        return outcomes

    def close(self) -> None:
        """Close every file."""
        self._close_all_but(0)
        self._commits.close()

    def _take(self, arrival: Arrival) -> Outcome:
        at = arrival.frame.at if arrival.frame is not None else arrival.recv_ms / 1000
        date = day_of(at)
        if date < self.first_kept:
            return "expired"
        with _Watched(date):
            day = self._day(date)
            day.begin()
            new = self._add(arrival, day, date)
            day.note(arrival, new)
        return "stored" if new else "duplicate"

    def _add(self, arrival: Arrival, day: Day, date: datetime.date) -> bool:
        if arrival.frame is not None:
            return day.add_frame(arrival, arrival.frame)
        held = _held(day, arrival)
        for neighbour in (date - _ONE_DAY, date + _ONE_DAY):
            if neighbour in self._existing:
                held = self._held_beside(neighbour, arrival) or held
        if held:
            return False
        if arrival.postgres is not None:
            day.add_postgres(arrival, arrival.postgres)
        elif arrival.request is not None:
            day.add_request(arrival, arrival.request)
        return True

    def _held_beside(self, date: datetime.date, arrival: Arrival) -> bool:
        """Whether a neighbouring day holds an arrival."""
        with _Watched(date):
            return _held(self._day(date), arrival)

    def set_aside(self, damage: Damaged) -> None:
        """Give a damaged file another name, so that its day begins a new one. Between two batches only."""
        path = day_path(self.directory, damage.date)
        if damage.inode is not None and damage.inode != inode_of(path):
            return
        day = self._open.pop(damage.date, None)
        if day is not None:
            with contextlib.suppress(sqlite3.Error):
                day.close()
        free = (self.directory / f"damaged-{damage.date:%Y%m%d}-{n}.db" for n in itertools.count(1))
        aside = next(other for other in free if not other.exists())
        Path(f"{path}-shm").unlink(missing_ok=True)
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        self._existing.discard(damage.date)
        self._commits.note(damage.date, 0)
        _log.error(
            "{path} is damaged and now {aside}; what can be read is stored again: {error}",
            path=str(path),
            aside=aside.name,
            error=str(damage),
        )
        self.on_set_aside()

    def _day(self, date: datetime.date) -> Day:
        """An open day, moved to the end of those to be closed."""
        day = self._open.pop(date, None)
        if day is None:
            day = Day.open(day_path(self.directory, date))
            if date not in self._existing:
                self._existing.add(date)
                self._teach_the_latest(day)
        self._open[date] = day
        return day

    def _teach_the_latest(self, day: Day) -> None:
        """Give a new day the dictionary of the newest other one, until it learns its own."""
        for date in sorted(self._existing, reverse=True):
            path = day_path(self.directory, date)
            if path != day.path:
                with contextlib.suppress(sqlite3.Error), contextlib.closing(open_reader(path)) as other:
                    known = compressing.newest(other)
                    if known is not None:
                        day.teach(*known, own=False)
                        return

    def _roll_back(self) -> None:
        """Undo in every file; one that cannot even do that is closed, which undoes it too."""
        for date, day in list(self._open.items()):
            try:
                day.rollback()
            except Exception:  # noqa: BLE001 - whatever is wrong with this file, the others must be freed
                _log.failure("{path} cannot be rolled back and is closed", path=str(day.path))
                del self._open[date]
                day.close()

    def _close_all_but(self, most: int) -> None:
        while len(self._open) > most:
            date = next(iter(self._open))
            day = self._open.pop(date)
            with contextlib.suppress(sqlite3.Error):
                day.checkpoint()
            day.close()


def inode_of(path: Path) -> int | None:
    """Which file a path is; None for none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _held(day: Day, arrival: Arrival) -> bool:
    """Whether a day holds an arrival already. A request that was taken for dead gives way to its end."""
    if arrival.postgres is not None:
        return day.has_postgres(arrival.project, arrival.id)
    kind = day.kind_of(arrival.project, arrival.id)
    if kind == "died" and arrival.kind != "died":
        day.begin()
        day.drop_died(arrival.project, arrival.id)
        return False
    return kind is not None
