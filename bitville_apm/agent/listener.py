"""The socket that PHP processes connect to (wire.md 1): one connection a request, lines in, one byte back.

`+` says that the journal has it, `-` that it never will (kept in quarantine). No answer at all, because the disk
did not take it, leaves the record with its sender, who has a spool.

Time is counted in ticks of one second that only pass while lines are being read: a suspended agent, or one that
holds its senders back, must not blame them for being late.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits, reading
from bitville_apm.agent.connection import PhpConnection
from bitville_apm.agent.framing import LineFramer, Oversize
from bitville_apm.agent.inflight import Alive, Closed, InFlight, died_body
from bitville_apm.agent.journal import NotWritten
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.repeated import Repeated
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from bitville_apm.checks import Problem, Refused
from bitville_apm.interfaces import ISource
from bitville_apm.records import Line

_log = Logger()
_TICKS = int(limits.LINE_START_S) + 1
_UNANSWERED = re.compile(rb'\s*\{\s*"t"\s*:\s*"(?:begin|route|spooled|count)"')
"""A client waits for one answer, to its end line: an answer to one of these would be taken for that.

Looked for in refused lines, which often are no JSON; every client writes `t` first.
"""


@implementer(ISource)
@attrs.define(eq=False)
class PhpSource:
    """One `[php NAME]` section: its socket, its connections, its requests in flight.

    `boottime` is seconds on the clock on which the kernel tells when a process started; `alive` blocks.
    """

    name: str
    reactor: Any
    file: SocketFile
    pipeline: Pipeline
    boottime: Callable[[], float]
    alive: Alive
    in_flight: InFlight = attrs.Factory(InFlight)
    connections: dict[PhpConnection, int] = attrs.Factory(dict)
    lines: int = 0
    slow: int = 0
    oversize: int = 0
    turned_away: int = 0
    _per_uid: Counter[int] = attrs.Factory(Counter)
    _watched: dict[PhpConnection, int] = attrs.Factory(dict)
    _ticks: int = 0
    _unfinished: int = 0
    _paused: bool = False
    _port: IListeningPort | None = None
    _loop: LoopingCall | None = None
    _repeated: Repeated = attrs.Factory(Repeated)

    # --- ISource --------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take the socket. Blocks shortly, so before the reactor runs. Raises `CannotListen`."""
        self.file.claim()
        factory = Factory.forProtocol(partial(PhpConnection, self))
        factory.noisy = False
        endpoint = UNIXServerEndpoint(
            self.reactor, str(self.file.path), backlog=limits.LISTEN_BACKLOG, mode=0o600, wantPID=False
        )
        outcome: list[IListeningPort | Failure] = []
        with self.file.private():
            endpoint.listen(factory).addBoth(outcome.append)
        (port,) = outcome
        if isinstance(port, Failure):
            raise CannotListen(f"{self.file.path}: {port.getErrorMessage()}")
        self._port = port
        try:
            self.file.open_up()
        except CannotListen:
            self.file.path.unlink(missing_ok=True)
            raise

    def start(self) -> None:
        """Begin to count time."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.reactor
        self._loop.start(1.0, now=False)

    async def stop_accepting(self) -> None:
        """Take no more connections; the socket's name is gone after that."""
        port, self._port = self._port, None
        if port is not None and self.file.path.exists():
            await maybeDeferred(port.stopListening)
        self.file.release()

    def stop(self) -> Deferred[None]:
        """Close everything."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        for connection in list(self.connections):
            connection.transport.loseConnection()  # type: ignore[union-attr]
        return Deferred.fromCoroutine(self.stop_accepting())

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`."""
        return {
            "status": "degraded" if self._paused or self._port is None else "ok",
            "connections": len(self.connections),
            "in_flight": len(self.in_flight),
            "waiting_for_spool": self.in_flight.waiting,
            "died": self.in_flight.died,
            "end_lost": self.in_flight.end_lost,
            "lines": self.lines,
            "slow": self.slow,
            "oversize": self.oversize,
            "turned_away": self.turned_away,
        }

    # --- connections ----------------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether the socket is there."""
        return self._port is not None

    @property
    def busy(self) -> bool:
        """Whether a line is arriving or an answer is owed."""
        return bool(self._unfinished or any(c.unanswered for c in self.connections))

    def opened(self, connection: PhpConnection) -> None:
        """A client connected."""
        uid = connection.peer.uid
        connection.over = (
            len(self.connections) >= limits.CONNECTIONS_HELD or self._per_uid[uid] >= limits.CONNECTIONS_PER_UID
        )
        self.turned_away += connection.over
        self.connections[connection] = uid
        self._per_uid[uid] += 1
        self._watched[connection] = self._ticks + _TICKS
        if self._paused:
            connection.transport.pauseProducing()  # type: ignore[union-attr]

    def finished(self, connection: PhpConnection) -> None:
        """The client will say no more: its unfinished line is gone, its begun request has no end."""
        self._watched.pop(connection, None)
        mid_line = connection.framer.inside_line
        self._unfinished -= connection.framer.unfinished
        if mid_line:
            connection.framer = LineFramer()
        self.in_flight.closed(connection, self.boottime(), mid_line)

    def gone(self, connection: PhpConnection) -> None:
        """The connection is closed."""
        uid = self.connections.pop(connection, None)
        if uid is not None:
            self._per_uid[uid] -= 1
            if not self._per_uid[uid]:
                del self._per_uid[uid]

    def held_back(self, connection: PhpConnection, more: int, complete: bool) -> None:
        """Bytes came: `more` of them wait for their newline, `complete` says that some line ended."""
        self._unfinished += more
        if complete and not connection.over:
            self._watched.pop(connection, None)
        if connection.framer.inside_line and connection not in self._watched:
            self._watched[connection] = self._ticks + _TICKS
        if self._unfinished > limits.LINES_UNFINISHED_BYTES:
            largest = max(self.connections, key=lambda c: c.framer.unfinished)
            self._drop(largest, "holds too much of a line that does not end")
        if self.pipeline.journal.waiting_bytes > limits.APPENDS_WAITING_BYTES:
            self._pause(True)

    def _pause(self, paused: bool) -> None:
        if self._paused != paused:
            self._paused = paused
            for connection in self.connections:
                if connection.ended:
                    continue
                transport: Any = connection.transport
                (transport.pauseProducing if paused else transport.resumeProducing)()

    def _drop(self, connection: PhpConnection, why: str) -> None:
        self._watched.pop(connection, None)
        if not connection.over:
            self.slow += 1
            n = self._repeated.due(why, self.reactor.seconds())
            if n:
                _log.warn("{name}: {n} connections closed: a client {why}", name=self.name, n=n, why=why)
        self.finished(connection)
        connection.transport.abortConnection()  # type: ignore[union-attr]

    def tick(self) -> None:
        """A second has passed in which lines could be read."""
        if self._paused:
            if self.pipeline.journal.waiting_bytes <= limits.APPENDS_WAITING_BYTES // 2:
                self._pause(False)
        else:
            self._ticks += 1
            while self._watched:
                connection, until = next(iter(self._watched.items()))
                if until > self._ticks:
                    break
                self._drop(connection, "did not finish a line in time")
        due = self.in_flight.due(self.boottime())
        if due:
            judging = Deferred.fromCoroutine(self._judge(due))
            judging.addErrback(lambda failure: _log.failure("died requests were not written down", failure))

    async def _judge(self, due: list[Closed]) -> None:
        alive = await self.pipeline.run(
            lambda: [self.alive(closed.request.peer.pid, closed.request.since) for closed in due]
        )
        for closed, lives in zip(due, alive, strict=True):
            died = self.in_flight.judged(closed, lives)
            if died is not None:
                self.pipeline.died(closed.request.id, died_body(closed, died)).addErrback(
                    lambda failure: failure.trap(NotWritten)
                )

    # --- lines ----------------------------------------------------------------------------------------------

    def line(self, connection: PhpConnection, line: bytes | Oversize) -> None:
        """One line came."""
        self.lines += 1
        if isinstance(line, Oversize):
            self.oversize += 1
            why = Refused([Problem("", f"{line.length} bytes, longer than {limits.LINE_BYTES}")], "oversize")
            self._refuse(connection, why, line.beginning)
            return
        received_ms = self.pipeline.stamp()
        try:
            read = reading.read_line(line, received_ms)
        except Refused as refused:
            self._refuse(connection, refused, line)
            return
        if read.kind in ("end", "v1"):
            self._take(connection, read, received_ms)
        else:
            self._note(connection, read)

    def _note(self, connection: PhpConnection, read: Line) -> None:
        if read.kind == "begin":
            connection.begun_next()
            if not connection.over:
                self.in_flight.begun(connection, read.message, read.body, connection.peer, self.boottime())
        elif read.kind == "route":
            self.in_flight.routed(connection, read.id, read.message.route)
        elif read.kind == "spooled":
            self.in_flight.ended(connection, read.id)
        elif read.kind == "count":
            self.pipeline.ledger.count(read.message)

    def _take(self, connection: PhpConnection, read: Line, received_ms: int) -> None:
        self.in_flight.ended(connection, read.id)
        self._answer(connection, self.pipeline.take(read, received_ms), b"+", read.id)

    def _refuse(self, connection: PhpConnection, refused: Refused, line: bytes) -> None:
        n = self._repeated.due(refused.reason, self.reactor.seconds())
        if n:
            fields = ", ".join(p.field or "line" for p in refused.problems)
            _log.warn(
                "{name}: {n} lines refused: {why} ({fields})", name=self.name, n=n, why=refused.reason, fields=fields
            )
        kept = self.pipeline.refuse(refused, line)
        if _UNANSWERED.match(line):
            kept.addErrback(lambda failure: failure.trap(OSError))
            return
        self._answer(connection, kept, b"-", "")

    def _answer(self, connection: PhpConnection, written: Deferred[None], byte: bytes, id_: str) -> None:
        """Answer with the byte once it is written; not at all if it cannot be."""
        owed = connection.owe()

        def done(_: None) -> None:
            connection.settle(owed, byte, id_)
            if self._paused and self.pipeline.journal.waiting_bytes <= limits.APPENDS_WAITING_BYTES // 2:
                self._pause(False)

        def failed(failure: Failure) -> None:
            connection.settle(owed, None)
            failure.trap(NotWritten, OSError)

        written.addCallbacks(done, failed)
        written.addErrback(lambda failure: _log.failure("an answer failed", failure))

    def acks_read(self, ids: deque[str]) -> None:
        """The client has read these."""
        while ids:
            self.pipeline.unread.read(ids.popleft())
