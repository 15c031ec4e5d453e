"""The socket as a client sees it: a real agent's source on a real socket, with times made short."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bitville_apm import limits
from tests.agent.rig import begin_line, end_line
from tests.agent.source_rig import SourceCase, an_id, passing


class ListenerTests(SourceCase):
    """A source on a socket of its own; its clock is the reactor's, its ticks come when the test says so."""

    async def test_begin_route_end_is_answered_and_journalled(self) -> None:
        """wire.md 1: one byte for the end, none for begin and route; the pid is the kernel's (DAEMON-07)."""
        id_ = an_id()
        client = self.client()
        client.sendall(begin_line(id_) + b"\n")
        client.sendall(b'{"t":"route","id":"%b","route":"/a"}\n' % id_.encode())
        await passing(lambda: self.source.lines == 2)
        (connection,) = self.source.crowd.connections
        assert (connection.peer.pid, connection.peer.uid) == (os.getpid(), os.getuid())
        assert len(self.source.in_flight) == 1
        client.sendall(end_line(id_) + b"\n")
        assert await self.received(client) == b"+"
        assert len(self.source.in_flight) == 0
        client.close()
        await passing(lambda: not self.source.crowd.connections)
        assert await self.records() == [id_]
        assert not self.pipeline.unread.knows(id_, reactor.seconds())  # type: ignore[attr-defined]

    async def test_a_connection_that_is_closed_is_no_garbage(self) -> None:
        """DAEMON-03: thousands a second must not wait for a collection, in which clients would wait for them."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        client = self.client()
        client.sendall(begin_line(an_id()) + b"\n")
        await passing(lambda: self.source.lines == 1)
        gone = [weakref.ref(connection) for connection in self.source.crowd.connections]
        client.sendall(end_line() + b"\n")
        assert await self.received(client) == b"+"
        client.close()
        await passing(lambda: not self.source.crowd.connections)
        assert [connection() for connection in gone] == [None]

    async def test_an_ack_that_was_not_read_is_remembered(self) -> None:
        """wire.md 4: a client that closed before or without reading the ack may have spooled the record too."""
        early, late = an_id(), an_id()
        client = self.client()
        client.sendall(end_line(early) + b"\n")
        client.close()
        client = self.client()
        client.sendall(end_line(late) + b"\n")
        await passing(lambda: self.pipeline.ledger.journalled == 2)
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        client.close()
        await passing(lambda: not self.source.crowd.connections)
        for id_ in (early, late):
            assert self.pipeline.unread.knows(id_, reactor.seconds())  # type: ignore[attr-defined]

    async def test_a_client_that_half_closes_still_gets_its_answers(self) -> None:
        """Everything sent is read and answered before the agent closes, in pieces of any size."""
        ids = [an_id() for _ in range(20)]
        client = self.client()

        def send() -> bytes:
            data = b"".join(end_line(id_) + b"\n" for id_ in ids)
            for at in range(0, len(data), 97):
                client.sendall(data[at : at + 97])
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(100):
                answer += piece
            return answer

        assert await deferToThread(send) == b"+" * 20
        assert await self.records() == ids

    async def test_a_refused_line_is_answered_kept_and_counted_and_its_neighbours_are_taken(self) -> None:
        """faults 9: `-` and a quarantine file with the reason; what stands beside it is journalled."""
        good = an_id()
        bad = [b'{"t":"end","v":2,"id":"x"}', b"rubbish", b'{"t":"what"}', b"[1]", b'{"a":' * 100 + b"1" + b"}" * 100]
        client = self.client()
        client.sendall(b"\n".join([*bad, end_line(good), b""]))
        answers = b""
        while len(answers) < 6:
            answers += await self.received(client, 10)
        assert sorted(answers) == sorted(b"-----+")
        assert await self.records() == [good]
        assert len(list((self.directory / "quarantine").iterdir())) == 5
        ledger = self.pipeline.ledger
        assert (ledger.received, ledger.journalled, ledger.invalid) == (6, 1, 5)

    async def test_a_refused_begin_is_not_answered(self) -> None:
        """An answer to a begin would be read as the answer to the end that follows."""
        id_ = an_id()
        client = self.client()
        client.sendall(b'{"t":"begin","v":2,"id":""}\n' + end_line(id_) + b"\n")
        client.shutdown(socket.SHUT_WR)
        assert await self.received(client, 10) == b"+"
        assert await self.received(client, 10) == b""

    async def test_a_line_too_long_is_refused_and_the_next_one_taken(self) -> None:
        """Over 8 MiB: dropped to its newline, answered `-`, kept by its beginning."""
        id_ = an_id()
        client = self.client()
        await deferToThread(client.sendall, b"x" * (limits.LINE_BYTES + 5) + b"\n" + end_line(id_) + b"\n")
        answers = await self.received(client)
        answers += await self.received(client)
        assert sorted(answers) == sorted(b"+-")
        assert self.source.heard.oversize == 1
        assert await self.records() == [id_]

    async def test_a_disk_that_refuses_answers_nothing(self) -> None:
        """Not written, not acknowledged: the client sees the connection end and keeps its record."""
        blocked = self.directory / "journal"
        blocked.write_text("in the way")
        client = self.client()
        client.sendall(end_line() + b"\n")
        client.shutdown(socket.SHUT_WR)
        assert await self.received(client) == b""
        assert self.pipeline.ledger.unwritten == 1
        blocked.unlink()
        client = self.client()
        client.sendall(end_line() + b"\n")
        assert await self.received(client) == b"+"

    async def test_a_killed_request_is_journalled_as_died(self) -> None:
        """PHP-11: its connection closed, ten seconds passed, its process is gone."""
        id_ = an_id()
        client = self.client()
        client.sendall(begin_line(id_) + b"\n")
        await passing(lambda: len(self.source.in_flight) == 1)
        client.close()
        await passing(lambda: self.source.in_flight.waiting == 1)
        self.boottime += limits.DIED_AFTER_S
        self.source.tick()
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        (record,) = await self.journal.take(10, limits.BATCH_BYTES)
        assert (record.entry.kind, record.entry.id) == ("died", id_)
        assert (self.pipeline.ledger.died, self.pipeline.ledger.received) == (1, 0)

    async def test_drippers_are_closed_and_running_requests_are_not(self) -> None:
        """faults 20: 5 s to a first line and to finish one, whatever drips in; a begun request may stay open."""
        silent, drip, running = self.client(), self.client(), self.client()
        running.sendall(begin_line(an_id()) + b"\n")
        for _ in range(int(limits.LINE_START_S) + 1):
            drip.sendall(b"x")
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
            assert len(self.source.crowd.connections) == 3
            self.source.tick()
        assert await self.received(silent) == b""
        assert await self.received(drip) == b""
        assert len(self.source.crowd.connections) == 1
        running.sendall(b"{")
        await passing(lambda: self.source.crowd.unfinished == 1)
        for _ in range(int(limits.LINE_START_S) + 2):
            self.source.tick()
        assert await self.received(running) == b""
        assert self.source.crowd.slow == 3
        assert self.source.crowd.unfinished == 0

    async def test_unfinished_lines_are_bounded_together(self) -> None:
        """The connection that holds most of an endless line goes, the others stay and are served."""
        self.patch(limits, "LINES_UNFINISHED_BYTES", 100_000)
        big, small = self.client(), self.client()
        small.sendall(b'{"t":')
        await deferToThread(big.sendall, b"x" * 90_000)
        await passing(lambda: self.source.crowd.unfinished > 90_000)
        with self.subTest("the next bytes are too many"):
            try:
                await deferToThread(big.sendall, b"x" * 20_000)
                assert await self.received(big) == b""
            except OSError:
                pass
        await passing(lambda: len(self.source.crowd.connections) == 1)
        assert self.source.crowd.unfinished == 5
        assert self.source.health()["large"] == 1

    async def test_more_than_can_be_held_are_read_and_answered(self) -> None:
        """wire.md 1: beyond the limit of one user a connection is answered, but not held for long."""
        self.patch(limits, "CONNECTIONS_PER_UID", 2)
        held = [self.client() for _ in range(2)]
        for client in held:
            client.sendall(begin_line(an_id()) + b"\n")
        over = self.client()
        id_ = an_id()
        over.sendall(begin_line(id_) + b"\n" + end_line(id_) + b"\n")
        assert await self.received(over) == b"+"
        assert len(self.source.in_flight) == 2
        for _ in range(int(limits.LINE_START_S) + 1):
            self.source.tick()
        assert await self.received(over) == b""
        assert (self.source.crowd.turned_away, self.source.crowd.slow) == (1, 0)
        assert len(self.source.crowd.connections) == 2

    async def test_all_users_together_are_bounded_too(self) -> None:
        """wire.md 1: beyond 4,096 in all, whoever comes is answered and not held."""
        self.patch(limits, "CONNECTIONS_HELD", 1)
        first, over = self.client(), self.client()
        for client in (first, over):
            client.sendall(begin_line(an_id()) + b"\n")
        await passing(lambda: self.source.lines == 2)
        assert len(self.source.in_flight) == 1
        health = self.source.health()
        assert (health["connections"], health["in_flight"], health["turned_away"]) == (2, 1, 1)
        over.close()
        await passing(lambda: len(self.source.crowd.connections) == 1)
        assert self.source.in_flight.waiting == 0

    async def test_reads_to_the_end_before_it_closes(self) -> None:
        """wire.md 1: bytes left unread would reset the connection, and take an answer along."""
        for over in (False, True):
            self.patch(limits, "CONNECTIONS_HELD", 0 if over else 100)
            client = self.client()
            said = end_line() + b"\n" + b"y" * 3_000_000
            sending = deferToThread(client.sendall, said)
            assert await self.received(client) == b"+"
            await sending
            client.shutdown(socket.SHUT_WR)
            assert await self.received(client) == b""

    async def test_an_app_that_hangs_up_without_reading(self) -> None:
        """wire.md 4: thousands of acks that nobody reads hold up nobody, and none of them counts as read."""
        ids = [an_id() for _ in range(2000)]
        rude, polite = self.client(), self.client()
        await deferToThread(rude.sendall, b"".join(end_line(id_) + b"\n" for id_ in ids))
        polite.sendall(end_line() + b"\n")
        assert await self.received(polite) == b"+"
        await passing(lambda: self.pipeline.ledger.journalled == 2001)
        rude.close()
        await passing(lambda: len(self.source.crowd.connections) == 1)
        now = reactor.seconds()  # type: ignore[attr-defined]
        assert all(self.pipeline.unread.knows(id_, now) for id_ in ids)

    async def test_senders_are_held_back_while_the_disk_is(self) -> None:
        """Beyond 32 MiB of lines not yet written nothing is read, and nobody is blamed for being slow."""
        self.patch(limits, "APPENDS_WAITING_BYTES", 2000)
        slow: list[tuple[Callable[..., Any], tuple[object, ...], Deferred[Any]]] = []

        def later(function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
            waiting: Deferred[Any] = Deferred()
            slow.append((function, arguments, waiting))
            return waiting

        self.journal.run = later
        first, second = self.client(), self.client()
        for _ in range(15):
            first.sendall(end_line() + b"\n")
        await passing(lambda: self.source.crowd.paused)
        second.sendall(end_line() + b"\n")
        third = self.client()
        third.sendall(end_line() + b"\n")
        for _ in range(20):
            self.source.tick()
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]
        assert self.source.health()["status"] == "degraded"
        read = self.source.lines
        assert len(self.source.crowd.connections) == 3

        def write() -> bool:
            while slow:
                function, arguments, waiting = slow.pop(0)
                waiting.callback(function(*arguments))
            return self.pipeline.ledger.journalled == 17

        await passing(write)
        assert self.source.lines == 17 > read
        assert self.source.crowd.slow == 0
        for client in (second, third):
            assert await self.received(client) == b"+"
