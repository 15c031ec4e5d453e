"""The listening socket's transport: what Twisted's own keeps is kept here, and what is different."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IPushProducer,
    IReadDescriptor,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from bitville_apm import limits
from bitville_apm.agent.streams import StreamEndpoint, StreamPort
from tests.agent.rig import begin_line, end_line
from tests.agent.source_rig import SourceCase, an_id, passing


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """Says back what it hears, after the peer's last word; notes everything that happens to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.heard = b""
        self.fails = False

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        if self.fails:
            raise ValueError("a test")
        self.heard += data

    def readConnectionLost(self) -> None:
        self.events.append("ended")
        self.transport.write(self.heard)  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append("lost")


class Making(Factory):
    """Remembers its protocols."""

    noisy = False
    protocol = Echo

    def __init__(self) -> None:
        self.made: list[Echo] = []

    def buildProtocol(self, addr: Any) -> Echo:
        self.made.append(Echo())
        return self.made[-1]


def whole(path: str, said: bytes) -> bytes:
    """One client: says it, hears everything."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        heard = b""
        while piece := client.recv(65536):
            heard += piece
        return heard


async def turns(test: TestCase) -> int:
    """How often ports are asked to read in a tenth of a second."""
    counted = 0
    read = StreamPort.doRead

    def counting(port: StreamPort) -> None:
        nonlocal counted
        counted += 1
        read(port)

    test.patch(StreamPort, "doRead", counting)
    await deferLater(reactor, 0.1)  # type: ignore[arg-type]
    return counted


class EndpointTests(TestCase):
    """The same protocol behind our endpoint and behind `UNIXServerEndpoint`."""

    timeout = 60

    def setUp(self) -> None:
        self.path = f"/tmp/bv-{uuid.uuid4().hex[:8]}.sock"
        self.addCleanup(lambda: Path(self.path).unlink(missing_ok=True))
        self.factory = Making()

    async def ours(self) -> StreamPort:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.path)
        listening.setblocking(False)
        listening.listen(100)
        endpoint = StreamEndpoint(reactor, listening, lambda: False)
        verifyObject(IStreamServerEndpoint, endpoint)
        port: Any = await endpoint.listen(self.factory)
        self.addCleanup(port.stopListening)
        return port  # type: ignore[no-any-return]

    async def check_whole(self) -> None:
        large = os.urandom(3_000_000)
        assert await deferToThread(whole, self.path, large) == large
        await passing(lambda: self.factory.made[0].events == ["made", "ended", "lost"])
        answers = [deferToThread(whole, self.path, b"%d" % n) for n in range(50)]
        for n, answer in enumerate(answers):
            assert await answer == b"%d" % n
        await passing(lambda: all(echo.events[-1] == "lost" for echo in self.factory.made))

    async def test_a_large_answer_to_a_client_that_has_ended(self) -> None:
        """Every byte is read and every byte written before it closes; all events come, once and in order."""
        port = await self.ours()
        await self.check_whole()
        assert not port.streams

    async def test_much_traffic_is_looked_after_at_intervals(self) -> None:
        """Under load each connection is served as whole as ever, and in the quiet after it the next one at once."""
        self.patch(limits, "LOOKS_COUNTED", 2)
        self.patch(limits, "LOOK_S", 0.02)
        port = await self.ours()
        spaced = []
        look = StreamPort._look_again
        self.patch(StreamPort, "_look_again", lambda self: (spaced.append(1), look(self)))
        await self.check_whole()
        assert spaced
        await passing(lambda: port in reactor.getReaders())  # type: ignore[attr-defined]
        assert await deferToThread(whole, self.path, b"quiet") == b"quiet"

    async def test_the_same_behind_twisteds_endpoint(self) -> None:
        """One interface: `UNIXServerEndpoint` can stand in the place of ours."""
        port: IListeningPort = await UNIXServerEndpoint(reactor, self.path).listen(self.factory)
        self.addCleanup(port.stopListening)
        await self.check_whole()

    async def test_provides_what_it_says(self) -> None:
        """Twisted's interfaces, so that its protocols and reactors work with it."""
        port = await self.ours()
        verifyObject(IListeningPort, port)
        verifyObject(IReadDescriptor, port)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            await passing(lambda: port.streams)
            (stream,) = port.streams.values()
            verifyObject(ITransport, stream)
            verifyObject(IPushProducer, stream)
            assert port.getHost().name == stream.getHost().name == os.fsencode(self.path)
        await passing(lambda: not port.streams)

    async def test_a_protocol_that_fails_costs_its_own_connection(self) -> None:
        """An error in one connection is logged and closes that one; the others go on."""
        port = await self.ours()
        with socket.socket(socket.AF_UNIX) as bad, socket.socket(socket.AF_UNIX) as good:
            for client in (bad, good):
                client.settimeout(10)
                client.connect(self.path)
            await passing(lambda: len(self.factory.made) == 2)
            self.factory.made[0].fails = True
            bad.sendall(b"x")
            assert await deferToThread(bad.recv, 1) == b""
            assert len(self.flushLoggedErrors(ValueError)) == 1
            good.sendall(b"y")
            good.shutdown(socket.SHUT_WR)
            assert await deferToThread(good.recv, 1) == b"y"
        await passing(lambda: not port.streams)

    async def test_a_paused_connection_is_not_read_and_not_asked_for_ever(self) -> None:
        """Whatever the client does: what it said waits in the kernel, and its death does not make the reactor spin."""
        port = await self.ours()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            await passing(lambda: port.streams)
            (stream,) = port.streams.values()
            stream.pauseProducing()
            client.sendall(b"later")
        assert await turns(self) < 3
        assert self.factory.made[0].heard == b""
        stream.resumeProducing()
        await passing(lambda: not port.streams)
        assert self.factory.made[0].heard == b"later"

    async def test_a_port_that_stopped_leaves_the_reactor_with_its_last_connection(self) -> None:
        """Connections outlive the listening socket, and nothing outlives them."""
        port = await self.ours()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            await passing(lambda: port.streams)
            port.stopListening()
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            assert await deferToThread(client.recv, 100) == b"still here"
        await passing(lambda: port.epoll.closed)
        assert port not in reactor.getReaders()  # type: ignore[attr-defined]


class DescriptorTests(SourceCase):
    """faults 20: a process that may open no more files."""

    @contextlib.contextmanager
    def leaving(self, n: int) -> Iterator[None]:
        """The process may open `n` more files inside this."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = [os.dup(0) for _ in range(n)]
        for descriptor in free:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def unconnected(self, n: int) -> list[socket.socket]:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(n)]
        for client in clients:
            client.settimeout(10)
            self.addCleanup(client.close)
        return clients

    async def test_the_silent_make_room_for_those_who_speak(self) -> None:
        """faults 20: with no descriptor left, who has said nothing for longest is closed, who says it is served."""
        await self.journal.start()
        warm = self.client()
        warm.sendall(end_line() + b"\n")
        assert await self.received(warm) == b"+"
        *silent, honest = self.unconnected(8)
        with self.leaving(4):
            for client in silent:
                client.connect(str(self.path))
            honest.connect(str(self.path))
            honest.sendall(begin_line(an_id()) + b"\n" + end_line() + b"\n")
            assert await self.received(honest) == b"+"
            assert await self.received(silent[0]) == b""
        assert self.source.crowd.shed >= 4
        assert self.source.health()["shed"] == self.source.crowd.shed
        await self.journal.stop()

    async def test_who_finds_no_room_waits(self) -> None:
        """faults 20: begun requests are not closed for it; the next client waits in the queue, the agent is idle."""
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]  # the reactor opens some when it begins to run
        *running, late = self.unconnected(4)
        with self.leaving(3):
            for client in running:
                client.connect(str(self.path))
                client.sendall(begin_line(an_id()) + b"\n")
            await passing(lambda: len(self.source.in_flight) == 3)
            late.connect(str(self.path))
            late.sendall(begin_line(an_id()) + b"\n")
            assert await turns(self) < 5
            assert len(self.source.crowd.connections) == 3
            running[0].close()
            await passing(lambda: self.source.lines == 4)
        assert self.source.crowd.shed == 0
