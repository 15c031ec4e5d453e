"""Datagram sockets, where a section has them (COMM-07): a UNIX one, and UDP on this machine's own addresses.

A datagram is one end line or one of version 1, whole. Nobody is answered: a record is in the journal or it is lost,
and either is counted. While the disk does not keep up nothing is read; a sender to the UNIX socket waits then, and the
kernel drops what comes by UDP.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits, reading
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from bitville_apm.checks import Problem, Refused
from bitville_apm.ini import Address

_log = Logger()
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")


@implementer(IReadDescriptor)
@attrs.define(eq=False)
class DatagramSocket:
    """One bound socket in the reactor. `take` gets each datagram, and its length when it was cut off."""

    bound: socket.socket
    take: Callable[[bytes, int], None]
    _buffer: bytearray = attrs.field(factory=lambda: bytearray(limits.LOCAL_DATAGRAM_BYTES))

    def fileno(self) -> int:
        """The socket's."""
        return self.bound.fileno()

    def logPrefix(self) -> str:
        """Its name in the reactor's messages."""
        return "DatagramSocket"

    def doRead(self) -> None:
        """So many of those that wait, that the others get their turn."""
        for _ in range(limits.DATAGRAMS_TOGETHER):
            try:
                length = self.bound.recv_into(self._buffer, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC)
            except OSError:  # nothing more, or what ICMP said of a datagram that nobody here sent
                return
            self.take(bytes(self._buffer[:length]), max(0, length - len(self._buffer)))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    @property
    def dropped(self) -> int:
        """Datagrams for which the kernel had no room."""
        told: bytes = self.bound.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(told)[8])


@attrs.define(eq=False)
class Datagrams:
    """The datagram sockets of one section, none to two. `found` is told the id of each record.

    `inherited` are bound sockets from before a re-execution. received counts all; oversize, unfit (a begin, a route:
    what belongs to a connection) and lost (the disk did not take it) those of them that leave nothing behind but that.
    """

    name: str
    reactor: Any
    pipeline: Pipeline
    found: Callable[[str], None]
    file: SocketFile | None = None
    udp: Address | None = None
    inherited: Sequence[int] = ()
    received: int = 0
    oversize: int = 0
    unfit: int = 0
    lost: int = 0
    _sockets: list[DatagramSocket] = attrs.Factory(list)
    _paused: bool = False

    # --- life -----------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where it listens, for people."""
        return [str(a) for a in (self.file.path if self.file else None, self.udp) if a is not None]

    def listen(self) -> None:
        """Take the sockets. Raises `CannotListen`."""
        before = {_address(bound): bound for bound in (socket.socket(fileno=n) for n in self.inherited)}
        wanted: list[tuple[str, Callable[[], socket.socket]]] = []
        if self.file is not None:
            wanted.append((str(self.file.path), self.file.bind))
        if self.udp is not None:
            wanted.append((str(self.udp), self._bind))
        try:
            for address, bind in wanted:
                self._sockets.append(DatagramSocket(before.pop(address) if address in before else bind(), self._take))
        except CannotListen:
            self.stop()
            raise
        finally:
            for bound in before.values():
                bound.close()
        for one in self._sockets:
            one.bound.set_inheritable(False)
            one.bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.DATAGRAM_QUEUE_BYTES)
            self.reactor.addReader(one)

    def _bind(self) -> socket.socket:
        assert self.udp is not None  # noqa: S101 - for the type checker
        bound = socket.socket(socket.AF_INET6 if ":" in self.udp.host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bound.bind((self.udp.host, self.udp.port))
        except OSError as error:
            bound.close()
            raise CannotListen(f"udp {self.udp}: {error.strerror}") from None
        return bound

    def suspend(self) -> list[int]:
        """Let go of the sockets without closing them: what is sent from now on waits in them."""
        descriptors = []
        for one in self._sockets:
            self.reactor.removeReader(one)
            descriptors.append(one.bound.detach())
        self._sockets.clear()
        self.inherited = descriptors  # for a `listen` in this process, should there be no other
        return descriptors

    def stop(self) -> None:
        """Close the sockets; the UNIX one's name is gone after that."""
        if self._sockets and self.file is not None:
            self.file.remove()
        for one in self._sockets:
            one.doRead()
            self.reactor.removeReader(one)
            one.bound.close()
        self._sockets.clear()

    def tick(self) -> None:
        """A second has passed: has the disk caught up?"""
        if self._paused and self.pipeline.journal.appends.waiting_bytes <= limits.APPENDS_WAITING_BYTES // 2:
            self._paused = False
            for one in self._sockets:
                self.reactor.addReader(one)

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`."""
        return {
            "datagrams": self.received,
            "datagrams_oversize": self.oversize,
            "datagrams_unfit": self.unfit,
            "datagrams_lost": self.lost,
            "datagrams_dropped": sum(one.dropped for one in self._sockets),
        }

    # --- one datagram ---------------------------------------------------------------------------------------

    def _take(self, data: bytes, more: int) -> None:
        self.received += 1
        line = data.rstrip(b"\r\n")
        if more:
            self.oversize += 1
            why = Problem("", f"{len(data) + more} bytes, longer than {limits.LOCAL_DATAGRAM_BYTES}")
            self._refuse(Refused([why], "oversize"), line[: limits.OVERSIZE_KEPT_BYTES])
            return
        received_ms = self.pipeline.stamp()
        try:
            read = reading.read_line(line, received_ms)
        except Refused as refused:
            self._refuse(refused, line)
            return
        if read.kind not in ("end", "v1"):
            self.unfit += 1
            return
        self.found(read.id)
        self.pipeline.take(read, received_ms).addErrback(self._not_kept)
        if self.pipeline.journal.appends.waiting_bytes > limits.APPENDS_WAITING_BYTES and not self._paused:
            self._paused = True
            for one in self._sockets:
                self.reactor.removeReader(one)

    def _refuse(self, refused: Refused, line: bytes) -> None:
        self.pipeline.refuse(refused, line).addErrback(self._not_kept)

    def _not_kept(self, failure: Failure) -> None:
        self.lost += 1
        if failure.check(NotWritten, OSError) is None:
            _log.failure("{name}: a datagram failed", failure=failure, name=self.name)


def _address(bound: socket.socket) -> str:
    """What a bound socket's section would call it."""
    name = bound.getsockname()
    return name if isinstance(name, str) else str(Address(name[0], name[1]))
