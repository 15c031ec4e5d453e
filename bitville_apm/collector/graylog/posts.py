"""GELF over HTTP: a POST for each message. The answer, 202, comes before Graylog has looked at it, but it has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import treq
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS

from bitville_apm import __version__, limits
from bitville_apm.collector.graylog.sender import NotSent, reason_of
from bitville_apm.ini import Address
from bitville_apm.pools import quiet_pool


@attrs.define(eq=False)
class PostSender:
    """See `Sender`. `scheme` is http or https; connections are kept."""

    address: Address
    scheme: str
    policy: IPolicyForHTTPS
    reactor: Any
    hold_s: float = 0.0
    connected: bool = True
    _pool: HTTPConnectionPool = attrs.field(init=False)
    _client: treq.client.HTTPClient = attrs.field(init=False)
    _posting: Deferred[int] | None = None

    def __attrs_post_init__(self) -> None:
        self._pool = quiet_pool(self.reactor)
        agent = Agent(self.reactor, self.policy, connectTimeout=limits.GRAYLOG_CONNECT_S, pool=self._pool)
        self._client = treq.client.HTTPClient(agent)

    async def send(self, messages: Sequence[bytes]) -> None:
        """See `Sender`."""
        for sent, message in enumerate(messages):
            self._posting = posting = Deferred.fromCoroutine(self._post(message))
            posting.addTimeout(limits.GRAYLOG_STUCK_S, self.reactor)
            try:
                status = await posting
            except Overdue:
                raise NotSent(f"{self.address} did not answer in {limits.GRAYLOG_STUCK_S:g} s", sent) from None
            except Exception as error:  # noqa: BLE001 - whatever the network does, it is a failure to be told
                raise NotSent(f"no connection to {self.address}: {reason_of(error)}", sent) from None
            if not 200 <= status < 300:
                raise NotSent(f"{self.address} answered {status} to POST /gelf", sent)

    async def close(self) -> None:
        """See `Sender`."""
        if self._posting is not None:
            self._posting.cancel()
        await self._pool.closeCachedConnections()

    async def _post(self, message: bytes) -> int:
        response = await self._client.post(
            f"{self.scheme}://{self.address}/gelf",
            data=message,
            headers=Headers({"Content-Type": ["application/json"], "User-Agent": [f"bitville-apm/{__version__}"]}),
            allow_redirects=False,
            unbuffered=True,
        )
        await treq.collect(response, lambda data: None)
        return int(response.code)
