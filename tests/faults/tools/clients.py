"""Clients that do what the PHP client does, and keep their own tally, which is what the judge believes.

Each request is a *begin*, an *end*, an ack waited for; without one a whole record goes into the spool under its id,
a short one only if it was not sent whole (else it is counted: nobody knows whether it was taken).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import attrs

from tests.agent.rig import begin_line, end_line


@attrs.define(eq=False)
class Tally:
    """What some clients know of the requests they made.

    `whole` are ids that must be stored exactly once: acked, or spooled. `short` counts acked or spooled requests,
    and `unsure` those sent whole and never acked, by endpoint. `refused` found no socket, `late` got no ack.
    `took` are milliseconds from the end line to its ack.
    """

    whole: set[str] = attrs.Factory(set)
    short: Counter[str] = attrs.Factory(Counter)
    whole_at: Counter[str] = attrs.Factory(Counter)
    unsure: Counter[str] = attrs.Factory(Counter)
    refused: int = 0
    late: int = 0
    spooled: int = 0
    took: list[float] = attrs.Factory(list)

    @property
    def requests(self) -> int:
        """All that count for certain."""
        return len(self.whole) + self.short.total()

    def add(self, other: Tally) -> None:
        """Another client's."""
        self.whole |= other.whole
        for mine, its in (
            (self.short, other.short),
            (self.whole_at, other.whole_at),
            (self.unsure, other.unsure),
        ):
            mine.update(its)
        self.refused += other.refused
        self.late += other.late
        self.spooled += other.spooled
        self.took += other.took


@attrs.define(eq=False)
class Spool:
    """A spool directory, as a pool's workers write into it; there before the agent's first look at it."""

    directory: Path

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    def whole(self, line: bytes, sent: bool) -> None:
        """One record, one file."""
        name = time.strftime("profile_%Y%m%d_%H%M%S_", time.gmtime()) + uuid.uuid4().hex[:8] + ".json"
        beside = self.directory / (name + ".tmp")
        beside.write_bytes(b'{"v":2,"sent":%s,"line":%s}' % (b"true" if sent else b"false", line))
        beside.chmod(0o640)
        beside.rename(self.directory / name)

    def short(self, name: str, line: bytes) -> None:
        """One more line in one worker's file, which is renamed under nobody's lock."""
        path = self.directory / f"short_{name}.ndjson"
        while True:
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.fchmod(file.fileno(), 0o640)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                        file.write(line + b"\n")
                        return


class Client(threading.Thread):
    """Requests one after another on `path` until it is told to finish; `tally` may be read then.

    `round` names the endpoint of what is sent now: a cell of its own, so that a window counted twice shows.
    `deadline` is what it waits for an ack (s), `pause` between two requests.
    """

    def __init__(
        self,
        path: Path,
        spool: Path,
        name: str,
        seed: int,
        *,
        short: float = 0.9,
        pause: float = 0.004,
        deadline: float = 1.0,
        size: int = 0,
    ) -> None:
        super().__init__(daemon=True, name=name)
        self.round = 0
        self.tally = Tally()
        self._path = str(path)
        self._spool = Spool(spool)
        self._chance = random.Random(seed)
        self._short = short
        self._pause = pause
        self._deadline = deadline
        self._size = size
        self._over = threading.Event()
        self._worker = f"{os.getpid()}_{seed & 0xFFFF:04x}"

    def run(self) -> None:
        while not self._over.is_set():
            self.one()
            self._over.wait(self._pause)

    def one(self) -> None:
        """One request."""
        self._request(heard=True)

    def unheard(self) -> None:
        """One request while no agent is there to be asked: it goes into the spool."""
        self._request(heard=False)

    def _request(self, heard: bool) -> None:
        tally, id_ = self.tally, str(uuid.uuid4())
        endpoint = f"/{self.name}/round-{self.round}"
        short = self._chance.random() < self._short
        more = {"short": True} if short else {}
        uri = {"method": "GET", "uri": endpoint}
        line = end_line(id_, size=0 if short else self._size, request=uri, **more)
        sent, acked = self._hand_over(id_, endpoint, line) if heard else (False, False)
        name = f"GET {endpoint}"
        if short and sent and not acked:
            self._spool.short(self._worker, b'{"t":"count","unconfirmed":1}')
            tally.unsure[name] += 1
            return
        if not acked:
            tally.spooled += 1
            if short:
                self._spool.short(self._worker, line)
            else:
                self._spool.whole(line, sent)
        if short:
            tally.short[name] += 1
        else:
            tally.whole.add(id_)
            tally.whole_at[name] += 1

    def _hand_over(self, id_: str, uri: str, line: bytes) -> tuple[bool, bool]:
        """Whether the end was sent whole, and whether it was acked."""
        sent = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(self._deadline)
            try:
                client.connect(self._path)
            except OSError:
                self.tally.refused += 1
                return False, False
            with contextlib.suppress(OSError):
                client.sendall(begin_line(id_, uri=uri) + b"\n")
                began = time.monotonic()
                client.sendall(line + b"\n")
                sent = True
                if client.recv(1) == b"+":
                    self.tally.took.append((time.monotonic() - began) * 1000)
                    return True, True
            self.tally.late += 1
            with contextlib.suppress(OSError):
                client.sendall(json.dumps({"t": "spooled", "id": id_}).encode() + b"\n")
            return sent, False

    def finish(self) -> Tally:
        """No more requests: what it knows."""
        self._over.set()
        self.join(30)
        assert not self.is_alive(), "a client hangs"
        return self.tally


def together(clients: list[Client]) -> Tally:
    """End them all: what they know between them."""
    for client in clients:
        client._over.set()
    tally = Tally()
    for client in clients:
        tally.add(client.finish())
    return tally
