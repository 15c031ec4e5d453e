"""A source on a real socket for tests: a journal of its own, a clock for requests that the test turns."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from bitville_apm import limits
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.socketfile import SocketFile
from tests.agent.journal_rig import at_once


def an_id() -> str:
    return str(uuid.uuid4())


async def passing(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Let the reactor turn until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "not in time"
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]


class SourceCase(TestCase):
    """A source on a socket of its own; its clock is the reactor's, its ticks come when the test says so."""

    timeout = 60

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.path = Path(f"/tmp/bv-{uuid.uuid4().hex[:8]}.sock")
        self.addCleanup(lambda: Path(f"{self.path}.lock").unlink(missing_ok=True))
        self.boottime = 1000.0
        self.living = False
        self.journal, self.pipeline = self.make_pipeline("journal")
        self.source = self.make(SocketFile(self.path, 0o660, ""))
        self.source.listen()
        self.addCleanup(self.stop)

    def make_pipeline(self, name: str) -> tuple[Journal, Pipeline]:
        """A journal in a directory of its own, and nobody who sends it on."""
        journal = Journal(Disk(self.directory / name, "never"), at_once, reactor, time.time)  # type: ignore[arg-type]
        frames = Journal(Disk(self.directory / name / "frames", "never"), at_once, reactor, time.time)  # type: ignore[arg-type]
        quarantine = Quarantine(self.directory / "quarantine")
        forward: Any = None
        clock: Any = reactor
        return journal, Pipeline("default", journal, frames, forward, quarantine, at_once, at_once, clock, time.time)

    def make(self, file: SocketFile) -> PhpSource:
        """A source that does not listen yet."""
        return PhpSource("php", reactor, file, self.pipeline, lambda: self.boottime, lambda pid, since: self.living)

    async def stop(self) -> None:
        await self.source.stop()
        await passing(lambda: not self.source.crowd.connections)

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        self.addCleanup(client.close)
        client.connect(str(self.path))
        return client

    async def received(self, client: socket.socket, n: int = 1) -> bytes:
        answer: bytes = await deferToThread(client.recv, n)
        return answer

    async def records(self) -> list[str]:
        return [r.entry.id for r in await self.journal.take(500, limits.BATCH_BYTES)]
