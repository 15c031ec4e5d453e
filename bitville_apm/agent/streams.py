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
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.agent.stream import LOST, Stream, StreamProtocol

_log = Logger()
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NOBODY = UNIXAddress(None)
_UNIX, _STREAM = int(socket.AF_UNIX), int(socket.SOCK_STREAM)


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
    _next: IDelayedCall | None = None
    _looks: int = 0
    _since: float = 0.0

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
        stream = self._stream(descriptor, protocol)
        stream.resumeProducing()
        return stream

    def _stream(self, descriptor: int, protocol: StreamProtocol) -> Stream:
        connected = socket.SocketType(_UNIX, _STREAM, 0, descriptor)
        stream = self.streams[descriptor] = Stream(self.epoll, self._forget, connected, protocol)
        return stream

    def _accept(self) -> None:
        """The next one who waits."""
        try:
            descriptor, _ = self.listening._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _NO_ROOM and self._somebody_waits() and not self.crowded():
                # The socket stays readable: without a pause the reactor would turn for nothing else.
                self.pause()
                self._later = self.reactor.callLater(limits.ACCEPT_AGAIN_S, self.resume)
            return
        stream = self._stream(descriptor, self.factory.buildProtocol(_NOBODY))  # type: ignore[arg-type]
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
        stream.close(LOST)

    # --- IReadDescriptor ------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The epoll's: readable when one of its own is ready."""
        return -1 if self.epoll.closed else self.epoll.fileno()

    def logPrefix(self) -> str:
        """Its name in the reactor's messages."""
        return "StreamPort"

    def doRead(self) -> None:
        """Somebody is ready."""
        self._look()
        self._looks += 1
        if self._looks == limits.LOOKS_COUNTED:
            now = self.reactor.seconds()
            if now - self._since < limits.LOOKS_COUNTED * limits.LOOK_S and not self.epoll.closed:
                self.reactor.removeReader(self)
                self._next = self.reactor.callLater(limits.LOOK_S, self._look_again)
            self._looks, self._since = 0, now

    def _look_again(self) -> None:
        """So much is going on that a look every so often serves all of it at once, until one finds next to nothing."""
        self._next = None
        looked = self._look()
        if self.epoll.closed:
            return
        if looked > 1:
            self._next = self.reactor.callLater(limits.LOOK_S, self._look_again)
        else:
            self._since = self.reactor.seconds()
            self.reactor.addReader(self)

    def _look(self) -> int:
        """Whatever is ready, until nothing is: how much it was."""
        looked = 0
        for _ in range(limits.ACCEPTED_TOGETHER):
            ready = self.epoll.poll(0, limits.EVENTS_TOGETHER)
            if not ready:
                break
            looked += len(ready)
            for descriptor, events in ready:
                stream = self.streams.get(descriptor)
                if stream is not None:
                    try:
                        stream.ready(events)
                    except Exception:  # noqa: BLE001
                        self._failed(stream)
                elif self._accepting and descriptor == self.listening.fileno():
                    self._accept()
            if self.epoll.closed:
                break
        return looked

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self.pause()
        for stream in list(self.streams.values()):
            stream.close(reason)

    def _forget(self, descriptor: int) -> None:
        """A connection is gone."""
        self.streams.pop(descriptor, None)
        self._end()

    def _end(self) -> None:
        """Leave the reactor once there is nothing left to watch."""
        if self._ended and not self.streams and not self.epoll.closed:
            self.reactor.removeReader(self)
            if self._next is not None:
                self._next.cancel()
                self._next = None
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
