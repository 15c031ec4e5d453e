"""Sending one pipeline's journals to the collector: in order, one batch in flight, nothing dropped on the way.

A flush comes every `flush_seconds` and as soon as a full batch waits. What was taken from a journal stays in hand
until the collector has answered for it (`outgoing.py`); a batch holds records of one journal only, and before each
batch the first journal that has any is asked first. Four things keep a flush from going on:

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

from bitville_apm import limits
from bitville_apm.agent import outgoing
from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.agent.quarantine import Item, Quarantine
from bitville_apm.agent.segment import Record
from bitville_apm.agent.transmitter import Delivered, Failed, Rejected, Transmitter
from bitville_apm.agent.worker import Run
from bitville_apm.breaker import Breaker
from bitville_apm.kept import KeptBreaker
from bitville_apm.repeated import Repeated

_log = Logger()


@attrs.define(eq=False)
class Forward:
    """One pipeline's sender; `journals` in the order in which they are asked.

    `read_key` blocks, and gives an empty text while there is no key; `now` is unix seconds.
    """

    journals: Sequence[Outgoing]
    transmitter: Transmitter
    quarantine: Quarantine
    run: Run
    clock: IReactorTime
    now: Callable[[], float]
    read_key: Callable[[], str]
    state_file: Path
    flush_seconds: float
    breaker_name: str = "central_listener"
    held: str = ""
    keyless: bool = False
    failed_batches: int = 0
    _stuck: str = ""
    _everything: bool = False
    _key: str = ""
    _refused: int = 0
    _not_before: float = 0.0
    _held_until: float = 0.0
    _stop_at: float = math.inf
    _flushing: Deferred[None] | None = None
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None
    _kept: KeptBreaker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._kept = KeptBreaker(self.breaker_name, self.state_file, self.run, self.clock, self.now)

    @property
    def breaker(self) -> Breaker:
        """As it was when it was last asked or changed."""
        return self._kept.value

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Restore the breaker, and begin."""
        await self._kept.restore()
        for journal in self.journals:
            journal.journal.on_durable = self._durable
        self._loop = LoopingCall(self.flush)
        self._loop.clock = self.clock
        self._loop.start(self.flush_seconds, now=True)

    async def stop(self) -> None:
        """Send what the breaker allows and the time lasts, then stop."""
        self._end_flushes()
        for journal in self.journals:
            try:
                await journal.journal.sync()
            except OSError as error:
                _log.error("journal: fsync failed: {error}", error=error)
        before = self.pending
        self._stop_at = self.clock.seconds() + limits.FLUSH_AT_STOP_S
        await self._waited(limits.FLUSH_AT_STOP_S)
        self.flush()
        await self._waited(self._stop_at - self.clock.seconds())
        _log.info("{n} flushed, {left} left on disk", n=before - self.pending, left=self.pending)
        await self.transmitter.close()

    async def pause(self) -> None:
        """Stop after the batch in flight, or without its answer after 5 s: it is sent again, and known then."""
        self._end_flushes()
        self._stop_at = self.clock.seconds()
        await self._waited(limits.HANDOVER_S)

    def _end_flushes(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        for journal in self.journals:
            journal.journal.on_durable = lambda: None

    async def _waited(self, seconds: float) -> None:
        if self._flushing is not None:
            done: Deferred[None] = Deferred()
            self._flushing.addBoth(lambda _: done.callback(None))
            await done.addTimeout(max(0.1, seconds), self.clock, onTimeoutCancel=lambda result, _: None)

    async def reset(self) -> None:
        """By hand: close the breaker, forget what the collector asked for, and send."""
        _log.info("breaker {name} reset", name=self.breaker_name)
        self._not_before = self._held_until = 0.0
        await self._kept.succeeded()
        self.flush()

    @property
    def pending(self) -> int:
        """Records that no collector has answered for."""
        return sum(journal.pending for journal in self.journals)

    @property
    def status(self) -> str:
        """For health: ok, degraded, failing."""
        if self.held:
            return "failing"
        failing = any(journal.journal.failing for journal in self.journals)
        return "degraded" if self.keyless or self.breaker.failure_count or self._stuck or failing else "ok"

    def statistics(self) -> dict[str, Any]:
        """The breaker and the sender in numbers, without the URL: health shows it to anybody on this machine."""
        return self._kept.statistics()

    def told(self) -> dict[str, Any]:
        """The sender as a whole (DAEMON-10), for the one who runs the agent."""
        return {
            "listener_url": self.transmitter.url,
            "timeout": limits.REQUEST_TIMEOUT_S,
            "circuit_breaker": self.statistics(),
            "failed_batches": self.failed_batches,
        }

    # --- sending --------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send everything that waits; a flush that is under way goes on with it."""
        self._everything = True
        self._begin()

    def _durable(self) -> None:
        if not self.breaker.failure_count and any(journal.is_due for journal in self.journals):
            self._begin()

    def _begin(self) -> None:
        if self._flushing is not None:
            return
        self._flushing = Deferred()
        done = Deferred.fromCoroutine(self._send_all())
        done.addErrback(self._flush_failed)
        done.addCallback(self._flushed)

    def _flush_failed(self, failure: Failure) -> None:
        self._stuck = str(failure.value)
        n = self._repeated.due("flush", self.clock.seconds())
        if n and failure.check(OSError):
            _log.error("flush failed {n} times: {error}", n=n, error=failure.value)
        elif n:
            _log.failure("flush failed {n} times", failure, n=n)

    def _flushed(self, _: None) -> None:
        flushing, self._flushing, self._everything = self._flushing, None, False
        if flushing is not None:
            flushing.callback(None)

    async def _send_all(self) -> None:
        delivered = failed = 0
        while await self._may_send():
            journal = await self._next()
            if journal is None:
                break
            probing = self.breaker.state == "half_open"
            part = journal.hand[: 1 if probing else journal.most]
            outcome = await self.transmitter.send(part, self._key, journal.journal.journal_id, journal.told())
            if isinstance(outcome, Delivered):
                await self._delivered(journal, part, outcome)
                delivered += len(part)
            else:
                failed += len(part)
                if not await self._failed(journal, part, outcome):
                    break
        self._stuck = ""
        if delivered or failed:
            _log.info("{n} sent, {m} failed", n=delivered, m=failed)

    async def _next(self) -> Outgoing | None:
        """The journal whose turn it is, a batch in hand. One that cannot be read does not stop the others."""
        trouble: OSError | None = None
        for journal in self.journals:
            try:
                if (self._everything or journal.is_due) and await journal.fill():
                    return journal
            except OSError as error:
                trouble = error
        if trouble is not None:
            raise trouble
        return None

    async def _may_send(self) -> bool:
        changed = await self._read_key()
        if not self._key or not self.pending:
            return False
        now = self.clock.seconds()
        if (await self._kept.poll()).state == "open" or now < self._not_before or now >= self._stop_at:
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

    async def _delivered(self, journal: Outgoing, part: Sequence[Record], answer: Delivered) -> None:
        became, kept = outgoing.became_of(part, answer)
        for record, why in kept:
            await self._set_aside(journal, record, why)
        self.held = ""
        self._not_before = 0.0
        self._refused = 0
        journal.most = min(journal.most * 2, limits.BATCH_ITEMS)
        await journal.settle(part, became)
        await self._kept.succeeded()

    async def _failed(self, journal: Outgoing, part: Sequence[Record], failed: Failed) -> bool:
        """What a failure leads to; gives back whether sending may go on at once."""
        now = self.clock.seconds()
        at_fault = failed.kind in ("oversize", "invalid") and self._refused < limits.REFUSED_IN_A_ROW
        if at_fault and len(part) > 1:
            journal.most = len(part) // 2
            return True
        if at_fault:
            self._refused += 1
            await self._set_aside(journal, part[0], Rejected(1, failed.reason))
            await journal.settle(part, outgoing.lost(part[0], failed.kind))
            return True
        self.failed_batches += 1
        n = self._repeated.due(failed.reason, now)
        if n:
            _log.warn("sending failed {n} times: {reason}", n=n, reason=failed.reason)
        if failed.kind == "slow":
            # Over a slow line half of it may get through in time; all of it never would.
            journal.most = max(1, len(part) // 2)
        if failed.kind in ("breaker", "slow"):
            self._not_before = now + failed.retry_after
            await self._kept.failed()
        else:
            # After a hold one more item may be at fault: a journal that begins with many such still moves.
            self._refused = min(self._refused, limits.REFUSED_IN_A_ROW - 1)
            self.held = failed.reason
            self._held_until = now + limits.HOLD_S
        return False

    async def _set_aside(self, journal: Outgoing, record: Record, why: Rejected) -> None:
        now_ms, item = int(self.now() * 1000), Item.of(record, journal.journal.journal_id)
        await self.run(self.quarantine.keep, now_ms, why.reason, why.fields, record.entry.body, item)
