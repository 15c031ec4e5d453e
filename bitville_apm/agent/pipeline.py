"""One collector key's way from a line to the collector: journals, frames, quarantine, forwarder, and the ledger.

Sections that share a key share a pipeline; a section with a key of its own has a journal of its own, so that
projects never mix and a revoked key stops only its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits, reading, requests
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.exemplars import Exemplars
from bitville_apm.agent.forward import Forward
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.ledger import Ledger, unexplained
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.sealing import Sealing
from bitville_apm.agent.segment import FRAMED, LOCAL, SHORT, Entry, Place
from bitville_apm.agent.unread import UnreadAcks
from bitville_apm.agent.worker import Run
from bitville_apm.checks import Refused
from bitville_apm.records import Line
from bitville_apm.requests import Request

_log = Logger()


@attrs.define(eq=False)
class Pipeline:
    """See above. `journal` has the records, `frames` is that of frames. `now` is unix seconds, `clock` monotonic.

    `run` is the journals' thread, `compute` one whose work no client waits for.
    """

    name: str
    journal: Journal
    frames: Journal
    forward: Forward
    quarantine: Quarantine
    run: Run
    compute: Run
    clock: IReactorTime
    now: Callable[[], float]
    spools: int = 0
    ledger: Ledger = attrs.Factory(Ledger)
    unread: UnreadAcks = attrs.Factory(UnreadAcks)
    exemplars: Exemplars = attrs.Factory(Exemplars)
    sealing: Sealing = attrs.field(init=False)
    unbalanced: Mapping[str, int] = attrs.Factory(dict)
    _writing: dict[str, list[Deferred[None]]] = attrs.Factory(dict)
    _refusing: int = 0
    _loop: LoopingCall | None = None

    def __attrs_post_init__(self) -> None:
        self.sealing = Sealing(self.journal, self.frames, self.compute, self.clock, self.now)

    async def start(self) -> None:
        """Open the journal, then begin to send."""
        self.journal.on_open = self._opened
        await self.journal.start()
        await self.frames.start()
        self.sealing.start()
        await self.forward.start()
        self._loop = LoopingCall(self.audit)
        self._loop.clock = self.clock
        self._loop.start(limits.LEDGER_S, now=False)

    async def stop(self) -> None:
        """Seal, send what can be sent, then close the journals."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        await self.sealing.stop()
        await self.forward.stop()
        await self.close()

    async def close(self) -> None:
        """Seal what is not sealed yet, and let go of the journals."""
        await self.sealing.stop()
        await self.journal.stop()
        await self.frames.stop()

    def _opened(self, recent: array[int]) -> None:
        self.unread.before = recent

    def stamp(self) -> int:
        """When a line comes in: unix ms, told once and never changed (wire.md 5)."""
        return int(self.now() * 1000)

    def take(self, line: Line, received_ms: int) -> Deferred[None]:
        """Journal an end or version 1 line, unless it is there already.

        Fires when it may be acknowledged; fails with `NotWritten` when its sender must keep it.
        """
        if not self.journal.opened:
            return self._once_open(line, received_ms)
        self.ledger.received += 1
        if self.unread.knows(line.id, self.clock.seconds()):
            self.ledger.duplicate += 1
            return succeed(None)
        if line.id in self._writing:
            # A second copy, from the spool or the socket, of what is being written: it fares as the first does.
            second: Deferred[None] = Deferred()
            self._writing[line.id].append(second)
            return second
        request = requests.request_of(line)
        flags = self._flags(line, request, received_ms)
        written = self.journal.append(Entry(line.kind, line.id, received_ms, line.body, flags))
        self._writing[line.id] = []
        return written.addCallbacks(
            self._journalled,
            self._unwritten,
            callbackArgs=(line, request, received_ms, flags),
            errbackArgs=(line,),
        )

    def _once_open(self, line: Line, received_ms: int) -> Deferred[None]:
        """Until its journal is open nobody knows what the process before has taken of it."""
        self.journal.appends.waiting_bytes += len(line.body)

        def opened(failure: Failure | None) -> Failure | Deferred[None]:
            self.journal.appends.waiting_bytes -= len(line.body)
            if failure is None:
                return self.take(line, received_ms)
            self.ledger.received += 1
            self.ledger.unwritten += 1
            return failure

        return Deferred.fromCoroutine(self.journal.ready()).addBoth(opened)

    def died(self, id_: str, body: bytes) -> Deferred[Place]:
        """Journal a request that ended without an end."""
        received_ms = self.stamp()
        line = msgspec.structs.replace(reading.read_body("died", body, received_ms), id=id_)
        written = self.journal.append(Entry("died", id_, received_ms, body, FRAMED))
        return written.addCallback(self._died, line, received_ms)

    def _died(self, place: Place, line: Line, received_ms: int) -> Place:
        self.ledger.died += 1
        self.sealing.taken(line, requests.request_of(line), received_ms, place)
        return place

    def observed(self, id_: str, body: bytes) -> Deferred[None]:
        """Journal what a source saw of a server: no frame counts it."""
        if not self.journal.opened:
            return fail(NotWritten("the journal is not open yet"))
        received_ms = self.stamp()
        written = self.journal.append(Entry("pg", id_, received_ms, body))
        return written.addCallback(self._observed, received_ms)

    def _observed(self, place: Place, received_ms: int) -> None:
        self.ledger.observed += 1
        self.sealing.passed(received_ms, place)

    def _flags(self, line: Line, request: Request, received_ms: int) -> int:
        """Frames count every request. Of the short ones only a few are sent as well, and none while much waits."""
        if line.kind != "end" or not line.message.short:
            return FRAMED
        waits = self.journal.books.pending.records > limits.EXEMPLARS_PENDING
        if not waits and self.exemplars.choose(request, received_ms / 1000):
            return FRAMED | SHORT
        return FRAMED | SHORT | LOCAL

    def refuse(self, refused: Refused, line: bytes) -> Deferred[None]:
        """Keep a refused line in quarantine: fires when it is there, fails with `OSError`."""
        self.ledger.received += 1
        self._refusing += 1
        self.journal.appends.waiting_bytes += len(line)
        kept = self.run(self.quarantine.keep, self.stamp(), refused.reason, refused.problems, line)
        kept.addBoth(self._kept, len(line))
        return kept

    def spool_caught_up(self) -> None:
        """One of the spools has imported what was there at start; after the last one the old ids may go."""
        self.spools -= 1
        if self.spools == 0:
            self.unread.spool_imported(self.clock.seconds())

    @property
    def waiting(self) -> int:
        """Lines received of which nobody knows yet what will become."""
        return sum(1 + len(copies) for copies in self._writing.values()) + self._refusing

    def audit(self) -> None:
        """Once a minute: do the sums balance? Said once when they cease to, and when they do again."""
        before, self.unbalanced = self.unbalanced, self._unexplained()
        if self.unbalanced and self.unbalanced != before:
            _log.error("ledger of {name} does not add up: {by}", name=self.name, by=dict(self.unbalanced))
        elif before and not self.unbalanced:
            _log.info("ledger of {name} adds up again", name=self.name)

    def _unexplained(self) -> Mapping[str, int]:
        frames, records = self.forward.journals
        folded, in_windows = self.sealing.folded, self.sealing.rollup.requests
        return unexplained(self.ledger, self.waiting, folded, in_windows, records, frames)

    def numbers(self) -> dict[str, Any]:
        """The ledger for `/health`: what came in since start, what became of it since the journal was made.

        `error` is by how much they do not add up.
        """
        frames, records = self.forward.journals
        return {
            **attrs.asdict(self.ledger),
            "waiting": self.waiting,
            "replayed": self.journal.replayed,
            **records.sums(),
            "folded": self.sealing.folded,
            "in_windows": self.sealing.rollup.requests,
            "in_frames": frames.entered_since_start.requests,
            **frames.framed(),
            "error": sum(abs(by) for by in self._unexplained().values()),
        }

    def _journalled(self, place: Place, line: Line, request: Request, received_ms: int, flags: int) -> None:
        self.ledger.local += bool(flags & LOCAL)
        self.sealing.taken(line, request, received_ms, place)
        self.ledger.journalled += 1
        if line.kind == "end":
            self.unread.add(line.id, self.clock.seconds())
        for copy in self._writing.pop(line.id):
            self.ledger.duplicate += 1
            copy.callback(None)

    def _unwritten(self, failure: Failure, line: Line) -> Failure:
        self.ledger.unwritten += 1
        for copy in self._writing.pop(line.id):
            self.ledger.unwritten += 1
            copy.errback(failure.value)
        return failure

    def _kept(self, result: Failure | None, size: int) -> Failure | None:
        self._refusing -= 1
        self.journal.appends.waiting_bytes -= size
        if isinstance(result, Failure):
            self.ledger.unwritten += 1
        else:
            self.ledger.invalid += 1
        return result
