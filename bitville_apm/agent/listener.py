"""The socket that PHP processes connect to (wire.md 1): one connection a request, lines in, one byte back.

What a line leads to is in `lines.py`, what a connection is in `connection.py`, and who is connected in `crowd.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from bitville_apm import limits, reading
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.connection import PhpConnection
from bitville_apm.agent.crowd import Crowd
from bitville_apm.agent.datagrams import Datagrams
from bitville_apm.agent.framing import LineFramer
from bitville_apm.agent.handover import Held, SourceState, Waiting
from bitville_apm.agent.inflight import Alive, Closed, InFlight, Open, Peer, died_body
from bitville_apm.agent.lines import Lines
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from bitville_apm.agent.streams import StreamEndpoint, StreamPort
from bitville_apm.interfaces import ISource

_log = Logger()


@implementer(IProtocolFactory)
@attrs.frozen
class Clients:
    """Makes a protocol for each connection."""

    make: Callable[[], PhpConnection]

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """One client."""
        return self.make()

    def doStart(self) -> None:
        """Nothing."""

    def doStop(self) -> None:
        """Nothing."""


@implementer(ISource)
@attrs.define(eq=False)
class PhpSource:
    """One `[php NAME]` section: its socket, its connections, its requests in flight.

    `boottime` is seconds on the clock on which the kernel tells when a process started; `alive` blocks.
    `descriptors` is how many files this process may have open.
    """

    name: str
    reactor: Any
    file: SocketFile
    pipeline: Pipeline
    boottime: Callable[[], float]
    alive: Alive
    datagrams: Datagrams | None = None
    in_flight: InFlight = attrs.Factory(InFlight)
    descriptors: int = limits.DESCRIPTORS
    crowd: Crowd = attrs.field(init=False)
    heard: Lines = attrs.field(init=False)
    _judging: int = 0
    _port: StreamPort | None = None
    _loop: LoopingCall | None = None

    def __attrs_post_init__(self) -> None:
        appends = self.pipeline.journal.appends
        self.crowd = Crowd(self.name, self.reactor, lambda: appends.waiting_bytes, self.descriptors)
        self.heard = Lines(self.name, self.reactor, self.pipeline, self.in_flight, self.boottime, self.crowd.relieved)

    # --- ISource --------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take the socket. Blocks shortly, so before the reactor runs. Raises `CannotListen`."""
        if self.datagrams is not None:
            self.datagrams.listen()
        try:
            listening = self.file.listen()
        except CannotListen:
            self._close_datagrams()
            raise
        endpoint = StreamEndpoint(self.reactor, listening, self.crowd.make_room)
        endpoint.listen(Clients(partial(PhpConnection, self.heard, self.crowd))).addCallback(self._listening)

    def _close_datagrams(self) -> None:
        if self.datagrams is not None:
            self.datagrams.stop()

    def _listening(self, port: Any) -> None:
        self._port = port

    def start(self) -> None:
        """Begin to count time."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.reactor
        self._loop.start(1.0, now=False)

    async def stop_accepting(self) -> None:
        """Take no more connections; the socket's name is gone after that."""
        port, self._port = self._port, None
        if port is not None:
            self._close_datagrams()
            self.file.remove()
            await maybeDeferred(port.stopListening)
        self.file.release()

    def stop(self) -> Deferred[None]:
        """Close everything."""
        self._stop_counting()
        for connection in list(self.crowd.connections):
            connection.transport.loseConnection()  # type: ignore[union-attr]
        return Deferred.fromCoroutine(self.stop_accepting())

    def _stop_counting(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`."""
        crowd = self.crowd
        return {
            "status": "degraded" if crowd.paused or self._port is None else "ok",
            "connections": len(crowd.connections),
            "unfinished_bytes": crowd.unfinished,
            "in_flight": len(self.in_flight),
            "waiting_for_spool": self.in_flight.waiting,
            "died": self.in_flight.died,
            "end_lost": self.in_flight.end_lost,
            "lines": self.lines,
            "slow": crowd.slow,
            "oversize": self.heard.oversize,
            "large": crowd.large,
            "shed": crowd.shed,
            "turned_away": crowd.turned_away,
            **(self.datagrams.health() if self.datagrams is not None else {}),
        }

    @property
    def lines(self) -> int:
        """How many it has read."""
        return self.heard.lines

    @property
    def addresses(self) -> list[str]:
        """Where it is told something: its socket, and the datagram ones."""
        return [str(self.file.path), *(self.datagrams.addresses if self.datagrams is not None else [])]

    @property
    def listening(self) -> bool:
        """Whether the socket is there."""
        return self._port is not None

    @property
    def busy(self) -> bool:
        """Whether a line is arriving or an answer is owed."""
        return bool(self.crowd.unfinished) or self._owing

    @property
    def _owing(self) -> bool:
        return bool(self._judging) or any(c.unanswered for c in self.crowd.connections)

    # --- over a re-execution --------------------------------------------------------------------------------

    def suspend(self) -> Deferred[SourceState]:
        """Let go of everything without closing it, once the answers owed are written: 2 s at most.

        Nobody is refused meanwhile, clients wait. Fails with `RuntimeError` when the source does not listen.
        """
        return Deferred.fromCoroutine(self._suspend())

    async def _suspend(self) -> SourceState:
        port, self._port = self._port, None
        if port is None:
            raise RuntimeError(f"{self.name} does not listen")
        self._stop_counting()
        port.pause()
        for connection in self.crowd.connections:
            connection.transport.pauseProducing()  # type: ignore[union-attr]
        until = self.reactor.seconds() + limits.DRAIN_S
        while self._owing and self.reactor.seconds() < until:
            await deferLater(self.reactor, limits.DRAIN_LOOK_S)
        held = [self._let_go(connection) for connection in list(self.crowd.connections)]
        return SourceState(
            name=self.name,
            listening=port.detach(),
            datagrams=self.datagrams.suspend() if self.datagrams is not None else [],
            held=[h for h in held if h is not None],
            waiting=[_waiting(closed) for closed in self.in_flight.taken_out()],
        )

    def _let_go(self, connection: PhpConnection) -> Held | None:
        """What the next process has to know of a connection; None for one whose client is gone."""
        transport: Any = connection.transport
        if connection.ended:
            transport.abortConnection()
            return None
        request = self.in_flight.request_of(connection)
        started, dropped = connection.framer.started
        held = Held(
            descriptor=transport.detach(),
            unfinished=started,
            dropped=dropped,
            begin=request.body if request else None,
            since=request.since if request else 0.0,
            route=request.route if request else None,
            over=connection.over,
            watched=self.crowd.watches(connection),
            silent=connection.silent or connection.unanswered > 0,
        )
        connection.connected = 0
        self.crowd.finished(connection)
        self.crowd.gone(connection)
        return held

    def resume(self, state: SourceState) -> None:
        """Go on where `suspend` stopped, in whichever process; the source listens already, on `state.listening`."""
        if self._port is None:
            raise RuntimeError(f"{self.name} does not listen")
        for held in state.held:
            connection = PhpConnection(self.heard, self.crowd)
            connection.over = held.over
            transport = self._port.adopt(held.descriptor, connection)
            connection.taken_up(transport, LineFramer.again(held.unfinished, held.dropped), held.silent)
            self.crowd.taken_up(connection, held.watched)
            if held.begin is not None:
                request = _again(held.begin, connection.peer, held.since, held.route)
                self.in_flight.begun_before(connection, request)
        for waiting in state.waiting:
            request = _again(waiting.begin, Peer(waiting.pid, waiting.uid), waiting.since, waiting.route)
            self.in_flight.closed_before(Closed(request, waiting.at, waiting.mid_line))

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A second has passed."""
        self.crowd.tick()
        if self.datagrams is not None:
            self.datagrams.tick()
        due = self.in_flight.due(self.boottime())
        if due:
            self._judging += 1
            judging = Deferred.fromCoroutine(self._judge(due))
            judging.addErrback(lambda failure: _log.failure("died requests were not written down", failure))
            judging.addBoth(self._judged)

    def _judged(self, _: None) -> None:
        self._judging -= 1

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


def _waiting(closed: Closed) -> Waiting:
    request = closed.request
    return Waiting(
        begin=request.body,
        pid=request.peer.pid,
        uid=request.peer.uid,
        since=request.since,
        at=closed.at,
        mid_line=closed.mid_line,
        route=request.route,
    )


def _again(begin: bytes, peer: Peer, since: float, route: str | None) -> Open:
    """A begun request from its begin line, which was read once already."""
    read = reading.read_line(begin, 0)
    return Open(read.id, read.message, begin, peer, since, route)
