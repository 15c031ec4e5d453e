"""Reads the store forward and sends what it finds to Graylog, in order, one batch at a time (GELF-01 to -06).

The store is the buffer: while Graylog is away nothing is held but a mark in `main.db`, and what was received meanwhile
is read behind it later. There are three of them for each day:

    kept (main.db) ≤ certain ≤ read

`read` is where the next batch begins. What was sent is in doubt until the connection has outlived it by the sender's
`hold_s`, and then `certain`; when the connection is cut, reading begins again there. Once a second that is kept; a
process that dies begins at it. So each record gets there at least once, and what comes twice has the same `_bv_id`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.collector.config import GraylogSection
from bitville_apm.collector.graylog import gelf
from bitville_apm.collector.graylog.sender import NotSent, Sender
from bitville_apm.kept import KeptBreaker
from bitville_apm.repeated import Repeated
from bitville_apm.store.feed import IFeed, Mark, Waiting

_log = Logger()


@attrs.frozen
class _Doubted:
    """One batch that was sent: when (monotonic), where it ended, how many messages."""

    at: float
    mark: Mark
    messages: int


@attrs.define(eq=False)
class Graylog:
    """See the module. `run` does something in a thread, `reactor` counts seconds that never jump, `now` is unix
    seconds."""

    section: GraylogSection
    feed: IFeed
    sender: Sender
    breaker: KeptBreaker
    run: Callable[..., Deferred[Any]]
    reactor: Any
    now: Callable[[], float]
    counted: Counter[str] = attrs.field(factory=Counter)
    """Since the start: messages `sent`, of those `repeated`, and `failures` to send."""
    pending: int = 0
    dropped: int = 0
    """Records that retention has dropped unsent, since it was switched on."""
    problem: str | None = None
    """What kept the last batch from being sent."""
    replaying: bool = False
    """Whether there is something to make up for."""
    last_replay: float | None = None
    _read: dict[int, Mark] = attrs.field(factory=dict)
    _certain: dict[int, Mark] = attrs.field(factory=dict)
    _kept: dict[int, Mark] = attrs.field(factory=dict)
    _kept_at: float = float("-inf")
    _doubted: deque[_Doubted] = attrs.field(factory=deque)
    _repeated: Repeated = attrs.field(factory=Repeated)
    _running: Deferred[None] | None = None
    _waiting: Deferred[None] | None = None
    _stopping: bool = False

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send."""
        _log.info("records go to Graylog at {place}", place=self.section.place)
        if self.section.is_open:
            _log.warn("they go there unencrypted; [graylog] protocol = tls or https encrypts them")
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Send nothing more. What is in doubt is sent again by the next process."""
        self._stopping = True
        if self._waiting is not None:
            self._waiting.callback(None)
        await self.sender.close()
        if self._running is not None:
            await self._running
        await self._keep(at_once=True)

    def state(self) -> dict[str, Any]:
        """For `/ready`. `replay`: how many records wait, whether they are being made up for, and when that was last
        done (unix seconds).
        """
        graylog = {
            "enabled": True,
            "host": self.section.host,
            "port": self.section.port,
            "protocol": self.section.protocol,
            "circuit_breaker": self.breaker.statistics(),
            "sent": self.counted["sent"],
            "repeated": self.counted["repeated"],
            "failures": self.counted["failures"],
            "dropped": self.dropped,
            "problem": self.problem,
        }
        going_on = self.replaying and self.breaker.value.state != "open"
        replay = {"pending": self.pending, "is_replaying": going_on, "last_replay": self.last_replay}
        return {"graylog": graylog, "replay": replay}

    # --- sending --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        begun = False
        while not self._stopping:
            try:
                if not begun:
                    await self.breaker.restore()
                    self._kept = dict(await self.feed.marks())
                    self._certain, self._read = dict(self._kept), dict(self._kept)
                    begun = True
                wait = await self._turn()
            except Exception:  # noqa: BLE001 - whatever the store has, the next turn comes
                if self._repeated.due("store", self.reactor.seconds()):
                    _log.failure("records for Graylog cannot be read; they are tried again")
                wait = limits.GRAYLOG_RETRY_S
            await self._wait(wait)

    async def _turn(self) -> float:
        """Settle what was sent, and send the next batch; how long to wait until the next turn."""
        if self._doubted and not self.sender.connected:
            self._in_doubt()
            await self._failed(f"{self.section.address} closed the connection before what was sent was surely read")
            return limits.GRAYLOG_RETRY_S
        await self._settle()
        await self._keep()
        state = (await self.breaker.poll()).state
        if state == "half_open" and self._doubted:
            if self.reactor.seconds() - self._doubted[-1].at >= limits.GRAYLOG_PROOF_S:
                self.problem = None
                await self.breaker.succeeded()
                return 0.0
            state = "open"
        if state == "open":
            await self._unsent(0)
            return limits.GRAYLOG_LOOK_S
        began = self.reactor.seconds()
        waiting = await self._unsent(1 if state == "half_open" else limits.GRAYLOG_BATCH)
        if not waiting:
            if self.replaying and not self._doubted:
                self.replaying, self.last_replay = False, self.now()
            return limits.GRAYLOG_LOOK_S
        messages = await self.run(_encoded, waiting, self.section.facility)
        rest: float = max(limits.GRAYLOG_REST_LEAST_S, limits.GRAYLOG_REST * (self.reactor.seconds() - began))
        try:
            await self.sender.send(messages)
        except NotSent as why:
            self._sent(waiting[: why.sent])
            self._in_doubt()
            await self._failed(str(why))
            return limits.GRAYLOG_RETRY_S
        self._sent(waiting)
        return rest

    async def _unsent(self, most: int) -> Sequence[Waiting]:
        found = await self.feed.unsent(self._read, most)
        self.pending, self.dropped = found.pending, found.dropped
        return found.records

    def _sent(self, waiting: Sequence[Waiting]) -> None:
        """These have left us."""
        if not waiting:
            return
        mark = waiting[-1].mark
        self._read[mark.day] = mark
        self._doubted.append(_Doubted(self.reactor.seconds(), mark, len(waiting)))
        self.counted["sent"] += len(waiting)
        self.pending = max(0, self.pending - len(waiting))

    async def _settle(self) -> None:
        """What the connection has outlived for long enough is certain; that is what the breaker takes for success."""
        now, settled = self.reactor.seconds(), False
        while self._doubted and self._doubted[0].at + self.sender.hold_s <= now:
            mark = self._doubted.popleft().mark
            self._certain[mark.day] = mark
            settled = True
        if settled and self.breaker.value.failure_count:
            self.problem = None
            await self.breaker.succeeded()

    def _in_doubt(self) -> None:
        """The connection is gone: what it has not outlived is read again."""
        if not self.sender.hold_s:
            return
        self.counted["repeated"] += sum(batch.messages for batch in self._doubted)
        self._doubted.clear()
        self._read = dict(self._certain)

    async def _failed(self, why: str) -> None:
        if self._stopping:
            return
        self.problem = why
        self.replaying = True
        self.counted["failures"] += 1
        n = self._repeated.due("send", self.reactor.seconds())
        if n:
            _log.warn(
                "Graylog took nothing {n} times: {why}; records are kept and sent when it does: is an input for GELF"
                " {kind} running there?",
                n=n, why=why, kind=self.section.kind,
            )  # fmt: skip
        await self.breaker.failed()

    async def _keep(self, at_once: bool = False) -> None:
        """Keep in `main.db` what is certain, once a second."""
        now = self.reactor.seconds()
        changed = [mark for day, mark in self._certain.items() if self._kept.get(day) != mark]
        if changed and (at_once or now - self._kept_at >= limits.GRAYLOG_LOOK_S):
            await self.feed.sent(changed)
            self._kept |= {mark.day: mark for mark in changed}
            self._kept_at = now

    async def _wait(self, seconds: float) -> None:
        """Until the time is over, or we stop."""
        if self._stopping:
            return
        self._waiting = Deferred()
        later = self.reactor.callLater(seconds, self._waiting.callback, None)
        await self._waiting
        self._waiting = None
        if later.active():
            later.cancel()


def off() -> dict[str, Any]:
    """For `/ready` where nothing is sent on."""
    return {
        "graylog": {"enabled": False, "host": None, "port": None, "circuit_breaker": None},
        "replay": {"pending": 0, "is_replaying": False, "last_replay": None},
    }


def _encoded(waiting: Sequence[Waiting], facility: str) -> list[bytes]:
    return [gelf.encoded(gelf.of_record(one.stored, facility)) for one in waiting]
