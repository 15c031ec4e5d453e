"""A real collector in a process of its own: started, asked over its socket, killed and started again."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs

from bitville_apm.collector import auth
from bitville_apm.store.sqlite import Main

START_S = 30.0


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.frozen
class Answer:
    """A status, headers in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@attrs.define
class Rig:
    """One collector: a data directory, a configuration, and the process while it runs."""

    directory: Path
    extra: str = ""
    environment: Mapping[str, str] = attrs.field(factory=dict)
    port: int = attrs.field(factory=free_port)
    data: Path = attrs.field()
    """The collector's data."""
    process: subprocess.Popen[bytes] | None = None

    @data.default
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the process has written."""
        return (self.directory / "log").read_text()

    @property
    def local_key(self) -> str:
        """The key of the agent on the same machine."""
        return (self.data / "local.key").read_text().strip()

    def spawn(self) -> None:
        """Start the process and return at once."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "collector.ini"
        config.write_text(f"[collector]\nlisten = 127.0.0.1:{self.port}\ndata = {self.data}\n{self.extra}")
        config.chmod(0o640)
        twistd = str(Path(sys.executable).with_name("twistd"))
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [twistd, "-n", "--pidfile=", "bitville-collector", "--config", str(config)],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self.environment},
            )

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.spawn()
        self.wait()

    def wait(self) -> None:
        """Wait until a started process answers."""
        assert self.process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if self.ask("GET", "/health").status == 200:
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"the collector did not start:\n{self.log}")

    def stop(self) -> None:
        """Ask it to stop (SIGTERM), which it must do by itself and in order; twistd then dies of the signal."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(30) == -signal.SIGTERM
        assert "collector stopped" in self.log.splitlines()[-3], self.log

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        """Let no process remain, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def key(self, project: str = "shop", scopes: str = "ingest", expires: float | None = None) -> str:
        """A new key, made beside the running daemon as the command line does."""
        made = auth.new_key()
        main = Main.open(self.data)
        try:
            main.add_key(made.id, made.hash, project, scopes, time.time(), expires)
        finally:
            main.close()
        return made.text

    def revoke(self, key: str) -> None:
        """Revoke a key the same way."""
        parts = auth.parts_of(key)
        assert parts is not None
        main = Main.open(self.data)
        try:
            assert main.revoke_key(parts[0], time.time())
        finally:
            main.close()

    def ask(self, method: str, path: str, body: bytes | None = None, key: str | None = None, **headers: str) -> Answer:
        """One request; underscores in the names of headers stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, answered, response.read())
        finally:
            connection.close()

    def post(self, key: str, *lines: Any, path: str = "/ingest", **headers: str) -> Answer:
        """A batch: each line an object, or bytes as they are."""
        plain = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        return self.ask("POST", path, plain, key, **{"Content_Type": "application/x-ndjson", **headers})

    def stored(self, key: str) -> list[dict[str, Any]]:
        """Every record there is, by all pages of a search."""
        found: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        while True:
            page = self.ask("GET", f"/api/search?{urlencode({'limit': 100, 'sort': 'time', **after})}", key=key).json
            found += page["items"]
            if not page["hasMore"]:
                return found
            after = {"after": page["cursor"]}

    def counted(self, key: str) -> dict[str, int]:
        """How many requests the rolls hold of each endpoint; 200 endpoints at most."""
        week = {"from": time.time() - 7 * 86_400, "to": time.time() + 60}
        top = self.ask("GET", f"/api/top?{urlencode({'dimension': 'endpoint', 'limit': 200, **week})}", key=key)
        return {item["value"]: item["requests"] for item in top.json["items"]}


@contextmanager
def running(directory: Path, **settings: Any) -> Iterator[Rig]:
    """A collector that has started, and is gone afterwards."""
    rig = Rig(directory, **settings)
    try:
        rig.start()
        yield rig
    finally:
        rig.end()


def item(body: Mapping[str, Any], *, k: str = "end", n: int = 1, framed: bool = False, **more: Any) -> dict[str, Any]:
    """A record in an agent's envelope (wire.md 5), received now."""
    return {
        "k": k,
        "id": body["id"],
        "seq": [1, n],
        "recv": int(time.time() * 1000),
        "host": "web1",
        "framed": framed,
        "body": body,
        **more,
    }
