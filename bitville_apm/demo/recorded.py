"""Recorded traffic, for machines without PHP: 70 requests of a real blog, played again and again.

They are records of the first version, whole and with their profiles, and go to the agent's socket the way a PHP
process would hand them over: one connection a request, one line, one byte of answer.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import attrs

from bitville_apm.demo.traffic import FAILURE_PAUSE_S, Counts

FILE = Path(__file__).parent / "recorded.ndjson.gz"
RATE = 5.0
ACK_S = 5.0


def lines() -> list[bytes]:
    """The recorded requests, a JSON object each."""
    return gzip.decompress(FILE.read_bytes()).splitlines()


def fresh(line: bytes, identity: str, ended: float) -> bytes:
    """The same request as if it had just ended: an id of its own, all times moved by as much."""
    record: dict[str, Any] = json.loads(line)
    moved = ended - record["timing"]["end_time"]
    record["correlation_id"] = identity
    record["timestamp"] += moved
    record["timing"]["start_time"] += moved
    record["timing"]["end_time"] = ended
    return json.dumps(record, separators=(",", ":")).encode()


def hand_over(path: str, line: bytes) -> None:
    """Give one line to the agent. Raises `OSError`, also when it is not acknowledged."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ACK_S)
        connection.connect(path)
        connection.sendall(line + b"\n")
        answer = connection.recv(1)
    if answer != b"+":
        raise OSError(f"the agent answered {answer!r}")


@attrs.define(eq=False)
class Replay:
    """Plays the records to the agent's socket until it is stopped."""

    path: str
    rate: float = RATE
    chance: random.Random = attrs.field(factory=random.Random)
    counts: Counts = attrs.field(factory=Counts, init=False)
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._play, name="replay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the record being handed over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _play(self) -> None:
        for line in itertools.cycle(lines()):
            if self._stopping.wait(self.chance.expovariate(self.rate)):
                return
            try:
                hand_over(self.path, fresh(line, str(uuid.uuid4()), time.time()))
            except OSError:
                self.counts.add("failed")
                self._stopping.wait(FAILURE_PAUSE_S)
            else:
                self.counts.add("answered")
