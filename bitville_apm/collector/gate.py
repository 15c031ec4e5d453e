"""Before every address of the collector: who may come in, whose address counts, and how often (LIST-03, -06, -08)."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource

from bitville_apm.http import HttpProblem, Refused
from bitville_apm.peers import Peers
from bitville_apm.rates import Rates


class Gate(Resource):
    """Lets a request through to `inside` with the address that counts as its client, or answers 403 or 429."""

    def __init__(self, inside: IResource, peers: Peers, rates: Rates, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside = inside
        self._peers = peers
        self._rates = rates
        self._clock = clock

    def getChildWithDefault(self, path: bytes, request: Any) -> IResource:
        """What is inside, or the refusal."""
        peer = getattr(request.getClientAddress(), "host", "")
        forwarded = request.requestHeaders.getRawHeaders("x-forwarded-for", [])
        address = self._peers.client(peer, forwarded)
        if not self._peers.admits(address):
            return Refused(HttpProblem(403, f"{address} is in none of the networks of [collector] allow"))
        if self._peers.is_proxy(peer):
            made = IPv6Address if ":" in address else IPv4Address
            request.client = made("TCP", address, 0)
            request.prefix = (request.getHeader(b"x-forwarded-prefix") or b"").decode("latin-1")
            request.came_by_tls = request.getHeader(b"x-forwarded-proto") == b"https"
        taken = self._rates.take(address, self._clock.seconds())
        if taken.wait:
            return Refused(HttpProblem(429, f"{address} asks too often; wait {taken.wait} s", headers=taken.headers))
        child: IResource = self._inside.getChildWithDefault(path, request)
        return child
