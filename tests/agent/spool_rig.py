"""A spool and its pipeline without a forwarder, on real directories; its thread is called in place."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.spool import Spool
from tests.agent.journal_rig import at_once, done

NOW = 1_795_231_300.0


class SpoolRig:
    """A spool and its pipeline without a forwarder; `tick` is one look, to its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "spool"
        self.clock = Clock()
        self.found: list[str] = []
        self.journal = Journal(Disk(directory / "journal", "never"), at_once, self.clock, lambda: NOW)
        frames = Journal(Disk(directory / "frames", "never"), at_once, self.clock, lambda: NOW)
        self.quarantine = Quarantine(directory / "quarantine")
        forward: Any = None
        self.pipeline = Pipeline(
            "default",
            self.journal,
            frames,
            forward,
            self.quarantine,
            at_once,
            at_once,
            self.clock,
            lambda: NOW,
            spools=1,
        )
        self.journal.on_open = self.pipeline._opened
        done(self.journal.start())
        self.spool = Spool(self.directory, "", self.pipeline, at_once, self.clock, self.found.append)
        self.spool.start()
        self._through()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.pump([limits.SPOOL_TICK_S])
            self._through()

    def _through(self) -> None:
        while self.spool._busy is not None:
            self.clock.advance(0)

    def put(self, name: str, content: Any) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def journalled(self) -> list[tuple[str, str]]:
        found = []
        while batch := done(self.journal.take(500, limits.BATCH_BYTES)):
            found += [(r.entry.kind, r.entry.id) for r in batch]
        return found

    @property
    def left(self) -> list[str]:
        return sorted(os.listdir(self.directory))


def wrapped(line: bytes, *, sent: bool = False) -> bytes:
    return b'{"v":2,"sent":%b,"line":%b}' % (b"true" if sent else b"false", line)


def an_id() -> str:
    return str(uuid.uuid4())
