"""The one thread that writes. Batches that wait together are committed together: one fsync for all of them.

A batch is answered after every day file it touches is committed. The files are committed one after another, the
newest day first; should the second fail, what the first took is answered `duplicate` when the sender comes back:
nothing is lost, nothing counted twice.

An id is looked for in its own day and in the days beside it: a record keeps its `recv` on every retry, but a
request that was taken for dead may end after midnight, and a bare record may be sent again after it.
"""

from __future__ import annotations

import datetime
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.store.interface import Arrival, NoSpace, Outcome
from bitville_apm.store.sqlite.day import Day
from bitville_apm.store.sqlite.files import day_of, day_path, days_in, is_full

_log = Logger()
_ONE_DAY = datetime.timedelta(days=1)


@attrs.define(eq=False)
class DayFiles:
    """The day files of a directory and how a batch changes them. Synchronous; belongs to one thread."""

    directory: Path
    damaged: set[datetime.date] = attrs.field(factory=set)
    """Days whose files turned out to be unreadable."""
    _existing: set[datetime.date] = attrs.field(init=False)
    _open: dict[datetime.date, Day] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._existing = set(days_in(self.directory))

    def write(self, batches: Sequence[Sequence[Arrival]], now: float) -> list[list[Outcome]]:
        """Store some batches in one commit a day; outcomes in the same order.

        Raises `NoSpace` when the disk is full, else what SQLite raises; then no batch counts as stored.
        """
        today = day_of(now)
        try:
            outcomes = [[self._take(arrival, today) for arrival in batch] for batch in batches]
            for day in sorted(self._open, reverse=True):
                if self._open[day].changing:
                    self._open[day].commit()
        except BaseException as error:
            self._roll_back()
            if is_full(error, self.directory):
                raise NoSpace from error
            raise
        self._close_all_but(limits.DAYS_OPEN)
        return outcomes

    def close(self) -> None:
        """Close every file."""
        self._close_all_but(0)

    def _take(self, arrival: Arrival, today: datetime.date) -> Outcome:
        at = arrival.frame.at if arrival.frame is not None else arrival.recv_ms / 1000
        date = day_of(at)
        if date < today - datetime.timedelta(days=limits.DAYS):
            return "expired"
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
        """Whether a neighbouring day holds an arrival. A damaged file of another day must not stop this one."""
        try:
            return _held(self._day(date), arrival)
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # its subclasses are locks and full disks
                raise
            if date not in self.damaged:
                self.damaged.add(date)
                _log.error("day-{day:%Y%m%d}.db is damaged: {error}", day=date, error=str(error))
            return False

    def _day(self, date: datetime.date) -> Day:
        """An open day, moved to the end of those to be closed."""
        day = self._open.pop(date, None)
        if day is None:
            day = Day.open(day_path(self.directory, date))
            self._existing.add(date)
        self._open[date] = day
        return day

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
            self._open.pop(date).close()


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


@attrs.define(eq=False)
class _Job:
    batch: Sequence[Arrival]
    now: float
    done: Deferred[Sequence[Outcome]]


@attrs.define(eq=False)
class Writer:
    """The thread, and the queue in front of it. `start`, `write` and `stop` are called on the reactor's thread."""

    directory: Path
    reactor: IReactorFromThreads
    problem: str | None = None
    """What kept the last commit from happening; None when it happened."""
    stored: int = 0
    """Records stored since the start."""
    _queue: SimpleQueue[_Job | Deferred[None]] = attrs.field(factory=SimpleQueue)

    def start(self) -> None:
        """Start the thread."""
        files = DayFiles(self.directory)
        threading.Thread(target=self._run, args=[files], name="bitville-writer", daemon=True).start()

    def write(self, batch: Sequence[Arrival], now: float) -> Deferred[Sequence[Outcome]]:
        """Fires after the commit with the outcomes. Fails with `NoSpace`."""
        job = _Job(batch, now, Deferred())
        self._queue.put(job)
        return job.done

    def stop(self) -> Deferred[None]:
        """Fires when everything given before is committed and the files are closed."""
        stopped: Deferred[None] = Deferred()
        self._queue.put(stopped)
        return stopped

    def _run(self, files: DayFiles) -> None:
        while True:
            group, stopped = self._next_group()
            if group:
                self._commit(files, group)
            if stopped is not None:
                files.close()
                self.reactor.callFromThread(stopped.callback, None)
                return

    def _next_group(self) -> tuple[list[_Job], Deferred[None] | None]:
        """What waits, up to a group's size; and the request to stop, if it came behind it."""
        first = self._queue.get()
        group: list[_Job] = []
        while isinstance(first, _Job):
            group.append(first)
            if sum(len(job.batch) for job in group) >= limits.GROUP_RECORDS:
                return group, None
            try:
                first = self._queue.get_nowait()
            except Empty:
                return group, None
        return group, first

    def _commit(self, files: DayFiles, group: list[_Job]) -> None:
        try:
            outcomes = files.write([job.batch for job in group], group[-1].now)
        except Exception as error:  # noqa: BLE001 - the thread must live; the senders are told
            if len(group) > 1 and not isinstance(error, NoSpace):
                for job in group:  # so that one batch's trouble is not the others'
                    self._commit(files, [job])
                return
            self._note("the disk is full" if isinstance(error, NoSpace) else f"{type(error).__name__}: {error}")
            for job in group:
                self.reactor.callFromThread(job.done.errback, Failure())
            return
        self._note(None)
        self.stored += sum(outcome == "stored" for batch in outcomes for outcome in batch)
        for job, outcome in zip(group, outcomes, strict=True):
            self.reactor.callFromThread(job.done.callback, outcome)

    def _note(self, problem: str | None) -> None:
        """Say when trouble begins and when it is over, not each time it hits a batch."""
        if problem is not None and self.problem is None:
            _log.error("nothing is stored: {problem}; senders keep their records and come back", problem=problem)
        elif problem is None and self.problem is not None:
            _log.info("records are stored again")
        self.problem = problem
