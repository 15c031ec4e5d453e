"""The service: one writer thread, some reader threads, one for keys and people, one for what is done now and then."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.store.interface import (
    Arrival,
    BackedUp,
    Cleaned,
    Drifts,
    Framed,
    IKeyring,
    IStore,
    Load,
    Outcome,
    Page,
    Point,
    Projects,
    Search,
    Spike,
    Statistics,
    Stored,
    TopRow,
)
from bitville_apm.store.sqlite import backup, rescue
from bitville_apm.store.sqlite.compressing import Teacher
from bitville_apm.store.sqlite.days import DayFiles
from bitville_apm.store.sqlite.files import bring_days_up_to_date, day_of, days_in, is_damage, size_of
from bitville_apm.store.sqlite.keeping import Keeper
from bitville_apm.store.sqlite.main import Main
from bitville_apm.store.sqlite.reader import Reader
from bitville_apm.store.sqlite.salvage import Salvage, told
from bitville_apm.store.sqlite.trouble import Doctor
from bitville_apm.store.sqlite.writer import Writer

T = TypeVar("T")
_log = Logger()


class Reactor(IReactorFromThreads, IReactorTime):
    """What the store needs of a reactor: its clock (wall time), and a way back from threads."""


@implementer(IStore, IKeyring)
@attrs.define(eq=False)
class SqliteStore:
    """The store in one directory. `open` it, and wait for `close` before the process ends."""

    directory: Path
    reactor: Reactor
    main: Main
    _writer: Writer
    _reader: Reader
    _keeper: Keeper
    _salvage: Salvage
    _threads: ThreadPool
    _main_thread: ThreadPool
    _keeping_thread: ThreadPool
    _main_damage: str | None = None

    @classmethod
    def open(
        cls, directory: Path, reactor: Reactor, days: int = limits.DAYS, gigabytes: float | None = None
    ) -> SqliteStore:
        """Open the files and start the threads; `days` are kept, fewer where they take more than `gigabytes`. Blocks.

        Raises `StoreError` with one line that says what to do.
        """
        rescue.rescue(directory, day_of(reactor.seconds()))
        main = Main.open(directory)
        bring_days_up_to_date(directory)
        reader = Reader(directory)
        reader.projects(None)  # looks into every day, so that a damaged one is known from the start
        files = DayFiles(directory)
        writer = Writer(files, reactor)

        def let_go(first: datetime.date) -> None:
            """Have nobody keep the days before one open."""
            reader.pool.let_go(first)
            writer.do(lambda files: files.let_go(first))

        keeper = Keeper(
            directory,
            days,
            reactor.seconds,
            let_go,
            lambda damage: writer.do(lambda files: files.set_aside(damage)),
            None if gigabytes is None else int(gigabytes * 1e9),
        )
        files.let_go(keeper.first_kept())
        salvage = Salvage(
            directory,
            lambda batch: writer.do(lambda files: files.write([batch])),
            lambda date, marks: writer.do(lambda files: files.keep_on(date, marks)),
        )
        salvage.note(files.missing())
        store = cls(
            directory,
            reactor,
            main,
            writer,
            reader,
            keeper,
            salvage,
            ThreadPool(0, limits.READERS, "bitville-readers"),
            ThreadPool(0, 1, "bitville-main"),
            ThreadPool(0, 1, "bitville-keeping"),
        )
        doctor = Doctor(directory, lambda damage: writer.do(lambda files: files.set_aside(damage)))
        teacher = Teacher(directory, lambda *learned: writer.do(lambda files: files.teach(*learned)))

        def aside(what: Callable[..., object], *arguments: object) -> None:
            """From any thread: do something in the keeping thread; what fails there is only logged."""
            reactor.callFromThread(store.aside, what, *arguments)

        files.on_set_aside = lambda: aside(salvage.run)
        files.on_trouble = lambda date: aside(doctor.look, date)
        files.on_untaught = lambda date: aside(teacher.teach, date)
        reader.on_damage = lambda *seen: aside(doctor.hear, *seen)
        writer.start()
        for pool in (store._threads, store._main_thread, store._keeping_thread):
            pool.start()
        return store

    async def close(self) -> None:
        """Commit what was given, close every file."""
        self._keeper.stopping = self._salvage.stopping = True
        self._reader.stopping = True
        self._reader.pool.close()
        # Before the writer: what is done aside reads files, and the last to close one puts its log into it.
        await deferToThreadPool(self.reactor, self._main_thread, self._keeping_thread.stop)
        await self._writer.stop()
        for pool in (self._threads, self._main_thread):
            pool.stop()
        self.main.close()

    # --- IStore -------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[Arrival]) -> Deferred[Sequence[Outcome]]:
        """See `IStore`."""
        return self._writer.write(batch)

    def search(self, projects: Projects, search: Search) -> Deferred[Page]:
        """See `IStore`."""
        return self._ask(self._reader.search, projects, search)

    def request(self, projects: Projects, id: str) -> Deferred[Stored | None]:
        """See `IStore`."""
        return self._ask(self._reader.request, projects, id)

    def top(
        self, projects: Projects, dimension: str, start: float, end: float, host: str | None, limit: int
    ) -> Deferred[Sequence[TopRow]]:
        """See `IStore`."""
        return self._ask(self._reader.top, projects, dimension, start, end, host, limit)

    def series(
        self, projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Deferred[Sequence[Point]]:
        """See `IStore`."""
        return self._ask(self._reader.series, projects, dimension, value, start, end, host)

    def load(
        self, projects: Projects, start: float, end: float, step: int, host: str | None
    ) -> Deferred[Sequence[Load]]:
        """See `IStore`."""
        return self._ask(self._reader.load, projects, start, end, step, host)

    def statistics(self, projects: Projects) -> Deferred[Statistics]:
        """See `IStore`."""
        return self._ask(self._reader.statistics, projects)

    def correlated(self, projects: Projects, id: str) -> Deferred[Sequence[Stored]]:
        """See `IStore`."""
        return self._ask(self._reader.correlated, projects, id)

    def frames(
        self,
        projects: Projects,
        start: float,
        end: float,
        host: str | None,
        cells: bool = True,
        columns: Collection[str] | None = None,
    ) -> Deferred[Sequence[Framed]]:
        """See `IStore`."""
        return self._ask(self._reader.frames, projects, start, end, host, cells, columns)

    def keep_spike(self, spike: Spike) -> Deferred[None]:
        """See `IStore`."""
        return self._keep(self.main.keep_spike, spike)

    def told_spike(self, id: str, told: int) -> Deferred[None]:
        """See `IStore`."""
        return self._keep(self.main.told_spike, id, told)

    def spikes(
        self, projects: Projects, start: float, end: float, host: str | None, limit: int, signature: str | None = None
    ) -> Deferred[Sequence[Spike]]:
        """See `IStore`."""
        return self._ask(self._reader.spikes, projects, start, end, host, limit, signature)

    def spike(self, projects: Projects, id: str) -> Deferred[Spike | None]:
        """See `IStore`."""
        return self._ask(self._reader.spike, projects, id)

    def keep_drifts(self, drifts: Drifts) -> Deferred[None]:
        """See `IStore`."""
        return self._keep(self.main.keep_drifts, drifts)

    def drifts(self, projects: Projects) -> Deferred[Sequence[Drifts]]:
        """See `IStore`."""
        return self._ask(self._reader.drifts, projects)

    def projects(self, projects: Projects) -> Deferred[Sequence[str]]:
        """See `IStore`."""
        return self._ask(self._reader.projects, projects)

    def hosts(self, projects: Projects) -> Deferred[Sequence[str]]:
        """See `IStore`."""
        return self._ask(self._reader.hosts, projects)

    def clean_up(self) -> Deferred[Cleaned]:
        """See `IStore`."""
        cleaned: Deferred[Cleaned] = deferToThreadPool(self.reactor, self._keeping_thread, self._kept)
        return cleaned

    def back_up(self) -> Deferred[BackedUp]:
        """See `IStore`."""
        now = datetime.datetime.fromtimestamp(self.reactor.seconds(), datetime.timezone.utc)
        to = self.directory / backup.FOLDER
        made: Deferred[BackedUp] = deferToThreadPool(
            self.reactor, self._keeping_thread, backup.back_up, self.directory, to, now
        )
        return made

    def _kept(self) -> Cleaned:
        self._salvage.run()
        return self._keeper.clean_up()

    def aside(self, what: Callable[..., object], *arguments: object) -> None:
        """Do something in the thread for what is done now and then. What fails is tried again when it is next due."""
        if not self._keeper.stopping:
            done = deferToThreadPool(self.reactor, self._keeping_thread, what, *arguments)
            done.addErrback(lambda failure: _log.failure("what is done aside failed", failure))

    def health(self) -> Mapping[str, Any]:
        """See `IStore`."""
        problems = [f"day {date} cannot be read: {why}" for date, why in self._reader.damaged.items()]
        if self._writer.problem is not None:
            problems.append(f"the last batch was not stored: {self._writer.problem}")
        if self._main_damage is not None:
            problems.append(
                f"main.db is damaged ({self._main_damage}): restart the collector, it saves what can be read"
            )
        problems += told(self.directory)
        days: list[dict[str, Any]] = []
        for date, path in days_in(self.directory).items():
            try:
                days.append({"day": date.isoformat(), "bytes": size_of(path)})
            except OSError:
                continue
        return {
            "ok": self._writer.problem is None,
            "problems": problems,
            "kind": "sqlite",
            "days": days,
            "stored": self._writer.stored,
            "expired": self._writer.expired,
            "bytes": sum(day["bytes"] for day in days),
            "bytes_most": self._keeper.most_bytes,
            "dropped_for_space": self._keeper.dropped_for_space,
        }

    def _ask(self, question: Callable[..., T], *arguments: object) -> Deferred[T]:
        answer: Deferred[T] = deferToThreadPool(self.reactor, self._threads, question, *arguments)
        return answer

    # --- IKeyring -----------------------------------------------------------------------------------------

    def key(self, id: str) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self._keep(self.main.key, id)

    def keys(self) -> Deferred[Sequence[Mapping[str, Any]]]:
        """See `IKeyring`."""
        return self._keep(self.main.keys)

    def add_key(
        self, id: str, hash: bytes, project: str, scopes: str, created: float, expires: float | None
    ) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.add_key, id, hash, project, scopes, created, expires)

    def revoke_key(self, id: str, at: float) -> Deferred[bool]:
        """See `IKeyring`."""
        return self._keep(self.main.revoke_key, id, at)

    def user(self, name: str) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self._keep(self.main.user, name)

    def users(self) -> Deferred[Sequence[Mapping[str, Any]]]:
        """See `IKeyring`."""
        return self._keep(self.main.users)

    def add_user(self, name: str, role: str, projects: str | None, created: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.add_user, name, role, projects, created)

    def saw_user(self, name: str, now: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.saw_user, name, now)

    def add_link(self, hash: bytes, user: str, expires: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.add_link, hash, user, expires)

    def take_link(self, hash: bytes, now: float) -> Deferred[str | None]:
        """See `IKeyring`."""
        return self._keep(self.main.take_link, hash, now)

    def add_session(self, hash: bytes, user: str, expires: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.add_session, hash, user, expires)

    def session(self, hash: bytes, now: float) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self._keep(self.main.session, hash, now)

    def drop_session(self, hash: bytes) -> Deferred[None]:
        """See `IKeyring`."""
        return self._keep(self.main.drop_session, hash)

    def _keep(self, action: Callable[..., T], *arguments: object) -> Deferred[T]:
        answer: Deferred[T] = deferToThreadPool(self.reactor, self._main_thread, action, *arguments)
        return answer.addErrback(self._note_damage)

    def _note_damage(self, failure: Failure) -> Failure:
        if failure.value is not None and is_damage(failure.value):
            self._main_damage = str(failure.value)
        return failure
