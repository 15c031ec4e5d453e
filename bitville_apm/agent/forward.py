"""Sending one pipeline's journal to the collector: in order, one batch in flight, nothing dropped on the way.

A flush comes every `flush_seconds` and as soon as a full batch waits. What was taken from the journal stays in
hand until the collector has answered for it. Four things keep a flush from going on:

* the breaker is open (COMM-04): after 60 s one probe of one item is tried;
* the collector asked for time (`Retry-After`);
* the collector does not want this key (401, 403, 404 and the like): tried again each 60 s, or when it changes;
* there is no key yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import breaker, files, limits
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.repeated import Repeated
from bitville_apm.agent.segment import Record
from bitville_apm.agent.transmitter import Delivered, Failed, Rejected, Transmitter
from bitville_apm.agent.worker import Run
from bitville_apm.breaker import Breaker

_log = Logger()


@attrs.define
class Sent:
    """What became of the records since start."""

    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    failed_batches: int = 0


@attrs.define(eq=False)
class Forward:
    """One pipeline's sender. `read_key` blocks, and gives an empty text while there is no key; `now` is unix s."""

    journal: Journal
    transmitter: Transmitter
    quarantine: Quarantine
    run: Run
    clock: IReactorTime
    now: Callable[[], float]
    read_key: Callable[[], str]
    state_file: Path
    flush_seconds: float
    breaker_name: str = "central_listener"
    sent: Sent = attrs.Factory(Sent)
    breaker: Breaker = attrs.field(factory=Breaker)
    held: str = ""
    keyless: bool = False
    _key: str = ""
    _hand: list[Record] = attrs.Factory(list)
    _most: int = limits.BATCH_ITEMS
    _not_before: float = 0.0
    _held_until: float = 0.0
    _stop_at: float = math.inf
    _flushing: Deferred[None] | None = None
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Restore the breaker, and begin."""
        try:
            data = await self.run(self.state_file.read_bytes)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            _log.warn("breaker {name}: its state cannot be read: {error}", name=self.breaker_name, error=error)
            data = b""
        if data:
            self.breaker = breaker.decoded(data, self.now(), self.clock.seconds())
            _log.info(
                "breaker {name} restored: {state}, {n} failures",
                name=self.breaker_name,
                state=self.breaker.state,
                n=self.breaker.failure_count,
            )
        self.journal.on_durable = self._durable
        self._loop = LoopingCall(self.flush)
        self._loop.clock = self.clock
        self._loop.start(self.flush_seconds, now=True)

    async def stop(self) -> None:
        """Send what the breaker allows and the time lasts, then stop."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self.journal.on_durable = lambda: None
        try:
            await self.journal.sync()
        except OSError as error:
            _log.error("journal: fsync failed: {error}", error=error)
        before = self.sent.stored + self.sent.duplicate
        self._stop_at = self.clock.seconds() + limits.FLUSH_AT_STOP_S
        await self._waited()
        self.flush()
        await self._waited()
        _log.info(
            "{n} flushed, {left} left on disk", n=self.sent.stored + self.sent.duplicate - before, left=self.pending
        )
        await self.transmitter.close()

    async def _waited(self) -> None:
        if self._flushing is not None:
            done: Deferred[None] = Deferred()
            self._flushing.addBoth(lambda _: done.callback(None))
            left = max(0.1, self._stop_at - self.clock.seconds())
            await done.addTimeout(left, self.clock, onTimeoutCancel=lambda result, _: None)

    @property
    def pending(self) -> int:
        """Records that no collector has answered for."""
        return len(self._hand) + self.journal.memory_count + self.journal.disk_count

    @property
    def status(self) -> str:
        """For health: ok, degraded, failing."""
        if self.held:
            return "failing"
        return "degraded" if self.keyless or self.breaker.failure_count or self.journal.failing else "ok"

    def statistics(self) -> dict[str, Any]:
        """The breaker and the sender in numbers, without the URL: health shows it to anybody on this machine."""
        return self.breaker.statistics(self.breaker_name)

    # --- sending --------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send everything that waits; nothing when a flush is under way."""
        self._begin(everything=True)

    def _durable(self) -> None:
        if self.journal.has_batch() and not self.breaker.failure_count:
            self._begin(everything=False)

    def _begin(self, everything: bool) -> None:
        if self._flushing is not None:
            return
        self._flushing = Deferred()
        done = Deferred.fromCoroutine(self._send_all(everything))
        done.addErrback(self._flush_failed)
        done.addCallback(self._flushed)

    def _flush_failed(self, failure: Failure) -> None:
        n = self._repeated.due("flush", self.clock.seconds())
        if n and failure.check(OSError):
            _log.error("flush failed {n} times: {error}", n=n, error=failure.value)
        elif n:
            _log.failure("flush failed {n} times", failure, n=n)

    def _flushed(self, _: None) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.callback(None)

    async def _send_all(self, everything: bool) -> None:
        delivered = failed = 0
        while await self._may_send():
            if not self._hand:
                if not everything and not self.journal.has_batch():
                    break
                self._hand = await self.journal.take(limits.BATCH_ITEMS, limits.BATCH_BYTES)
            if not self._hand:
                break
            probing = self.breaker.state == "half_open"
            part = self._hand[: 1 if probing else self._most]
            outcome = await self.transmitter.send(part, self._key, self.journal.journal_id)
            if isinstance(outcome, Delivered):
                await self._delivered(part, outcome)
                delivered += len(part)
            else:
                failed += len(part)
                if not await self._failed(part, outcome):
                    break
        if delivered or failed:
            _log.info("{n} sent, {m} failed", n=delivered, m=failed)

    async def _may_send(self) -> bool:
        changed = await self._read_key()
        if not self._key or not self.pending:
            return False
        now = self.clock.seconds()
        polled = self.breaker.polled(now)
        if polled.state != self.breaker.state:
            await self._set_breaker(polled)
        if self.breaker.state == "open" or now < self._not_before or now >= self._stop_at:
            return False
        return not self.held or changed or now >= self._held_until

    async def _read_key(self) -> bool:
        """Read the key again; gives back whether it changed."""
        try:
            key, why = await self.run(self.read_key), "the key file is not there or empty"
        except OSError as error:
            key, why = "", str(error)
        if not key and not self.keyless:
            _log.warn("nothing is sent until there is a key: {why}", why=why)
        before, self._key, self.keyless = self._key, key, not key
        return before != key

    async def _delivered(self, part: Sequence[Record], answer: Delivered) -> None:
        for rejected in answer.rejected:
            if 1 <= rejected.line <= len(part):
                await self._set_aside(part[rejected.line - 1], rejected)
        self.sent.stored += answer.stored
        self.sent.duplicate += answer.duplicate
        self.sent.rejected += len(answer.rejected)
        self.held = ""
        self._not_before = 0.0
        self._most = min(self._most * 2, limits.BATCH_ITEMS)
        await self._done(part)
        await self._set_breaker(self.breaker.succeeded())

    async def _failed(self, part: Sequence[Record], failed: Failed) -> bool:
        """What a failure leads to; gives back whether sending may go on at once."""
        now = self.clock.seconds()
        if failed.kind == "too_large":
            if len(part) > 1:
                self._most = len(part) // 2
                return True
            await self._set_aside(part[0], Rejected(1, failed.reason))
            self.sent.rejected += 1
            await self._done(part)
            return True
        self.sent.failed_batches += 1
        n = self._repeated.due(failed.reason, now)
        if n:
            _log.warn("sending failed {n} times: {reason}", n=n, reason=failed.reason)
        if failed.kind == "hold":
            self.held = failed.reason
            self._held_until = now + limits.HOLD_S
        else:
            self._not_before = now + failed.retry_after
            await self._set_breaker(self.breaker.failed(self.now(), now))
        return False

    async def _set_aside(self, record: Record, why: Rejected) -> None:
        await self.run(self.quarantine.keep, int(self.now() * 1000), why.reason, why.fields, record.entry.body)

    async def _done(self, part: Sequence[Record]) -> None:
        del self._hand[: len(part)]
        await self.journal.acked(part[-1])

    async def _set_breaker(self, changed: Breaker) -> None:
        before, self.breaker = self.breaker, changed
        if changed == before:
            return
        if changed.state != before.state:
            _log.info(
                "breaker {name} {state}",
                name=self.breaker_name,
                state={"open": "opened", "half_open": "half-open"}.get(changed.state, changed.state),
            )
        try:
            await self.run(_save, self.state_file, changed.encoded())
        except OSError as error:
            n = self._repeated.due("breaker", self.clock.seconds())
            if n:
                _log.warn("breaker {name}: its state cannot be written: {error}", name=self.breaker_name, error=error)


def _save(path: Path, data: bytes) -> None:
    files.make_private(path.parent)
    files.replace(path, data)
