"""Importing one section's spool: read, journalled, durable, then unlinked. Bounded per tick.

A crash between journal and unlink leaves a file whose records are in the journal: their ids are known at the
next start (`unread.py`), so they are not taken twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits, reading
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.journal import NotWritten
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.repeated import Repeated
from bitville_apm.agent.worker import Run
from bitville_apm.checks import Refused

_log = Logger()


@attrs.define(eq=False)
class Spool:
    """One directory. `found(id)` is called for every record imported or recognised."""

    directory: Path
    group: str
    pipeline: Pipeline
    run: Run
    clock: IReactorTime
    found: Callable[[str], None]
    imported: int = 0
    broken: int = 0
    failing: str = ""
    backlog: bool = False
    _first_done: bool = False
    _busy: Deferred[None] | None = None
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    async def start(self) -> None:
        """Make the directory if that is ours to do, import what is there, and go on looking."""
        try:
            await self.run(spoolfiles.prepare, self.directory, self.group)
        except (OSError, KeyError) as error:
            self._failed("prepare", error)
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.SPOOL_TICK_S)

    async def stop(self) -> None:
        """Stop after the import in hand."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._busy is not None:
            done: Deferred[None] = Deferred()
            self._busy.addBoth(lambda _: done.callback(None))
            await done

    def tick(self) -> None:
        """Import a tick's worth; nothing while the last one is not through."""
        if self._busy is not None:
            return
        self._busy = Deferred()
        Deferred.fromCoroutine(self._import()).addErrback(self._not_imported).addCallback(self._done)

    def _not_imported(self, failure: Failure) -> None:
        if not failure.check(OSError, NotWritten):
            _log.failure("spool {path}: import failed", failure, path=str(self.directory))
        self._failed("import", failure.value)

    def _done(self, _: object) -> None:
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.callback(None)

    def _failed(self, what: str, error: BaseException | None) -> None:
        self.failing = f"{what}: {error}"
        n = self._repeated.due(what, self.clock.seconds())
        if n:
            _log.warn(
                "spool {path}: {what} failed {n} times: {error}", path=str(self.directory), what=what, n=n, error=error
            )

    async def _import(self) -> None:
        listing = await self.run(spoolfiles.listed, self.directory)
        self.backlog = listing.more
        imported: list[str] = []
        count = 0
        for name in listing.names:
            try:
                lines = await self.run(spoolfiles.lines, self.directory, name)
            except FileNotFoundError:
                continue
            except spoolfiles.Broken as broken:
                await self._set_aside(name, str(broken))
                continue
            taking = [Deferred.fromCoroutine(self._take(line)) for line in lines]
            try:
                await gatherResults(taking, consumeErrors=True)
            except FirstError as error:
                error.subFailure.raiseException()
            count += len(lines)
            imported.append(name)
        if imported:
            await self.pipeline.journal.sync()
            await self.run(spoolfiles.remove, self.directory, imported)
            self.imported += count
            _log.info("{n} records imported from {files} spool files", n=count, files=len(imported))
        if not self._first_done and not listing.more:
            self._first_done = True
            self.pipeline.spool_caught_up()
        self.failing = ""

    async def _set_aside(self, name: str, why: str) -> None:
        await self.run(spoolfiles.set_aside, self.directory, name)
        self.broken += 1
        n = self._repeated.due("broken", self.clock.seconds())
        if n:
            _log.warn("spool {path}: {n} broken files moved aside: {why}", path=str(self.directory), n=n, why=why)

    async def _take(self, line: bytes) -> None:
        received_ms = self.pipeline.stamp()
        try:
            read = reading.read_line(line, received_ms)
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
