"""One client's connection: bytes to lines, and one byte back for each that is answered (wire.md 1).

A connection is read to its end before it is closed: bytes left unread would reset it, and take an answer along
that the client has not read yet.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any
from typing import Protocol as Interface

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm.agent.framing import LineFramer, Oversize
from bitville_apm.agent.inflight import Peer

_UCRED = struct.Struct("3i")
_AT_ONCE = int(socket.MSG_DONTWAIT)
_ACKS_REMEMBERED = 64


def peer_of(handle: socket.SocketType) -> Peer:
    """Who is at the other end of a connected socket, even if it is gone by now."""
    pid, uid, _ = _UCRED.unpack(handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid)


class Owed:
    """The answer to one line: settled once it is known; without a byte there will be none."""

    __slots__ = ("byte", "id", "settled")

    def __init__(self) -> None:
        self.settled = False
        self.byte: bytes | None = None
        self.id = ""


class Listening(Interface):
    """What a connection tells of itself (`lines.Lines`)."""

    def line(self, connection: PhpConnection, line: bytes | Oversize) -> None:
        """A line is complete."""

    def acks_read(self, ids: Sequence[str]) -> None:
        """The client has read the acks of these."""

    def finished(self, connection: PhpConnection, mid_line: bool) -> None:
        """The client will say no more; it may have been within a line."""


class Among(Interface):
    """The connections it is one of (`crowd.Crowd`)."""

    def opened(self, connection: PhpConnection) -> None:
        """It is there."""

    def held_back(self, connection: PhpConnection, more: int, complete: bool) -> None:
        """Bytes came: `more` of them wait for their newline, `complete` says that some line ended."""

    def finished(self, connection: PhpConnection) -> None:
        """The client will say no more."""

    def gone(self, connection: PhpConnection) -> None:
        """It is closed."""


@implementer(IHalfCloseableProtocol)
class PhpConnection(Protocol):
    """One client. `over` is one connection more than are held: read and answered, and closed after 5 s."""

    peer = Peer(0, -1)
    over = False
    ended = False

    def __init__(self, source: Listening, crowd: Among) -> None:
        self._source = source
        self._crowd = crowd
        self.framer = LineFramer()
        self._owed: deque[Owed] = deque()
        self.silent = False
        self._acked: list[str] = []

    @property
    def unanswered(self) -> int:
        """Lines whose answer is not settled yet."""
        return len(self._owed)

    def connectionMade(self) -> None:
        """Ask the kernel who it is."""
        self.peer = peer_of(self.transport.getHandle())  # type: ignore[union-attr]
        self._crowd.opened(self)

    def taken_up(self, transport: Any, framer: LineFramer, silent: bool) -> None:
        """Go on with a connection from this agent's process before."""
        self.transport, self.connected = transport, 1
        self.framer, self.silent = framer, silent
        self.peer = peer_of(transport.getHandle())

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of its lines."""
        framer = self.framer
        before = framer.unfinished
        lines = framer.feed(data)
        for line in lines:
            if line:
                self._source.line(self, line)
        self._crowd.held_back(self, framer.unfinished - before, len(lines) > 0)

    def readConnectionLost(self) -> None:
        """The client has nothing more to say. An answer still to come is written first."""
        self._acks_read()
        self._finish()
        self._close_if_ended()

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Closed, by whomever."""
        self.connected = 0
        self._finish()
        self._crowd.gone(self)

    def _finish(self) -> None:
        """An unfinished line is gone with its client; a begun request has no end."""
        if not self.ended:
            self.ended = True
            mid_line = self.framer.inside_line
            self._crowd.finished(self)
            if mid_line:
                self.framer = LineFramer()
            self._source.finished(self, mid_line)

    def owe(self) -> Owed:
        """A line that is to be answered came; its answer has its place now, whatever is known first."""
        owed = Owed()
        self._owed.append(owed)
        return owed

    def settle(self, owed: Owed, byte: bytes | None, id_: str = "") -> None:
        """The answer to a line is known: `+`, `-`, or None. Answers go out in the order of their lines.

        Behind a line that has no answer there are none either: a client counts bytes, and would take the next
        line's for this one's. Its records are safe; it does not know, and sends them again under the same ids.
        """
        owed.settled, owed.byte, owed.id = True, byte, id_
        while self._owed and self._owed[0].settled:
            first = self._owed.popleft()
            if first.byte is None:
                self.silent = True
            elif not self.silent and self.connected:
                self._send(first.byte, first.id)
        self._close_if_ended()

    def _send(self, byte: bytes, id_: str) -> None:
        """An ack that comes after the client's last word may find nobody."""
        try:
            # Past Twisted's buffer: an ack that is not in the client's queue yet must not count as read.
            self.transport.getHandle().send(byte, _AT_ONCE)  # type: ignore[union-attr]
        except BlockingIOError:
            self.transport.write(byte)  # type: ignore[union-attr]
        except OSError:
            pass
        else:
            if id_ and not self.ended:
                self._acked.append(id_)
                if len(self._acked) > _ACKS_REMEMBERED:
                    del self._acked[0]

    def _close_if_ended(self) -> None:
        """After the last answer, close what the client has closed on its side."""
        if self.ended and not self.unanswered and self.connected:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def begun_next(self) -> None:
        """The client went on to another request, so it has read the acks of those before."""
        self._acks_read()

    def _acks_read(self) -> None:
        if self._acked:
            self._source.acks_read(self._acked)
            self._acked = []
