"""Importing one section's spool: read, journalled, durable, then unlinked. Bounded per tick.

A crash between journal and unlink leaves a file whose records are in the journal: their ids are known at the
next start (`unread.py`), so they are not taken twice. What this process could not finish with, because the journal's
disk is full or a file cannot be unlinked, it remembers line by line: nothing is counted again while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits, reading
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.spoolfiles import Contents
from bitville_apm.agent.worker import Run
from bitville_apm.checks import Refused
from bitville_apm.repeated import Repeated

_log = Logger()


@attrs.define(eq=False)
class Spool:
    """One directory. `found(id)` is called for every record imported or recognised.

    `run` should be a thread that nothing else waits for: a spool may lie on a disk that hangs.
    """

    directory: Path
    group: str
    pipeline: Pipeline
    run: Run
    clock: IReactorTime
    found: Callable[[str], None]
    imported: int = 0
    broken: int = 0
    backlog: bool = False
    _failures: dict[str, str] = attrs.Factory(dict)
    _prepared: bool = False
    _taken: dict[str, set[int]] = attrs.Factory(dict)
    _first_done: bool = False
    _busy: Deferred[None] | None = None
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Import what is there, and go on looking."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.SPOOL_TICK_S)

    async def stop(self) -> None:
        """Stop after the import in hand; a disk that hangs is not waited for."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._busy is not None:
            done: Deferred[None] = Deferred()
            self._busy.addBoth(lambda _: done.callback(None))
            await done.addTimeout(limits.DRAIN_S, self.clock, onTimeoutCancel=lambda result, _: None)

    @property
    def failing(self) -> str:
        """What does not work at present; empty when all is well."""
        return "; ".join(self._failures.values())

    def tick(self) -> None:
        """Import a tick's worth; nothing while the last one is not through."""
        if self._busy is not None:
            return
        self._busy = Deferred()
        Deferred.fromCoroutine(self._tick()).addErrback(self._not_imported).addCallback(self._done)

    def _not_imported(self, failure: Failure) -> None:
        if not failure.check(OSError, NotWritten):
            _log.failure("spool {path}: import failed", failure, path=str(self.directory))
        self._failed("import", failure.value)

    def _done(self, _: object) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.callback(None)

    def _failed(self, what: str, error: BaseException | None) -> None:
        self._failures[what] = f"{what}: {error}"
        n = self._repeated.due(what, self.clock.seconds())
        if n:
            _log.warn(
                "spool {path}: {what} failed {n} times: {error}", path=str(self.directory), what=what, n=n, error=error
            )

    async def _tick(self) -> None:
        await self._prepare()
        try:
            listing = await self.run(spoolfiles.listed, self.directory, frozenset(self._taken))
        except FileNotFoundError:
            _log.warn("spool {path} is gone and is made again", path=str(self.directory))
            self._prepared = False
            await self._prepare()
            listing = await self.run(spoolfiles.listed, self.directory, frozenset(self._taken))
        self.backlog = listing.more
        for name in listing.gone:
            del self._taken[name]
        await self._import(listing.names)
        self._failures.pop("import", None)
        if not self._first_done and not listing.more:
            self._first_done = True
            self.pipeline.spool_caught_up()

    async def _prepare(self) -> None:
        if self._prepared:
            return
        try:
            await self.run(spoolfiles.prepare, self.directory, self.group)
        except (OSError, KeyError) as error:
            self._failed("prepare", error)
        else:
            self._prepared = True
            self._failures.pop("prepare", None)

    async def _import(self, names: list[str]) -> None:
        sizes: dict[str, int] = {}
        before = self.imported
        try:
            for name in names:
                taken = self._taken.setdefault(name, set())
                contents = await self._contents(name)
                if contents is not None:
                    await self._take_all(contents, taken)
                    sizes[name] = contents.size
        finally:
            if sizes:
                await self._remove(sizes)
            if self.imported > before:
                _log.info("{n} records imported from {files} spool files", n=self.imported - before, files=len(sizes))

    async def _contents(self, name: str) -> Contents | None:
        try:
            return await self.run(spoolfiles.contents, self.directory, name, self.pipeline.now())
        except FileNotFoundError:
            del self._taken[name]
        except spoolfiles.NotYet:
            pass
        except spoolfiles.Broken as broken:
            await self._set_aside(name, str(broken))
        return None

    async def _set_aside(self, name: str, why: str) -> None:
        try:
            await self.run(spoolfiles.set_aside, self.directory, name)
        except OSError as error:
            self._failed("moving a broken file aside", error)
            return
        self._failures.pop("moving a broken file aside", None)
        del self._taken[name]
        self.broken += 1
        n = self._repeated.due("broken", self.clock.seconds())
        if n:
            _log.warn("spool {path}: {n} broken files moved aside: {why}", path=str(self.directory), n=n, why=why)

    async def _remove(self, sizes: dict[str, int]) -> None:
        """Unlink what is imported, once it is durable."""
        await self.pipeline.journal.sync()
        gone, trouble = await self.run(spoolfiles.remove, self.directory, sizes)
        for name in gone:
            del self._taken[name]
        if trouble is not None:
            self._failed("removing an imported file", trouble)
        else:
            self._failures.pop("removing an imported file", None)

    async def _take_all(self, contents: Contents, taken: set[int]) -> None:
        """Take a file's lines, a few a turn, except those taken already. Raises what the first failed with."""
        left = [n for n in range(len(contents.lines)) if n not in taken]
        for start in range(0, len(left), limits.SPOOL_LINES_AT_ONCE):
            now = left[start : start + limits.SPOOL_LINES_AT_ONCE]
            taking = [Deferred.fromCoroutine(self._take(contents.lines[n], contents.written_ms + n)) for n in now]
            outcomes: Any = await DeferredList(taking, consumeErrors=True)
            done = [n for n, (well, _) in zip(now, outcomes, strict=True) if well]
            taken.update(done)
            self.imported += len(done)
            for well, outcome in outcomes:
                if not well:
                    outcome.raiseException()

    async def _take(self, line: bytes, written_ms: int) -> None:
        received_ms = self.pipeline.stamp()
        try:
            # A version 1 line without an id is named by the time it was written: the same when it is read again.
            read = reading.read_line(line, written_ms)
        except Refused as refused:
            await self.pipeline.refuse(refused, line)
            return
        if read.kind in ("end", "v1"):
            await self.pipeline.take(read, received_ms)
            self.found(read.id)
        elif read.kind == "count":
            self.pipeline.ledger.count(read.message)

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`."""
        return {
            "imported": self.imported,
            "broken": self.broken,
            "backlog": self.backlog,
            "failing": bool(self.failing),
        }
