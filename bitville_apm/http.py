"""HTTP with limits, for the collector and for the agent's health: twisted.web has none of its own.

A request's headers and body each have a time and the body a size, whatever the pace of its bytes; connections
are counted in all and per address. What is refused is answered before the connection closes.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import zstandard
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from bitville_apm import limits
from bitville_apm.peers import Peers

EVERYBODY = Peers()
_log = Logger()


class HttpProblem(Exception):
    """An answer that is an error: its status, and what `{"error", "message", "details"}` says (wire.md 5)."""

    def __init__(
        self,
        status: int,
        message: str,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []
        self.headers = headers or {}

    def body(self) -> bytes:
        """The JSON body."""
        error = http.RESPONSES.get(self.status, b"Error").decode()
        return json.dumps({"error": error, "message": self.message, "details": self.details}).encode() + b"\n"


def answer_problem(request: IRequest, problem: HttpProblem) -> bytes:
    """Set status and headers of an error; gives back its body."""
    request.setResponseCode(problem.status)
    request.setHeader(b"Content-Type", b"application/json")
    for name, value in problem.headers.items():
        request.setHeader(name.encode(), value.encode())
    return problem.body()


class Refused(Resource):
    """An error before any part of a site was asked."""

    isLeaf = True

    def __init__(self, problem: HttpProblem) -> None:
        super().__init__()
        self._problem = problem

    def render(self, request: IRequest) -> bytes:
        """The error, for any method."""
        return answer_problem(request, self._problem)


def inflated(body: bytes, encoding: str | None, most: int = limits.BODY_INFLATED_BYTES) -> bytes:
    """A request's body without its Content-Encoding; never makes more than `most` bytes of it.

    Raises `HttpProblem`: 413 for too much, 415 for an unknown encoding, 400 for a broken stream.
    """
    name = (encoding or "identity").strip().lower()
    try:
        if name == "identity":
            parts = iter([body])
        elif name == "zstd":
            parts = _unzstd(body, most)
        elif name == "gzip":
            parts = _gunzip(body)
        else:
            raise HttpProblem(415, f"Content-Encoding {name} is not known; use zstd, gzip or none")
        plain: list[bytes] = []
        size = 0
        for part in parts:
            size += len(part)
            if size > most:
                plain.clear()  # the exception may keep this frame alive for a while
                raise _too_long(most)
            plain.append(part)
    except (zlib.error, zstandard.ZstdError) as error:
        raise HttpProblem(400, f"{name} body is broken: {error}") from None
    return plain[0] if len(plain) == 1 else b"".join(plain)


def _too_long(most: int) -> HttpProblem:
    return HttpProblem(413, f"body larger than {most} bytes once decompressed; send smaller batches")


def _unzstd(body: bytes, most: int) -> Iterator[bytes]:
    """One whole frame, piece by piece.

    One that says its size is inflated into a buffer of that size at once. Another is fed in slices because one call
    inflates all it is given: 64 bytes are 16 blocks of 128 KiB at worst.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_BYTES)
    declared = zstandard.frame_content_size(body)
    if declared > most:
        raise _too_long(most)
    if declared > 0:
        yield decompressor.decompress(body, allow_extra_data=False)
        return
    frame = decompressor.decompressobj()
    for start in range(0, len(body), 64):
        if frame.eof:
            raise zstandard.ZstdError("something follows the frame")
        yield frame.decompress(body[start : start + 64])
    if not frame.eof or frame.unused_data:
        raise zstandard.ZstdError("cut, or something follows the frame")


def _gunzip(body: bytes) -> Iterator[bytes]:
    """One whole member, piece by piece."""
    member = zlib.decompressobj(wbits=31)
    while body and not member.eof:
        yield member.decompress(body, limits.MIB)
        body = member.unconsumed_tail
    if not member.eof or member.unused_data:
        raise HttpProblem(400, "gzip body is cut or has more than one member")


class LimitedRequest(Request):
    """A request whose body may not grow beyond the site's limit."""

    channel: LimitedChannel
    came_by_tls = False
    prefix = ""
    """Whether it came by TLS, and below which path, as a proxy says that we believe."""
    _received = 0

    def isSecure(self) -> bool:
        """Whether it travelled by TLS: to us, or to the proxy before us."""
        return self.came_by_tls or bool(super().isSecure())

    def gotLength(self, length: int | None) -> None:
        """Refuse by the announced length before a byte of the body is read."""
        if length is not None and length > self.channel.site.body_bytes:
            self.channel.refuse(_too_large(self.channel.site.body_bytes))
            length = 0
        super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        """Refuse a chunked body as soon as it is too long."""
        self._received += len(data)
        if self._received > self.channel.site.body_bytes:
            self.channel.refuse(_too_large(self.channel.site.body_bytes))
            return
        super().handleContentChunk(data)

    def processingFailed(self, reason: Failure) -> None:
        """Answer 500 without internals; the log has them."""
        _log.failure("request failed", failure=reason)
        if not self._disconnected:
            self.write(answer_problem(self, HttpProblem(500, "Internal error; the log of the daemon says more")))
            self.finish()


def _too_large(most: int) -> HttpProblem:
    return HttpProblem(413, f"body larger than {most} bytes; send smaller batches")


class LimitedChannel(http.HTTPChannel):
    """One connection: headers and body of each request have a deadline that no byte postpones."""

    site: LimitedSite
    transport: Any
    _deadline: IDelayedCall | None = None
    _refused = False

    def dataReceived(self, data: bytes) -> None:
        """Bytes; the first of a request start its clock. After a refusal they are thrown away."""
        if self._refused:
            return
        if self._deadline is None and not self.requests:
            self._within(limits.HEADER_TIMEOUT_S)
        super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """An address, or a header, longer than Twisted takes: say so instead of only hanging up."""
        self.refuse(HttpProblem(414, f"the address or a header is longer than {self.MAX_LENGTH} bytes"))

    def allHeadersReceived(self) -> None:
        """The headers are whole: now the body has its time."""
        self._within(limits.BODY_TIMEOUT_S)
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        """The request is whole: how long the answer takes is ours to say."""
        self._within(None)
        if not self._refused:
            super().allContentReceived()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the clock and the place."""
        self._within(None)
        self.site.gone(self)
        super().connectionLost(reason)

    def refuse(self, problem: HttpProblem) -> None:
        """Answer at once and close; what still arrives is read and dropped so that the answer gets through."""
        if self._refused:
            return
        self._refused = True
        body = problem.body()
        status = b"HTTP/1.1 %d %s" % (problem.status, http.RESPONSES.get(problem.status, b"Error"))
        headers = b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close" % len(body)
        self.transport.write(b"\r\n".join((status, headers, b"", body)))
        self._within(limits.DRAIN_S)

    def _within(self, seconds: float | None) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None:
            self._deadline = self.callLater(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self._refused:
            self.forceAbortClient()
        else:
            self.refuse(HttpProblem(408, "the request did not arrive in time"))


class LimitedSite(Site):
    """A site whose connections are counted, in all and per address; `peers` knows addresses that stand for many."""

    requestFactory = LimitedRequest
    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        body_bytes: int = limits.BODY_BYTES,
        peers: Peers = EVERYBODY,
    ) -> None:
        super().__init__(resource, timeout=int(limits.IDLE_TIMEOUT_S), reactor=reactor)
        vars(self)["protocol"] = LimitedChannel  # instead of the channel that also speaks HTTP/2
        self._peers = peers
        self.body_bytes = body_bytes
        self.refused_connections = 0
        self._per_address: Counter[str] = Counter()
        self._addresses: dict[Any, str] = {}

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A channel for a new connection; None, which closes it, beyond the limits."""
        host = getattr(addr, "host", "")
        full = len(self._addresses) >= limits.HTTP_CONNECTIONS
        many = self._per_address[host] >= limits.HTTP_CONNECTIONS_PER_ADDRESS and not self._peers.is_proxy(host)
        if full or many:
            self.refused_connections += 1
            return None
        channel = super().buildProtocol(addr)
        self._per_address[host] += 1
        self._addresses[channel] = host
        return channel

    def gone(self, channel: LimitedChannel) -> None:
        """A connection closed."""
        host = self._addresses.pop(channel, None)
        if host is not None:
            self._per_address[host] -= 1
            if not self._per_address[host]:
                del self._per_address[host]

    def log(self, request: Any) -> None:
        """No access log: URLs of requests are nobody's business, and the store has what matters."""
