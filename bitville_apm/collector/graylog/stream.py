"""GELF over TCP and TLS: messages with a zero byte behind each, and nobody who says that they arrived.

What the kernel of the other machine has taken is known: it acknowledges bytes, and ours tells how many (TCP_INFO). A
batch is sent when all of its bytes are there; the next one only then, so that no more than one is ever under way.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.collector.graylog import gelf
from bitville_apm.collector.graylog.sender import NotSent, reason_of
from bitville_apm.ini import Address

_BYTES_ACKED = 120
"""Where TCP_INFO has it (linux/tcp.h), an unsigned long long: since Linux 4.1."""


@attrs.define(eq=False)
class StreamSender:
    """See `Sender`. `tls` makes the options of a connection to a host, None for plain TCP."""

    address: Address
    reactor: Any
    tls: Callable[[], Any] | None = None
    hold_s: float = limits.GRAYLOG_HOLD_S
    _stream: _Stream | None = None

    @property
    def connected(self) -> bool:
        """See `Sender`."""
        return self._stream is not None and not self._stream.lost

    async def send(self, messages: Sequence[bytes]) -> None:
        """See `Sender`."""
        if self._stream is None or self._stream.lost:
            self._stream = await self._connect()
        stream = self._stream
        stream.write(b"".join(gelf.framed(message) for message in messages))
        try:
            await self._taken(stream)
        except NotSent:
            stream.abort()
            raise

    async def close(self) -> None:
        """See `Sender`. What was written is still sent: the other end is not to lose it for a reset."""
        if self._stream is not None:
            self._stream.lost = self._stream.lost or "let go"
            self._stream.wire.loseConnection()

    async def _connect(self) -> _Stream:
        stream = _Stream()
        factory: Any = Factory.forProtocol(lambda: stream)
        factory.noisy = False
        if self.tls is None:
            stream.ready.callback(None)
        else:
            factory = TLSMemoryBIOFactory(self.tls(), True, factory)
        endpoint = HostnameEndpoint(
            self.reactor, self.address.host.encode(), self.address.port, timeout=limits.GRAYLOG_CONNECT_S
        )
        try:
            stream.wire = await endpoint.connect(_Counting(factory))  # type: ignore[no-untyped-call]
            await stream.ready.addTimeout(limits.GRAYLOG_CONNECT_S, self.reactor)
        except Overdue:
            stream.abort()
            raise NotSent(
                f"{self.address} does not speak TLS: no handshake in {limits.GRAYLOG_CONNECT_S:g} s"
            ) from None
        except Exception as error:  # noqa: BLE001 - whatever the network or OpenSSL have, it is a failure to be told
            stream.abort()
            raise NotSent(f"no connection to {self.address}: {reason_of(error)}") from None
        return stream

    async def _taken(self, stream: _Stream) -> None:
        """Wait until the other kernel has all that was written. Raises `NotSent`."""
        wait, most = limits.GRAYLOG_POLL_S
        acked, since = -1, self.reactor.seconds()
        while True:
            await deferLater(self.reactor, wait, lambda: None)
            if stream.lost:
                raise NotSent(f"{self.address} closed the connection: {stream.lost}")
            now_acked = stream.acked
            if now_acked >= stream.written:
                return
            if now_acked != acked:
                acked, since = now_acked, self.reactor.seconds()
            elif self.reactor.seconds() - since >= limits.GRAYLOG_STUCK_S:
                raise NotSent(f"{self.address} has taken nothing for {limits.GRAYLOG_STUCK_S:g} s")
            wait = min(2 * wait, most)


@implementer(IHandshakeListener)
class _Stream(Protocol):
    """Our end. Whatever the other end says is not read on: nobody answers in GELF."""

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.wire: Any = None
        self.lost = ""
        """Why there is no connection any more."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport, which holds what the kernel does not take yet."""
        self.transport.write(data)  # type: ignore[union-attr]

    @property
    def written(self) -> int:
        """Bytes that went to the kernel, or wait for it; encrypted, where they are."""
        return int(self.wire.counted)

    @property
    def acked(self) -> int:
        """Bytes that the other kernel has; all, where ours does not tell."""
        with contextlib.suppress(OSError, struct.error):
            info = self.wire.transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0]) - 1  # the SYN counts as one
        return self.written

    def abort(self) -> None:
        """Let go of it at once."""
        self.lost = self.lost or "let go"
        if self.wire is not None:
            self.wire.abortConnection()

    def handshakeCompleted(self) -> None:
        """TLS is there and the certificate is believed."""
        if not self.ready.called:
            self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Not read."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note why."""
        self.lost = reason_of(reason.value)
        if not self.ready.called:
            self.ready.errback(reason)


class _Wire(ProtocolWrapper):
    """Counts what goes to the kernel."""

    counted = 0

    def write(self, data: bytes) -> None:
        """Count, and hand on."""
        self.counted += len(data)
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, data: Sequence[bytes]) -> None:
        """The same."""
        self.write(b"".join(data))


class _Counting(WrappingFactory):
    protocol = _Wire
    noisy = False
