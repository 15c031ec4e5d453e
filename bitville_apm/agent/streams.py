"""A listening UNIX socket and its many short connections, all behind one descriptor of the reactor.

Twisted's own port makes a reactor's member of every connection: its events go one by one through the reactor's
loop and its logging, and it is added, removed and shut down there. A connection that carries two lines spends more
on that than on its lines (docs/architecture.md has the figures). Here listening socket and connections share an
epoll of their own, and the reactor watches only that; protocols, transports and the endpoint are Twisted's
interfaces, so `UNIXServerEndpoint` may stand in its place.

What else is different: a connection can be let go of without closing it (`detach`), for a process that re-executes
itself; a client's death is no half-closed state; and running out of descriptors cannot turn into a busy loop.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as Interface

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IPushProducer,
    IReadDescriptor,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits

_log = Logger()
_GONE = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_READABLE = select.EPOLLIN | _GONE
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOST = Failure(ConnectionLost())
_NOBODY = UNIXAddress(None)


class StreamProtocol(Interface):
    """What a connection's protocol is asked: `twisted.internet.protocol.Protocol` that half-closes."""

    def makeConnection(self, transport: Any) -> None:
        """It is there."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""

    def readConnectionLost(self) -> None:
        """The peer will say no more."""

    def connectionLost(self, reason: Failure) -> None:
        """It is closed."""


@implementer(ITransport, IPushProducer)
class Stream:
    """One connection, as its protocol's transport.

    Its socket blocks, as accepted ones do: each call says that it must not wait, which saves a system call.
    """

    __slots__ = ("_closing", "_ended", "_events", "_paused", "_port", "_socket", "_unsent", "descriptor", "protocol")

    def __init__(self, port: StreamPort, socket_: socket.socket, protocol: StreamProtocol) -> None:
        self._port = port
        self._socket = socket_
        self.protocol = protocol
        self.descriptor = socket_.fileno()
        self._events = 0
        self._unsent = b""
        self._paused = self._ended = self._closing = False

    # --- what its port asks ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read what the client said before it was accepted; only then it is watched, if it is still there."""
        self.protocol.makeConnection(self)
        self.ready(_GONE)
        self._watch()

    def ready(self, events: int) -> None:
        """The kernel has something: one piece, or all there is of a client that is gone."""
        if events & select.EPOLLOUT:
            self.write(b"")
        while events & _READABLE and self.descriptor >= 0 and not self._paused and not self._ended:
            try:
                data = self._socket.recv(limits.READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self.close(_LOST)
                return
            if data:
                self.protocol.dataReceived(data)
                if not events & _GONE:
                    return
            else:
                self._ended = True
                self.protocol.readConnectionLost()
                self._watch()

    def close(self, reason: Failure = connectionDone) -> None:
        """Close at once, with what is unsent and unread."""
        if self.descriptor >= 0:
            self._forget()
            self._socket.close()
            self.protocol.connectionLost(reason)

    def _forget(self) -> None:
        self._port.forget(self.descriptor)
        self.descriptor = -1

    def _watch(self) -> None:
        """Tell the epoll what this waits for; nothing of a client that is gone, whose socket is ready for ever."""
        if self.descriptor < 0:
            return
        events = 0 if self._paused or self._ended else select.EPOLLIN | select.EPOLLRDHUP
        if self._unsent:
            events |= select.EPOLLOUT
        if events == self._events:
            return
        if not self._events:
            self._port.epoll.register(self.descriptor, events)
        elif events:
            self._port.epoll.modify(self.descriptor, events)
        else:
            self._port.epoll.unregister(self.descriptor)
        self._events = events

    # --- what its protocol asks -----------------------------------------------------------------------------

    def getHandle(self) -> socket.socket:
        """The socket itself."""
        return self._socket

    def getHost(self) -> UNIXAddress:
        """This side's address."""
        return UNIXAddress(self._socket.getsockname() or None)

    def getPeer(self) -> UNIXAddress:
        """The other side's address; clients have none."""
        return UNIXAddress(self._socket.getpeername() or None)

    def write(self, data: bytes) -> None:
        """Send, or keep until there is room."""
        if self.descriptor < 0:
            return
        self._unsent += data
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close(_LOST)
            return
        if self._closing and not self._unsent:
            self.close()
        else:
            self._watch()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same with pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close, once everything is sent."""
        self._closing = True
        if not self._unsent:
            self.close()

    def abortConnection(self) -> None:
        """Close at once."""
        self.close()

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._paused = True
        self._watch()

    def resumeProducing(self) -> None:
        """Read again."""
        self._paused = False
        self._watch()

    def stopProducing(self) -> None:
        """Nobody wants what it says."""
        self.loseConnection()

    def detach(self) -> int:
        """Let go of the connection without closing it: its descriptor, for somebody else to close.

        The protocol is told nothing. What is unsent is gone.
        """
        self._paused, self._unsent = True, b""
        self._watch()
        self._forget()
        return self._socket.detach()


@implementer(IListeningPort, IReadDescriptor)
@attrs.define(eq=False)
class StreamPort:
    """The listening socket, and the connections accepted from it: one descriptor for the reactor.

    `crowded` is called when the process has no descriptor left for the next connection; it says whether it closed
    one. `streams` are the connections by descriptor.
    """

    reactor: Any
    listening: socket.socket
    factory: IProtocolFactory
    crowded: Callable[[], bool]
    epoll: select.epoll = attrs.Factory(select.epoll)
    streams: dict[int, Stream] = attrs.Factory(dict)
    _accepting: bool = False
    _ended: bool = False
    _later: IDelayedCall | None = None

    # --- IListeningPort -------------------------------------------------------------------------------------

    def startListening(self) -> None:
        """Accept from now on."""
        self.factory.doStart()
        self.resume()
        self.reactor.addReader(self)

    def stopListening(self) -> None:
        """Accept no more: the socket is closed, its connections go on."""
        self.pause()
        self.listening.close()
        self._stopped()

    def getHost(self) -> UNIXAddress:
        """Where clients connect."""
        return UNIXAddress(self.listening.getsockname() or None)

    # --- accepting ------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Accept no more for now: clients wait in the socket's queue."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._accepting:
            self._accepting = False
            self.epoll.unregister(self.listening)

    def resume(self) -> None:
        """Accept again."""
        self._later = None
        if not self._accepting:
            self._accepting = True
            self.epoll.register(self.listening, select.EPOLLIN)

    def detach(self) -> int:
        """Let go of the listening socket without closing it: its descriptor. The connections are gone by now."""
        self.pause()
        self._stopped()
        return self.listening.detach()

    def _stopped(self) -> None:
        self.factory.doStop()
        self._ended = True
        self._end()

    def adopt(self, descriptor: int, protocol: StreamProtocol) -> Stream:
        """A connection that another process accepted; the protocol is told nothing."""
        stream = Stream(self, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor), protocol)
        self.streams[stream.descriptor] = stream
        stream.resumeProducing()
        return stream

    def _accept(self) -> None:
        """Those who wait, so many that the others get their turn."""
        for _ in range(limits.ACCEPTED_TOGETHER):
            try:
                accepted, _ = self.listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    continue
                if not self._somebody_waits():  # the kernel says so before it looks
                    return
                if not self.crowded():
                    # The socket stays readable: without a pause the reactor would turn for nothing else.
                    self.pause()
                    self._later = self.reactor.callLater(limits.ACCEPT_AGAIN_S, self.resume)
                    return
                continue
            stream = Stream(self, accepted, self.factory.buildProtocol(_NOBODY))  # type: ignore[arg-type]
            self.streams[stream.descriptor] = stream
            try:
                stream.begin()
            except Exception:  # noqa: BLE001 - one connection's error costs that connection, not all of them
                self._failed(stream)

    def _somebody_waits(self) -> bool:
        waiting = select.poll()
        waiting.register(self.listening, select.POLLIN)
        return bool(waiting.poll(0))

    def _failed(self, stream: Stream) -> None:
        _log.failure("a connection is closed: its protocol failed")
        stream.close(_LOST)

    # --- IReadDescriptor ------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The epoll's: readable when one of its own is ready."""
        return -1 if self.epoll.closed else self.epoll.fileno()

    def logPrefix(self) -> str:
        """Its name in the reactor's messages."""
        return "StreamPort"

    def doRead(self) -> None:
        """Somebody is ready."""
        for descriptor, events in self.epoll.poll(0, limits.EVENTS_TOGETHER):
            stream = self.streams.get(descriptor)
            if stream is not None:
                try:
                    stream.ready(events)
                except Exception:  # noqa: BLE001
                    self._failed(stream)
            elif self._accepting and descriptor == self.listening.fileno():
                self._accept()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self.pause()
        for stream in list(self.streams.values()):
            stream.close(reason)

    def forget(self, descriptor: int) -> None:
        """A connection is gone."""
        self.streams.pop(descriptor, None)
        self._end()

    def _end(self) -> None:
        """Leave the reactor once there is nothing left to watch."""
        if self._ended and not self.streams and not self.epoll.closed:
            self.reactor.removeReader(self)
            self.epoll.close()


@implementer(IStreamServerEndpoint)
@attrs.frozen
class StreamEndpoint:
    """What `UNIXServerEndpoint` is for a path, for a socket that listens already. See `StreamPort`."""

    reactor: Any
    listening: socket.socket
    crowded: Callable[[], bool]

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Begin to accept; never fails."""
        port = StreamPort(self.reactor, self.listening, protocolFactory, self.crowded)
        port.startListening()
        return succeed(port)
