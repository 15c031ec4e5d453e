"""A journal and its forwarder against a collector's stand-in: real HTTP, and a clock that only the test moves."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from bitville_apm.agent.disk import Disk
from bitville_apm.agent.forward import Forward
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.segment import Entry
from bitville_apm.agent.totals import Totals
from bitville_apm.agent.transmitter import Transmitter, trust
from tests.agent.journal_rig import at_once
from tests.agent.rig import KEY, Collector, end_line

NOW = 1_795_231_261.5


class ForwardRig:
    """A journal and its forwarder in the test's directory; `flush` waits for one flush to end."""

    def __init__(self, directory: Path, url: str, key_file: Path | None = None, ca: bytes | None = None) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.wall = NOW
        self.key_file = key_file
        self.journal = Journal(Disk(directory / "journal", "never"), at_once, self.clock, lambda: NOW)
        self.frames = Journal(Disk(directory / "journal" / "frames", "never"), at_once, self.clock, lambda: NOW)
        self.transmitter = Transmitter(reactor, at_once, lambda: NOW, url, "web1", trust(ca))
        self.quarantine = Quarantine(directory / "quarantine")
        self.forward = Forward(
            journals=[Outgoing(self.frames, at_once=True), Outgoing(self.journal)],
            transmitter=self.transmitter,
            quarantine=self.quarantine,
            run=at_once,
            clock=self.clock,
            now=lambda: self.wall,
            read_key=self.read_key,
            state_file=directory / "circuit-breaker-state" / "central_listener.state",
            flush_seconds=5.0,
        )

    def read_key(self) -> str:
        if self.key_file is None:
            return KEY
        try:
            return self.key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    async def start(self) -> ForwardRig:
        await self.journal.start()
        await self.frames.start()
        await self.forward.start()
        await self.settled()
        return self

    async def settled(self) -> None:
        while self.forward._flushing is not None:
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    async def flush(self, seconds: float = 5.0) -> None:
        self.wall += seconds
        self.clock.pump([seconds])
        await self.settled()

    def append(self, *lines: bytes, frames: bool = False) -> list[str]:
        ids = []
        for line in lines:
            ids.append(json.loads(line)["id"])
            (self.frames if frames else self.journal).append(Entry("end", ids[-1], int(NOW * 1000), line))
        self.clock.advance(0)
        return ids

    def records(self, n: int) -> list[str]:
        return self.append(*(end_line() for _ in range(n)))

    @property
    def became(self) -> Totals:
        return self.journal.books.totals

    @property
    def status(self) -> tuple[str, str, int]:
        breaker = self.forward.breaker
        return self.forward.status, breaker.state, breaker.failure_count

    async def close(self) -> None:
        if self.forward._loop is not None and self.forward._loop.running:
            self.forward._loop.stop()
        await self.settled()
        await self.transmitter.close()


class ForwardCase(TestCase):
    """Each test has a collector of its own, and a directory."""

    timeout = 60

    def setUp(self) -> None:
        self.collector = Collector()
        self.addCleanup(self.collector.close)
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)

    async def rig(self, directory: Path | None = None, url: str = "", key_file: Path | None = None) -> ForwardRig:
        rig = await ForwardRig(directory or self.directory, url or self.collector.url, key_file).start()
        self.addCleanup(lambda: Deferred.fromCoroutine(rig.close()))
        return rig
