"""Real processes for tests: an agent under twistd, senders that keep their own tally, a collector's stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import zstandard

KEY = "bv_test_secret"


def wait_until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """Poll until the condition holds; its value. Fails the test after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port that nobody uses now, nor is given by the system to a connection while its owner is dead."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def end_line(id_: str | None = None, *, size: int = 0, ms: float = 12.5, **more: Any) -> bytes:
    """An end line; `size` pads it to about that many bytes."""
    record = {
        "t": "end",
        "v": 2,
        "id": id_ or str(uuid.uuid4()),
        "at": round(time.time(), 3),
        "ms": ms,
        "request": {"method": "GET", "uri": "/product/42"},
        **more,
    }
    if size:
        record["context"] = {"padding": "x" * max(0, size - len(json.dumps(record)) - 30)}
    return json.dumps(record).encode()


def begin_line(id_: str, **more: Any) -> bytes:
    """A begin line."""
    return json.dumps(
        {"t": "begin", "v": 2, "id": id_, "at": round(time.time(), 3), "pid": os.getpid(), "uri": "/", **more}
    ).encode()


# --- A collector's stand-in --------------------------------------------------------------------------------


class Collector:
    """Takes batches over real HTTP and remembers every item; `behaviour` may answer in its place.

    Frames are kept apart, in `frames`: their batches do not count, and `behaviour` is asked about an empty one then.

    `behaviour(items) -> None | (status, headers, body)`: None lets it store them. Ids already known are answered
    `duplicate`, as the real one does; `copies` counts how often each id came.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.frames: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.copies: Counter[str] = Counter()
        self.batches: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.behaviour: Callable[[list[dict[str, Any]]], Any] = lambda items: None
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if len(body) < int(self.headers["Content-Length"]):
                    return  # given up half way
                status, headers, answer = outer.take(body, {k.lower(): v for k, v in self.headers.items()})
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def handle(self) -> None:
                # An agent that is killed resets its connection.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        plain = zstandard.ZstdDecompressor().decompress(body, max_output_size=64 << 20)
        items = [json.loads(line) for line in plain.splitlines()]
        if items[0]["k"] == "frame":
            return self._take_frames(items)
        with self._lock:
            self.headers.append(headers)
            self.batches.append(len(items))
            answer = self.behaviour(items)
            if answer is not None:
                return answer  # type: ignore[no-any-return]
            new = [item for item in items if item["id"] not in self.items]
            for item in items:
                self.copies[item["id"]] += 1
            for item in new:
                self.items[item["id"]] = item
                self.order.append(item["id"])
        stored = len({item["id"] for item in new})
        return (
            200,
            {},
            json.dumps({"success": True, "stored": stored, "duplicate": len(items) - stored, "rejected": []}).encode(),
        )

    def _take_frames(self, items: list[dict[str, Any]]) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            answer = self.behaviour([])
            if answer is not None:
                return answer  # type: ignore[no-any-return]
            new = [item for item in items if item["id"] not in self.frames]
            self.frames.update((item["id"], item) for item in items)
        told = {"success": True, "stored": len(new), "duplicate": len(items) - len(new), "rejected": []}
        return 200, {}, json.dumps(told).encode()

    def counted(self) -> int:
        """Requests in all frames."""
        with self._lock:
            cells = [frame["body"]["cells"].get("endpoint", {}) for frame in self.frames.values()]
        return sum(sum(table.get("columns", {}).get("requests", [])) for table in cells)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# --- An agent ----------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Agent:
    """`twistd -n bitville-agent` on paths of its own under `directory`; started and killed at will.

    `before` are words in front of the command (`strace …`, `ip netns exec …`), `environment` is added to it, and
    `descriptors` stay open in it.
    """

    directory: Path
    url: str
    flush_seconds: float = 0.2
    fsync: str = "never"
    key: str = KEY
    more: str = ""
    before: Sequence[str] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)
    descriptors: Sequence[int] = ()
    health_port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        group = ""
        self.config.write_text(
            f"[agent]\nstate = {self.state}\nhealth = 127.0.0.1:{self.health_port}\nhost = web1\n"
            f"heartbeat = {self.directory}/alive\n"
            f"[collector]\nurl = {self.url}\nkey = {self.key}\nflush_seconds = {self.flush_seconds}\n"
            f"key_file = {self.directory}/key\n"
            f"[php]\nsocket = {self.socket}\ngroup = {group}\n[limits]\nfsync = {self.fsync}\n{self.more}"
        )
        self.config.chmod(0o600)

    @property
    def config(self) -> Path:
        return self.directory / "agent.ini"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "daemon.sock"

    @property
    def spool(self) -> Path:
        return self.state / "buffer" / "php"

    @property
    def log(self) -> Path:
        return self.directory / "agent.log"

    @property
    def arguments(self) -> list[str]:
        """What twistd is told."""
        return ["-n", "--pidfile=", "bitville-agent", "--config", str(self.config)]

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BITVILLE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, str(Path(sys.executable).with_name("twistd")), *self.arguments],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**environment, **self.environment},
                pass_fds=self.descriptors,
            )
        return self.process

    def start(self) -> Agent:
        """Start it and wait until it answers."""
        self.spawn()
        wait_until(self.answers, what=f"agent does not answer: {self.text()[-2000:]}")
        return self

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            self.health()
            return True
        return False

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def health(self) -> dict[str, Any]:
        """The body of `/health`, whatever its status code."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/health", timeout=5) as answer:
                return json.loads(answer.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                return json.loads(error.read())  # type: ignore[no-any-return]

    def ledger(self) -> dict[str, Any]:
        """The numbers of its only pipeline."""
        (numbers,) = self.health()["stats"]["ledger"].values()
        return numbers  # type: ignore[no-any-return]

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and wait for the end: the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def connect(self, seconds: float = 5.0) -> socket.socket:
        """A client's connection."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(seconds)
        try:
            client.connect(str(self.socket))
        except OSError:
            client.close()
            raise
        return client

    def send(self, *lines: bytes, seconds: float = 5.0) -> bytes:
        """Send lines on one connection, half-close, and give back all answers."""
        with self.connect(seconds) as client:
            client.sendall(b"".join(line + b"\n" for line in lines))
            client.shutdown(socket.SHUT_WR)
            answers = b""
            while piece := client.recv(4096):
                answers += piece
            return answers


@contextlib.contextmanager
def running(agent: Agent) -> Iterator[Agent]:
    """An agent that is started, and surely gone at the end."""
    try:
        yield agent.start()
    finally:
        agent.clean_up()


class Sender(threading.Thread):
    """A client that sends records one after another, and keeps its own tally of the ids that were acknowledged.

    What was not acknowledged is sent again under the same id, as a client's spool would.
    """

    def __init__(self, agent: Agent, size: int = 0, pause: float = 0.0, begin: bool = True) -> None:
        super().__init__(daemon=True)
        self.acked: set[str] = set()
        self.sent: set[str] = set()
        self.refused: int = 0
        self._agent = agent
        self._size = size
        self._pause = pause
        self._begin = begin
        self._stopping = threading.Event()

    def run(self) -> None:
        id_ = str(uuid.uuid4())
        while not self._stopping.is_set():
            self.sent.add(id_)
            if self._one(id_):
                self.acked.add(id_)
                id_ = str(uuid.uuid4())
            else:
                time.sleep(0.01)
            if self._pause:
                time.sleep(self._pause)

    def _one(self, id_: str) -> bool:
        try:
            with self._agent.connect(2.0) as client:
                if self._begin:
                    client.sendall(begin_line(id_) + b"\n")
                client.sendall(end_line(id_, size=self._size) + b"\n")
                return client.recv(1) == b"+"
        except OSError:
            self.refused += 1
            return False

    def finish(self) -> None:
        self._stopping.set()
        self.join(10)
