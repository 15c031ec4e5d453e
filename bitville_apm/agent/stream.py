"""One connection of many on a UNIX socket, as its protocol's transport: what `streams.py` makes."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as Interface

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits

LOST = Failure(ConnectionLost())
"""Why a connection ended that its client did not end."""
_AT_ONCE = int(socket.MSG_DONTWAIT)
_GONE = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_READABLE = select.EPOLLIN | _GONE


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
    """One connection. `forget` is told its descriptor when it is gone.

    Its socket blocks, as accepted ones do: each call says that it must not wait, which saves a system call. It is of
    the type below Python's own, which knows constants by name and costs as much as the rest of an accept.
    """

    __slots__ = (
        "_closing",
        "_ended",
        "_epoll",
        "_events",
        "_forgotten",
        "_paused",
        "_socket",
        "_unsent",
        "descriptor",
        "protocol",
    )

    def __init__(
        self, epoll: select.epoll, forget: Callable[[int], None], socket_: socket.SocketType, protocol: StreamProtocol
    ) -> None:
        self._epoll = epoll
        self._forgotten = forget
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
        self.ready(select.EPOLLIN)
        self._watch()

    def ready(self, events: int) -> None:
        """The kernel has something: one piece, or all there is of a client that is gone."""
        if events & select.EPOLLOUT:
            self.write(b"")
        while events & _READABLE and self.descriptor >= 0 and not self._paused and not self._ended:
            try:
                data = self._socket.recv(limits.READ_BYTES, _AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                self.close(LOST)
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
            protocol = self.protocol
            self._forget()
            self._socket.close()
            protocol.connectionLost(reason)

    def _forget(self) -> None:
        """It is gone. Without its protocol it is in no cycle, so that neither waits for a garbage collection."""
        self._forgotten(self.descriptor)
        self.descriptor = -1
        del self.protocol

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
            self._epoll.register(self.descriptor, events)
        elif events:
            self._epoll.modify(self.descriptor, events)
        else:
            self._epoll.unregister(self.descriptor)
        self._events = events

    # --- what its protocol asks -----------------------------------------------------------------------------

    def getHandle(self) -> socket.SocketType:
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
            self._unsent = self._unsent[self._socket.send(self._unsent, _AT_ONCE) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close(LOST)
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
