"""GELF over UDP: messages in datagrams, long ones in several. What the network or a full socket loses, nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from bitville_apm import limits
from bitville_apm.collector.graylog import gelf
from bitville_apm.collector.graylog.sender import NotSent
from bitville_apm.ini import Address


@attrs.define(eq=False)
class DatagramSender:
    """See `Sender`. A machine that says that nobody listens is a failure; silence is success."""

    address: Address
    reactor: Any
    hold_s: float = 0.0
    connected: bool = True
    _socket: _Socket | None = None

    async def send(self, messages: Sequence[bytes]) -> None:
        """See `Sender`."""
        if self._socket is None:
            self._socket = await self._opened()
        opened, size = self._socket, 0
        for message in messages:
            for part in gelf.datagrams(message):
                opened.write(part)
                size += len(part)
                if size >= limits.GRAYLOG_UDP_BYTES:
                    await self._rest(opened)
                    size = 0
        await self._rest(opened)

    async def close(self) -> None:
        """See `Sender`."""
        if self._socket is not None:
            opened, self._socket = self._socket, None
            await opened.transport.stopListening()

    async def _opened(self) -> _Socket:
        host = self.address.host
        if not isIPAddress(host) and not isIPv6Address(host):
            try:
                host = await self.reactor.resolve(host)
            except Exception as error:  # noqa: BLE001 - whatever a resolver has
                raise NotSent(f"{host} has no address: {error}") from None
        opened = _Socket()
        self.reactor.listenUDP(0, opened, interface="::" if isIPv6Address(host) else "")
        opened.transport.connect(host, self.address.port)
        return opened

    async def _rest(self, opened: _Socket) -> None:
        """Let the receiver come after, and its machine say that there is none. Raises `NotSent`."""
        await deferLater(self.reactor, limits.GRAYLOG_UDP_REST_S, lambda: None)
        if opened.wrong:
            await self.close()
            raise NotSent(f"{self.address}: {opened.wrong}")


class _Socket(DatagramProtocol):
    noisy = False
    transport: Any
    wrong = ""
    """What the kernel said of a datagram."""

    def write(self, data: bytes) -> None:
        """Send one; a buffer that is full, or no way there, is noted."""
        try:
            self.transport.write(data)
        except OSError as error:
            self.wrong = self.wrong or error.strerror or str(error)

    def connectionRefused(self) -> None:
        """Its machine says that nobody listens."""
        self.wrong = "nobody listens there for UDP"
