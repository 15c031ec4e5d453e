"""Datagram sockets as their senders see them: real ones, with a real journal behind."""

from __future__ import annotations

import os
import socket
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater

from bitville_apm import limits
from bitville_apm.agent.datagrams import Datagrams
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.socketfile import CannotListen, SocketFile
from bitville_apm.ini import Address
from tests.agent.journal_rig import Slow
from tests.agent.rig import begin_line, end_line, free_port
from tests.agent.source_rig import SourceCase, an_id, passing


class DatagramTests(SourceCase):
    """One section with both sockets."""

    def make(self, file: SocketFile) -> PhpSource:
        source = super().make(file)
        if not hasattr(self, "datagram"):
            self.datagram = Path(f"/tmp/bv-{uuid.uuid4().hex[:8]}.dgram")
            self.udp = Address("127.0.0.1", free_port())
            self.unix = self.sender(socket.AF_UNIX)
            self.net = self.sender(socket.AF_INET)
        source.datagrams = Datagrams(
            "php",
            reactor,
            self.pipeline,
            source.in_flight.found,
            SocketFile(self.datagram, 0o660, ""),
            self.udp,
        )
        return source

    def sender(self, family: int) -> socket.socket:
        sender = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        return sender

    def send(self, data: bytes) -> None:
        self.unix.sendto(data, str(self.datagram))

    def numbers(self) -> dict[str, Any]:
        return {k[10:]: v for k, v in self.source.health().items() if k.startswith("datagrams_")}

    async def test_a_line_is_journalled_and_not_answered(self) -> None:
        """COMM-07: end and version 1 lines, by UNIX datagram and by UDP; the socket's mode is the section's."""
        assert stat.S_IMODE(self.datagram.stat().st_mode) == 0o660
        first, second, third = an_id(), an_id(), an_id()
        version1 = b'{"correlation_id":"%b","timestamp":1,"elapsed_ms":2}' % second.encode()
        self.send(end_line(first) + b"\n")
        self.send(version1)
        self.net.sendto(end_line(third, size=50_000), (self.udp.host, self.udp.port))
        await passing(lambda: self.pipeline.ledger.journalled == 3)
        assert sorted(await self.records()) == sorted([first, second, third])
        assert self.source.health()["datagrams"] == 3
        self.unix.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.unix.recv(10)

    async def test_a_record_that_came_so_did_not_die(self) -> None:
        """PHP-11: whose connection broke and whose end came by datagram is neither died nor lost."""
        id_ = an_id()
        client = self.client()
        client.sendall(begin_line(id_) + b"\n")
        await passing(lambda: len(self.source.in_flight) == 1)
        client.close()
        await passing(lambda: self.source.in_flight.waiting == 1)
        self.send(end_line(id_))
        await passing(lambda: self.source.in_flight.waiting == 0 and self.pipeline.ledger.journalled == 1)
        assert (self.source.in_flight.died, self.source.in_flight.end_lost) == (0, 0)
        assert await self.records() == [id_]

    async def test_what_is_no_record_is_counted_and_kept(self) -> None:
        """Rubbish is refused as it is from a connection, a begin belongs to one, too long a line is cut."""
        self.unix.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * limits.MIB)
        self.patch(limits, "LOCAL_DATAGRAM_BYTES", 60_000)
        (one, two) = self.source.datagrams._sockets  # type: ignore[union-attr]
        one._buffer = two._buffer = bytearray(60_000)
        self.send(b"rubbish")
        self.send(begin_line(an_id()))
        self.send(end_line(size=70_000))
        self.send(b"")
        await passing(lambda: self.source.health()["datagrams"] == 4 and self.pipeline.ledger.invalid == 3)
        assert (self.numbers()["unfit"], self.numbers()["oversize"]) == (1, 1)
        assert len(list((self.directory / "quarantine").iterdir())) == 3
        assert await self.records() == []

    async def test_what_the_disk_refuses_is_counted_as_lost(self) -> None:
        """Nobody is told, so it must be counted."""
        (self.directory / "journal").write_text("in the way")
        self.send(end_line())
        await passing(lambda: self.numbers()["lost"] == 1)
        assert self.pipeline.ledger.unwritten == 1

    async def test_nothing_is_read_while_the_disk_does_not_keep_up(self) -> None:
        """Memory stays bounded: datagrams wait in the kernel, which counts what it drops, and are read afterwards."""
        self.patch(limits, "APPENDS_WAITING_BYTES", 2000)
        run, slow = self.journal.run, Slow()
        self.journal.run = slow
        for _ in range(5):
            self.send(end_line(size=1000))
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        self.source.tick()
        for _ in range(5):
            self.send(end_line(size=1000))
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        assert self.source.health()["datagrams"] < 10
        self.journal.run = run

        def write() -> bool:
            while slow.handed:
                slow.work()
            self.source.tick()
            return self.pipeline.ledger.journalled == 10

        await passing(write)
        assert self.numbers()["dropped"] == 0

    async def test_they_live_through_a_re_execution(self) -> None:
        """DAEMON-02: what is sent between two processes waits in the sockets, which are never closed."""
        state = await self.source.suspend()
        ids = [an_id(), an_id()]
        self.send(end_line(ids[0]))
        self.net.sendto(end_line(ids[1]), (self.udp.host, self.udp.port))
        self.source.file.release()
        self.source = self.make(SocketFile(self.path, 0o660, "", inherited=state.listening))
        self.source.datagrams.inherited = state.datagrams  # type: ignore[union-attr]
        self.source.listen()
        self.source.resume(state)
        await passing(lambda: self.pipeline.ledger.journalled == 2)
        assert sorted(await self.records()) == sorted(ids)

    async def test_stopping_takes_the_name_away_and_reads_what_was_sent(self) -> None:
        """DAEMON-04: what has been sent is journalled; after that nobody can send any more."""
        self.send(end_line())
        await self.source.stop()
        assert not self.datagram.exists()
        await passing(lambda: self.pipeline.ledger.journalled == 1)

    async def test_a_place_that_is_taken_is_told_in_one_line(self) -> None:
        """A living socket is not taken over, a stale one is; a used port is told, and nothing stays open."""
        with pytest.raises(CannotListen, match="another program"):
            SocketFile(self.datagram, 0o660, "").bind()
        stale = self.datagram.with_suffix(".stale")
        self.addCleanup(lambda: stale.unlink(missing_ok=True))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(stale))
        fresh = Datagrams("x", reactor, self.pipeline, print, SocketFile(stale, 0o600, ""), self.udp)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(CannotListen, match=f"udp {self.udp}: "):
            fresh.listen()
        assert len(os.listdir("/proc/self/fd")) == before
        assert not stale.exists()
