"""A TCP proxy that cuts, swallows answers, waits, stops or slows down: what a network and a load balancer do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

_RESET = struct.pack("ii", 1, 0)
_PIECE = 65536


@attrs.frozen
class Fault:
    """What happens to one connection; numbers of bytes are counted from its beginning, None is never.

    cut_up: cut once so many bytes went to the server (of a body: torn in the middle). cut_down: cut once so many
    came back; 0 is *after the commit, before the answer*. delay: seconds each piece waits. drop: nothing gets
    through, nothing is closed. rate: bytes a second, each way. reset: a cut is a reset, not an end of file.
    """

    cut_up: int | None = None
    cut_down: int | None = None
    delay: float = 0.0
    drop: bool = False
    rate: float = 0.0
    reset: bool = False


class Proxy:
    """Listens on 127.0.0.1:`port` and leads to `target`; `plan(n)` is the fault of the n-th connection, from 0.

    `connections` and `cuts` are counted. A plan is asked when its connection comes, so it may change at any time.
    """

    def __init__(self, target: int, plan: Callable[[int], Fault] = lambda n: Fault()) -> None:
        self.plan = plan
        self.connections = 0
        self.cuts = 0
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        with self._lock:
            for end in list(self._open):
                self._end(end, socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            fault = self.plan(self.connections)
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink, most in ((client, server, fault.cut_up), (server, client, fault.cut_down)):
                threading.Thread(target=self._carry, args=(source, sink, most, fault, client), daemon=True).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, most: int | None, fault: Fault, client: socket.socket
    ) -> None:
        passed, how = 0, socket.SHUT_RDWR
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if fault.drop:
                    continue
                if fault.delay:
                    time.sleep(fault.delay)
                if fault.rate:
                    time.sleep(len(data) / fault.rate)
                if most is not None and passed + len(data) > most:
                    sink.sendall(data[: most - passed])
                    self.cuts += 1
                    if fault.reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        how = socket.SHUT_RD  # the other way would say "end of file" first
                    break
                sink.sendall(data)
                passed += len(data)
        with self._lock:
            for end in (source, sink):
                self._end(end, how)

    def _end(self, end: socket.socket, how: int) -> None:
        """Wakes whoever reads from it; closing alone would not."""
        self._open.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(how)
        end.close()
