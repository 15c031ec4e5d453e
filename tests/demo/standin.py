"""An agent of the simplest kind: it takes what PHP sends, answers `+`, and remembers it."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from pathlib import Path
from typing import Any

import attrs


@attrs.define(eq=False)
class Standin:
    """Listens on `path` until closed. `lines` are the objects that came."""

    path: Path
    lines: list[dict[str, Any]] = attrs.field(factory=list)
    _server: socketserver.ThreadingUnixStreamServer | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Standin:
        lines = self.lines

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    for line in self.rfile:
                        message = json.loads(line)
                        lines.append(message)
                        if message.get("t", "end") == "end":
                            self.wfile.write(b"+")

        class Server(socketserver.ThreadingUnixStreamServer):
            request_queue_size = 128
            block_on_close = False
            daemon_threads = True

        self._server = Server(str(self.path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ends(self, path: str) -> list[dict[str, Any]]:
        """The end records of one path."""
        ends = (line for line in list(self.lines) if line.get("t") == "end")
        return [line for line in ends if line["request"]["uri"].partition("?")[0] == path]
