"""What a re-execution hands over: both processes' sources in one process, with real sockets between."""

from __future__ import annotations

import os
import socket
import stat

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bitville_apm import limits
from bitville_apm.agent import handover
from bitville_apm.agent.handover import Handover, SourceState
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from tests.agent.journal_rig import Slow
from tests.agent.rig import begin_line, end_line
from tests.agent.source_rig import SourceCase, an_id, passing


class SuspendTests(SourceCase):
    """`self.source` is the process before; `go_on` makes the one after and puts it in its place."""

    async def go_on(self) -> SourceState:
        """Suspend, carry the state over as bytes, resume with a source that has nothing else."""
        state = await self.source.suspend()
        words = handover.encoded(Handover(why="a test", restarts=1, at=0.0, sources=[state]))
        (state,) = handover.decoded(words).sources
        before = self.source
        assert not before.crowd.connections
        assert (len(before.in_flight), before.in_flight.waiting, before.crowd.unfinished) == (0, 0, 0)
        before.file.release()
        self.source = self.make(SocketFile(self.path, 0o660, "", inherited=state.listening))
        self.source.listen()
        self.source.resume(state)
        return state

    async def test_a_begun_request_ends_in_the_next_process(self) -> None:
        """DAEMON-02: begin and route before, end after: the same connection is answered, nothing is lost or died."""
        id_ = an_id()
        client = self.client()
        client.sendall(begin_line(id_) + b"\n" + b'{"t":"route","id":"%b","route":"/a"}\n' % id_.encode())
        await passing(lambda: self.source.lines == 2)
        self.boottime = 1007.0
        await self.go_on()
        (connection,) = self.source.crowd.connections
        request = self.source.in_flight.request_of(connection)
        assert request is not None
        assert (request.id, request.since, request.route, request.peer.pid) == (id_, 1000.0, "/a", os.getpid())
        client.sendall(end_line(id_) + b"\n")
        assert await self.received(client) == b"+"
        assert len(self.source.in_flight) == 0
        client.close()
        await passing(lambda: not self.source.crowd.connections)
        assert await self.records() == [id_]
        assert (self.source.in_flight.died, self.source.in_flight.end_lost) == (0, 0)

    async def test_half_a_line_is_finished_in_the_next_process(self) -> None:
        """DAEMON-02: the bytes already read are part of the line that the next process takes."""
        id_ = an_id()
        line = end_line(id_, size=200_000) + b"\n"
        client = self.client()
        await deferToThread(client.sendall, line[:150_000])
        await passing(lambda: self.source.crowd.unfinished == 150_000)
        await self.go_on()
        assert self.source.crowd.unfinished == 150_000
        await deferToThread(client.sendall, line[150_000:])
        assert await self.received(client) == b"+"
        assert await self.records() == [id_]
        assert self.source.crowd.unfinished == 0

    async def test_a_line_too_long_stays_too_long(self) -> None:
        """What was dropped of a line is not forgotten: its rest is no line of its own."""
        client = self.client()
        await deferToThread(client.sendall, b"x" * (limits.LINE_BYTES + 5))
        (connection,) = self.source.crowd.connections
        await passing(lambda: connection.framer.inside_line and not connection.framer.unfinished)
        await self.go_on()
        client.sendall(b"rest\n" + end_line() + b"\n")
        assert await self.received(client) == b"-"
        assert await self.received(client) == b"+"
        assert self.source.heard.oversize == 1

    async def test_an_answer_that_is_owed_is_written_first(self) -> None:
        """COMM-02: a line that was read is answered by the process that read it, as soon as the disk has it."""
        run, slow = self.journal.run, Slow()
        self.journal.run = slow
        client = self.client()
        client.sendall(end_line() + b"\n")
        await passing(lambda: self.source.lines == 1)
        suspended = self.source.suspend()
        client.sendall(end_line()[:10])
        await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        assert not suspended.called
        self.journal.run = run
        while slow.handed:
            slow.work()
        state = await suspended
        assert await self.received(client) == b"+"
        assert self.source.lines == 1, "nothing is read any more"
        assert not state.held[0].silent
        self.source.file.inherited = state.listening
        self.source.listen()
        self.source.resume(state)
        assert len(self.source.crowd.connections) == 1

    async def test_an_answer_that_never_comes_is_not_waited_for(self) -> None:
        """DAEMON-02: a disk that hangs delays a restart 2 s; that connection gets no later line's answer for it."""
        self.patch(limits, "DRAIN_S", 0.1)
        self.journal.run = lambda function, /, *arguments: Deferred()  # type: ignore[assignment]
        client, ended = self.client(), self.client()
        client.sendall(end_line() + b"\n")
        ended.sendall(end_line() + b"\n")
        ended.shutdown(socket.SHUT_WR)
        await passing(lambda: self.source.lines == 2)
        self.journal, self.pipeline = self.make_pipeline("next")
        state = await self.go_on()
        assert [held.silent for held in state.held] == [True]
        assert await self.received(ended) == b""
        client.sendall(end_line() + b"\n")
        client.shutdown(socket.SHUT_WR)
        assert await self.received(client) == b""
        assert self.pipeline.ledger.journalled == 1

    async def test_a_client_that_closed_meanwhile_is_found_out(self) -> None:
        """PHP-11: killed between two processes of the agent: its request waits 10 s for a spool file, then died."""
        client = self.client()
        client.sendall(begin_line(an_id()) + b"\n")
        await passing(lambda: len(self.source.in_flight) == 1)
        state = await self.source.suspend()
        client.close()
        self.source.file.inherited = state.listening
        self.source.listen()
        self.source.resume(state)
        await passing(lambda: self.source.in_flight.waiting == 1)
        assert not self.source.crowd.connections
        await self.go_on()
        self.boottime += limits.DIED_AFTER_S
        self.source.tick()
        await passing(lambda: self.source.in_flight.died == 1)

    async def test_clients_that_come_between_wait_and_are_served(self) -> None:
        """DAEMON-02: nobody is refused: the socket listens all the time."""
        state = await self.source.suspend()
        clients = [self.client() for _ in range(20)]
        for client in clients:
            client.sendall(end_line() + b"\n")
        self.source.file.inherited = state.listening
        self.source.listen()
        self.source.resume(state)
        for client in clients:
            assert await self.received(client) == b"+"

    async def test_the_bounds_hold_over_it(self) -> None:
        """wire.md 1: who had to bring a line still has to, who was one more than is held still is."""
        self.patch(limits, "CONNECTIONS_PER_UID", 2)
        running, silent = self.client(), self.client()
        running.sendall(begin_line(an_id()) + b"\n")
        await passing(lambda: len(self.source.in_flight) == 1)
        await passing(lambda: len(self.source.crowd.connections) == 2)
        over = self.client()
        over.sendall(begin_line(an_id()) + b"\n")
        await passing(lambda: self.source.lines == 2)
        state = await self.go_on()
        assert sorted((h.over, h.watched, h.begin is None) for h in state.held) == [
            (False, False, False),
            (False, True, True),
            (True, True, True),
        ]
        for _ in range(int(limits.LINE_START_S) + 1):
            self.source.tick()
        assert await self.received(silent) == b""
        assert await self.received(over) == b""
        assert len(self.source.crowd.connections) == 1


class InheritedTests(SourceCase):
    """A socket that a supervisor made."""

    async def test_a_lent_socket_keeps_its_file_and_its_mode(self) -> None:
        """DAEMON-07: it is served, and neither its mode nor its name is touched."""
        path = self.path.with_suffix(".lent")
        self.addCleanup(path.unlink)
        with socket.socket(socket.AF_UNIX) as supervisor:
            supervisor.bind(str(path))
            path.chmod(0o600)
            supervisor.listen()
            file = SocketFile(path, 0o660, "", inherited=os.dup(supervisor.fileno()), lent=True)
            source = self.make(file)
            source.listen()
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(end_line() + b"\n")
            assert await self.received(client) == b"+"
            client.close()
            await source.stop()
            await passing(lambda: not source.crowd.connections)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def test_another_descriptor_is_refused_in_one_line(self) -> None:
        """A descriptor that is no listening UNIX stream socket is told as such, and left open for its owner."""
        with (
            socket.socket(socket.AF_UNIX) as idle,
            socket.socket(socket.AF_INET) as foreign,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
            (self.directory / "file").open("w") as file,
        ):
            for descriptor in (idle.fileno(), foreign.fileno(), datagram.fileno(), file.fileno(), 9999):
                source = self.make(SocketFile(self.path, 0o660, "", inherited=descriptor))
                with pytest.raises(CannotListen) as raised:
                    source.listen()
                assert f"descriptor {descriptor}: " in str(raised.value)
                assert "\n" not in str(raised.value)
                assert not source.listening
            os.fstat(idle.fileno())
