"""HTTP with limits, over real sockets and with time that the test turns."""

from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from bitville_apm import limits
from bitville_apm.http import HttpProblem, LimitedSite, inflated


class Echo(Resource):
    """Answers a POST with the length of its body; `/broken` raises."""

    isLeaf = True

    def render_POST(self, request: object) -> bytes:
        """The length of the body."""
        if request.path == b"/broken":  # type: ignore[attr-defined]
            raise RuntimeError("internals")
        return str(len(request.content.read())).encode()  # type: ignore[attr-defined]


class Talk:
    """One connection to a site of ours, byte by byte if wanted."""

    def __init__(self, body_bytes: int = 100, host: str = "127.0.0.1") -> None:
        self.clock = Clock()
        self.site = LimitedSite(Echo(), self.clock, body_bytes)
        self.site.startFactory()
        self.connect(host)

    def connect(self, host: str = "127.0.0.1") -> bool:
        self.channel = self.site.buildProtocol(IPv4Address("TCP", host, 1))
        self.transport = StringTransport()
        if self.channel is None:
            return False
        self.transport.abortConnection = self.transport.loseConnection  # type: ignore[method-assign]
        self.channel.makeConnection(self.transport)
        return True

    def send(self, data: bytes) -> bytes:
        self.channel.dataReceived(data)
        return self.transport.value()

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


def post(length: int, path: bytes = b"/") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, length)


def test_a_body_within_the_limit_is_read() -> None:
    """A body of exactly the limit is taken."""
    assert Talk().send(post(100) + b"x" * 100).endswith(b"100")


def test_a_longer_body_is_refused_before_it_is_read() -> None:
    """LIST-04: 413 by the announced length, as JSON, and the connection closes soon after."""
    talk = Talk()
    answer = talk.send(post(101))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"message": "body larger than 100 bytes' in answer
    assert talk.send(b"x" * 101 + post(1) + b"x") == answer
    talk.clock.advance(limits.DRAIN_S + 0.1)
    assert talk.transport.disconnecting


def test_a_chunked_body_is_refused_as_it_grows(request: pytest.FixtureRequest) -> None:
    """A body without a length cannot be longer either."""
    talk = Talk()
    request.addfinalizer(talk.lose)
    talk.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert talk.send(b"64\r\n" + b"x" * 100 + b"\r\n") == b""
    assert talk.send(b"1\r\nx\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("start", "seconds"),
    [(b"POST / HT", limits.HEADER_TIMEOUT_S), (post(50) + b"x", limits.BODY_TIMEOUT_S)],
)
def test_a_byte_a_second_does_not_hold_a_connection(start: bytes, seconds: float) -> None:
    """A dripping sender is answered 408 at the deadline, whatever the pace of its bytes."""
    talk = Talk()
    talk.send(start)
    for _ in range(int(seconds) - 1):
        talk.clock.advance(1)
        assert talk.send(b"x") == b""
    talk.clock.advance(1)
    assert talk.transport.value().startswith(b"HTTP/1.1 408 ")
    talk.clock.advance(limits.DRAIN_S + 0.1)
    assert talk.transport.disconnecting


def test_each_request_of_a_connection_has_its_own_time() -> None:
    """Kept alive, the second request's clock starts with its first byte."""
    talk = Talk()
    talk.send(post(1) + b"x")
    talk.clock.advance(limits.HEADER_TIMEOUT_S * 2)
    talk.transport.clear()
    assert talk.send(post(2) + b"xx").endswith(b"2")


def test_connections_are_counted_per_address_and_given_back() -> None:
    """The 65th connection of an address is closed at once; another address is still served."""
    talk = Talk()
    first = talk.channel
    for _ in range(limits.HTTP_CONNECTIONS_PER_ADDRESS - 1):
        assert talk.connect()
    assert not talk.connect()
    assert talk.site.refused_connections == 1
    assert talk.connect("127.0.0.2")
    first.connectionLost(Failure(ConnectionDone()))
    assert talk.connect()


def test_an_error_shows_no_internals() -> None:
    """LIST-04: 500 is JSON that says nothing of the program."""
    seen = []
    globalLogPublisher.addObserver(seen.append)
    try:
        answer = Talk().send(post(0, b"/broken"))
    finally:
        globalLogPublisher.removeObserver(seen.append)
    assert b" 500 " in answer.splitlines()[0]
    assert b"internals" not in answer
    assert b"Traceback" not in answer
    assert any(event.get("log_failure") for event in seen)


@given(st.binary(max_size=5000), st.sampled_from(["zstd", "gzip", "identity", None]))
def test_bodies_are_inflated(data: bytes, encoding: str | None) -> None:
    """OPT-04: what is compressed comes back as it was."""
    packed = {"zstd": zstandard.compress, "gzip": gzip.compress}.get(encoding or "", bytes)(data)
    assert inflated(packed, encoding) == data


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_a_bomb_is_refused(encoding: str) -> None:
    """What would inflate beyond the cap is 413, and no more than the cap is ever made of it."""
    data = b"\0" * (limits.BODY_INFLATED_BYTES + 1)
    packed = {"zstd": zstandard.compress, "gzip": gzip.compress}.get(encoding, bytes)(data)
    with pytest.raises(HttpProblem) as caught:
        inflated(packed, encoding)
    assert caught.value.status == 413


def streamed(data: bytes) -> bytes:
    """A zstd frame that does not tell its size."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return stream.compress(data) + stream.flush()


def test_a_frame_of_unknown_size_is_bounded_too() -> None:
    """A sender that streams is served, and its bomb or its cut is refused like any other."""
    assert inflated(streamed(b"abc" * 1000), "zstd") == b"abc" * 1000
    for broken, status in ((streamed(b"\0" * 2**25), 413), (streamed(b"abc" * 1000)[:-2], 400)):
        with pytest.raises(HttpProblem) as caught:
            inflated(broken, "zstd")
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"x", "br", 415),
        (b"x", "zstd", 400),
        (b"x", "gzip", 400),
        (gzip.compress(b"x", mtime=0)[:-3], "gzip", 400),
        (gzip.compress(b"x", mtime=0) * 2, "gzip", 400),
        (zlib.compress(b"x"), "gzip", 400),
        (zstandard.compress(b"abc" * 100)[:-3], "zstd", 400),
        (zstandard.compress(b"x") * 2, "zstd", 400),
    ],
)
def test_a_broken_body_is_said_so(body: bytes, encoding: str, status: int) -> None:
    """LIST-04: an unknown encoding is 415; a cut, broken or doubled stream is 400."""
    with pytest.raises(HttpProblem) as caught:
        inflated(body, encoding)
    assert caught.value.status == status
