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
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.store.interface import (
    Arrival,
    BackedUp,
    Cleaned,
    Drifts,
    Framed,
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
from bitville_apm.store.sqlite.asking import Asking
from bitville_apm.store.sqlite.compressing import Teacher
from bitville_apm.store.sqlite.days import DayFiles
from bitville_apm.store.sqlite.feed import Feed
from bitville_apm.store.sqlite.files import bring_days_up_to_date, day_of, days_in, size_of
from bitville_apm.store.sqlite.keeping import Keeper
from bitville_apm.store.sqlite.keyring import Keyring
from bitville_apm.store.sqlite.main import Main
from bitville_apm.store.sqlite.reader import Reader
from bitville_apm.store.sqlite.salvage import Salvage, told
from bitville_apm.store.sqlite.trouble import Doctor
from bitville_apm.store.sqlite.writer import Writer

T = TypeVar("T")
_log = Logger()


class Reactor(IReactorFromThreads, IReactorTime):
    """What the store needs of a reactor: its clock (wall time), and a way back from threads."""


@implementer(IStore)
@attrs.define(eq=False)
class SqliteStore:
    """The store in one directory. `open` it, and wait for `close` before the process ends."""

    directory: Path
    reactor: Reactor
    keyring: Keyring
    _writer: Writer
    _asking: Asking
    _reader: Reader
    _keeper: Keeper
    _salvage: Salvage
    _threads: ThreadPool
    _keeping_thread: ThreadPool

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
        asking = Asking(directory)
        reader = Reader(asking)
        reader.projects(None)  # looks into every day, so that a damaged one is known from the start
        files = DayFiles(directory)
        writer = Writer(files, reactor)

        def let_go(first: datetime.date) -> None:
            """Have nobody keep the days before one open."""
            asking.pool.let_go(first)
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
            Keyring(main, reactor),
            writer,
            asking,
            reader,
            keeper,
            salvage,
            ThreadPool(0, limits.READERS, "bitville-readers"),
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
        asking.on_damage = lambda *seen: aside(doctor.hear, *seen)
        writer.start()
        for pool in (store._threads, store.keyring.thread, store._keeping_thread):
            pool.start()
        return store

    @property
    def feed(self) -> Feed:
        """What is sent on."""
        return Feed(self.keyring.main, self._asking, self._ask, self.keyring.do)

    async def close(self) -> None:
        """Commit what was given, close every file."""
        self._keeper.stopping = self._salvage.stopping = True
        self._asking.stopping = True
        self._asking.pool.close()
        # Before the writer: what is done aside reads files, and the last to close one puts its log into it.
        await deferToThreadPool(self.reactor, self.keyring.thread, self._keeping_thread.stop)
        await self._writer.stop()
        for pool in (self._threads, self.keyring.thread):
            pool.stop()
        self.keyring.main.close()

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
        return self.keyring.do(self.keyring.main.keep_spike, spike)

    def told_spike(self, id: str, told: int) -> Deferred[None]:
        """See `IStore`."""
        return self.keyring.do(self.keyring.main.told_spike, id, told)

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
        return self.keyring.do(self.keyring.main.keep_drifts, drifts)

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
        problems = [f"day {date} cannot be read: {why}" for date, why in self._asking.damaged.items()]
        if self._writer.problem is not None:
            problems.append(f"the last batch was not stored: {self._writer.problem}")
        if self.keyring.damage is not None:
            problems.append(
                f"main.db is damaged ({self.keyring.damage}): restart the collector, it saves what can be read"
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
