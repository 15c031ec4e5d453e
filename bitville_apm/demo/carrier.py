"""The other host that the shop asks for the price of a parcel: a small HTTP server, slow when it is told to be."""

from __future__ import annotations

import http.server
import json
import threading
import time

import attrs

USUAL_S = 0.03
HOST = "carrier.example"
"""What the shop calls it (`shop/src/Delivery.php`)."""


@attrs.define(eq=False)
class Carrier:
    """Answers on a port of the loopback address from `start` to `stop`, each question after `delay` seconds."""

    delay: float = USUAL_S
    _server: http.server.ThreadingHTTPServer | None = attrs.field(default=None, init=False)
    _port: int = attrs.field(default=0, init=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on a port of the kernel's choice."""
        carrier = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(carrier.delay)
                body = json.dumps({"cents": 490}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the shop has given up

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._port = self._server.server_address[1]
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.2,), name="carrier", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
