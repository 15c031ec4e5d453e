"""An input for GELF over TCP or TLS that a test holds in its hands: away, back, and cutting wherever the test wants."""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from tests.collector.rig import free_port

WAIT_S = 60.0


@attrs.define(eq=False)
class Receiver:
    """Takes messages while it is open. `cut` names the bytes after which a connection is cut, None for never: what has
    come then is lost but for whole messages, as in an input that dies.
    """

    port: int = attrs.field(factory=free_port)
    tls: ssl.SSLContext | None = None
    cut: Callable[[], int | None] = lambda: None
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    connections: int = 0
    cuts: int = 0
    torn: list[bytes] = attrs.field(factory=list)
    """Beginnings of messages whose end never came."""
    _listening: socket.socket | None = None
    _thread: threading.Thread | None = None
    _closing: threading.Event = attrs.field(factory=threading.Event)

    def open(self) -> None:
        """Listen."""
        self._closing.clear()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Be away: nobody listens, and connections are gone."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._listening is not None:
            self._listening.close()

    def ids(self) -> list[str]:
        """The `_bv_id` of each message, in the order in which they came."""
        return [message["_bv_id"] for message in self.messages]

    def once(self) -> list[str]:
        """The same without repetitions: where each came first."""
        return list(dict.fromkeys(self.ids()))

    def repeated(self) -> int:
        """How many messages came again."""
        return sum(n - 1 for n in Counter(self.ids()).values())

    def wait(self, n: int, seconds: float = WAIT_S) -> None:
        """Until so many different messages have come."""
        until = time.monotonic() + seconds
        while len(set(self.ids())) < n:
            assert time.monotonic() < until, (len(set(self.ids())), n)
            time.sleep(0.02)

    def _run(self) -> None:
        assert self._listening is not None
        while not self._closing.is_set():
            if not select.select([self._listening], [], [], 0.05)[0]:
                continue
            peer, _ = self._listening.accept()
            with contextlib.suppress(OSError), contextlib.closing(peer):
                self.connections += 1
                if self.tls is not None:
                    peer.settimeout(5)
                    peer = self.tls.wrap_socket(peer, server_side=True)
                self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        left, rest = self.cut(), b""
        peer.settimeout(0.05)
        while not self._closing.is_set():
            try:
                data = peer.recv(65536 if left is None else min(left, 65536))
            except TimeoutError:
                continue
            *whole, rest = (rest + data).split(b"\0")
            self.messages += [json.loads(message) for message in whole]
            if left is not None:
                left -= len(data)
            if not data or left == 0:
                self.cuts += left == 0
                break
        if rest:
            self.torn.append(rest)
        peer.close()


@contextlib.contextmanager
def receiving(**more: Any) -> Iterator[Receiver]:
    """One that listens, and is gone afterwards."""
    receiver = Receiver(**more)
    receiver.open()
    try:
        yield receiver
    finally:
        receiver.close()


def after_bytes(chance: random.Random, times: int, most: int) -> Callable[[], int | None]:
    """Cuts the next so many connections, each after some bytes; then none."""
    left = [chance.randint(1, most) for _ in range(times)]
    return lambda: left.pop() if left else None


def settings(receiver: Receiver, **more: str) -> str:
    """`[graylog]` for a collector that sends there."""
    keys = {"enabled": "yes", "port": str(receiver.port), **more}
    return "[graylog]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
