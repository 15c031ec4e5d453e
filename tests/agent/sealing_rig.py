"""An agent's two journals and its frames, a client that keeps a tally, and a collector that knows ids."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bitville_apm import cells, limits, reading
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.sealing import Sealing
from bitville_apm.agent.segment import FRAMED, LOCAL, SHORT, Entry
from bitville_apm.agent.totals import Totals
from bitville_apm.agent.worker import Run
from bitville_apm.records import Frame
from bitville_apm.requests import request_of
from tests.agent.journal_rig import at_once, done, result

START = 1_800_000_000.0


class Patched(Journal):
    """A journal whose methods a test can replace."""


class World:
    """An agent's two journals and its frames; a client that keeps a tally; a collector that knows ids."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.passed = self.ahead = 0.0
        self.acked: set[str] = set()
        self.stored: dict[str, Frame] = {}
        self.run: Run = at_once
        self.open()

    def open(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = self.passed
        self.records = Patched(Disk(self.directory, "never", counted=True), at_once, self.clock, self.now)
        self.frames = Patched(Disk(self.directory / "frames", "never"), at_once, self.clock, self.now)
        done(self.records.start())
        done(self.frames.start())
        self.sealing = Sealing(self.records, self.frames, self.run, self.clock, self.now)
        self.sealing.start()
        self.turn()

    def now(self) -> float:
        return START + self.clock.seconds() + self.ahead

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(int(seconds) or 1):
            self.clock.advance(min(1.0, seconds))
            for _ in range(3):
                self.clock.advance(0)
        self.passed = self.clock.seconds()

    def crash(self) -> None:
        self.open()

    def request(self, flags: int = FRAMED | SHORT | LOCAL, kind: str = "end", **more: Any) -> str:
        """A client sends one; its tally counts it when it is acknowledged."""
        id_ = str(uuid.uuid4())
        received_ms = int(self.now() * 1000)
        body = {"v": 2, "id": id_, "at": received_ms / 1000 - 0.1, "ms": 100, "request": {"method": "GET", "uri": "/"}}
        line = reading.read_body(kind, json.dumps({**body, **more}).encode(), received_ms)
        written = self.records.append(Entry(kind, id_, received_ms, line.body, flags))

        def taken(place: Any) -> None:
            self.acked.add(id_)
            self.sealing.taken(line, request_of(line), received_ms, place)

        written.addCallbacks(taken, lambda failure: failure.trap(NotWritten))
        self.turn()
        return id_

    def send(self, *, answered: bool = True) -> None:
        """Frames go to the collector, which takes each id once; the answer may be lost."""
        while batch := done(self.frames.take(100, limits.BATCH_BYTES)):
            for record in batch:
                assert record.entry.flags & FRAMED
                frame: Frame = reading.read_body("frame", record.entry.body, 0).message
                assert frame.id == record.entry.id
                self.stored.setdefault(frame.id, frame)
            if answered:
                result(self.frames.settle(batch[-1].place, Totals(stored=counted(batch))))

    def stop(self) -> None:
        """As at SIGTERM."""
        stopping = Deferred.fromCoroutine(self.sealing.stop())
        for _ in range(3):
            self.turn()
        result(stopping)

    def finish(self) -> None:
        self.turn(30)
        self.send()

    @property
    def unexplained(self) -> int:
        """design.md 4: requests folded since the start that are neither in windows nor in frames."""
        framed = self.frames.books.entered - self.frames.entered_before
        return self.sealing.folded - self.sealing.rollup.requests - framed.requests

    @property
    def counted(self) -> int:
        """Requests in all frames that the collector has."""
        return sum(c.requests for f in self.stored.values() for d, _, c in cells.of_frame(f) if d == "endpoint")


def never(*_: Any) -> Deferred[Any]:
    """What a crash before the answer looks like."""
    return Deferred()
