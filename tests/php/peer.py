"""Real PHP and a stand-in for the agent: a socket server that can also misbehave."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bitville_apm import reading
from bitville_apm.checks import Refused

PHP = Path(__file__).resolve().parents[2] / "bitville_apm" / "php"
STUB = PHP / "prepend.php"
LISTENER = PHP / "listener.php"
MYSQL = ("mysqlnd", "mysqli", "pdo", "pdo_mysql")
PGSQL = ("pgsql",)
PATIENCE_S = 10.0
"""How long a test waits for what must come; far beyond what it takes, so that a busy machine fails nothing."""


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what a worker does after it has answered."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


class Agent:
    """A stand-in for the agent on a UNIX socket.

    `answer` goes out for each end line (None: never). `on_line(connection, record)` may misbehave at will: it may
    close the connection. With `accepting=False` it is an agent that hangs: connections queue, nobody reads.

    Each line has to be one that the real agent takes as it is: else the test fails at its end.
    """

    def __init__(
        self,
        path: Path,
        answer: bytes | None = b"+",
        on_line: Callable[[socket.socket, dict[str, Any]], None] | None = None,
        accepting: bool = True,
    ) -> None:
        self.path = path
        self.answer = answer
        self.on_line = on_line
        self.lines: list[dict[str, Any]] = []
        """Every complete line, in the order of arrival."""
        self.received = b""
        """Every byte."""
        self.connections: list[list[dict[str, Any]]] = []
        """The lines of each connection."""
        self.refused: list[str] = []
        """What the agent's own reading has against a line."""
        self.torn: list[bytes] = []
        """What was left of a connection that ended within a line."""
        self.closed = 0
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(64)
        self._threads: list[threading.Thread] = []
        if accepting:
            self._start(self._accept)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown() wakes accept(), close() alone does not.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert not self.refused, self.refused

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            mine: list[dict[str, Any]] = []
            with self._changed:
                self.connections.append(mine)
            self._start(self._read, connection, mine)

    def _read(self, connection: socket.socket, mine: list[dict[str, Any]]) -> None:
        pending = b""
        with connection:
            try:
                while chunk := connection.recv(1 << 16):
                    self.received += chunk
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        self.refused += refused(line)
                        self._take(connection, mine, json.loads(line))
            except OSError:
                pass
        with self._changed:
            if pending:
                self.torn.append(pending)
            self.closed += 1
            self._changed.notify_all()

    def _take(self, connection: socket.socket, mine: list[dict[str, Any]], record: dict[str, Any]) -> None:
        with self._changed:
            self.lines.append(record)
            mine.append(record)
            self._changed.notify_all()
        if self.on_line is not None:
            self.on_line(connection, record)
        if record.get("t") == "end" and self.answer is not None:
            connection.sendall(self.answer)

    def all(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """The lines of one kind, once there are at least `count`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._of(kind)) >= count, PATIENCE_S)
            found = self._of(kind)
        assert len(found) >= count, f"{len(found)} {kind} lines of {count}; there were {self.lines}"
        return found

    def one(self, kind: str) -> dict[str, Any]:
        """The only line of its kind."""
        found = self.all(kind)
        assert len(found) == 1, found
        return found[0]

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("t") == kind]

    def drained(self, connections: int = 1) -> None:
        """Wait until that many connections have been read to their end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.closed >= connections, PATIENCE_S)


def refused(line: bytes) -> list[str]:
    """What the agent has against a line, and whether it had to mend it: nothing of a good one."""
    try:
        read = reading.read_line(line, 0)
    except Refused as why:
        return [f"{why}: {line[:2000]!r}"]
    # Large numbers have it written anew, with the same in it.
    mended = read.body is not line and json.loads(read.body) != json.loads(line)
    return [f"mended: {line[:2000]!r}"] if mended else []


def reset(connection: socket.socket) -> None:
    """Close at once, throwing away what was not read: the peer gets ECONNRESET or EPIPE."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


class Site:
    """One application with its settings, socket and spool, in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "run" / "daemon.sock"
        self.spool = root / "spool"
        self.ini = root / "profiling.ini"
        self.socket.parent.mkdir()
        self.spool.mkdir()
        self.configure()

    def configure(self, text: str | None = None, **settings: object) -> None:
        """Write profiling.ini: `text` as it is, or working defaults with these settings over them."""
        if text is None:
            values: dict[str, object] = {
                "profiling_enabled": 1,
                "daemon_socket_path": self.socket,
                "disk_buffer_path": self.spool,
            } | settings
            text = "".join(f"{key} = {value}\n" for key, value in values.items())
        self.ini.write_text(text)

    def agent(self, **how: Any) -> Agent:
        return Agent(self.socket, **how)

    def script(self, code: str, name: str = "app.php") -> Path:
        path = self.root / name
        path.write_text("<?php\n" + code)
        return path

    def run(
        self,
        code: str,
        *arguments: str,
        php: Mapping[str, object] | None = None,
        client: bool = True,
        env: Mapping[str, str] | None = None,
        prepend: Path = STUB,
        extensions: tuple[str, ...] = ("pdo", "pdo_sqlite", "excimer"),
        under: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `code` with php-cli, prepended by the client unless `client` is false, `under` another command."""
        options = [f"-d{key}={value}" for key, value in (php or {}).items()]
        if client:
            options.append(f"-dauto_prepend_file={prepend}")
        return subprocess.run(
            [*under, "php", *base_options(extensions), *options, str(self.script(code)), *arguments],
            cwd=self.root,
            env={**os.environ, "BITVILLE_APM_INI": str(self.ini), **(env or {})},
            capture_output=True,
            timeout=60,
            check=False,
        )

    def spooled(self) -> list[dict[str, Any]]:
        """The whole records of the spool, oldest first. The agent takes each as it is."""
        found = [json.loads(path.read_text()) for path in sorted(self.spool.glob("profile_*.json"))]
        assert not [why for one in found for why in refused(json.dumps(one["line"]).encode())]
        return found

    def spooled_short(self) -> list[dict[str, Any]]:
        """The lines of the spool's files of short records. The agent takes each as it is."""
        files = sorted(self.spool.glob("short_*.ndjson"))
        lines = [line for path in files for line in path.read_bytes().splitlines()]
        assert not [why for line in lines for why in refused(line)]
        return [json.loads(line) for line in lines]


@functools.cache
def base_options(extensions: tuple[str, ...], binary: str = "php") -> tuple[str, ...]:
    """Options for a PHP with these extensions and no others: no ini file is read, so that tideways stays away."""
    built_in = subprocess.run([binary, "-n", "-m"], capture_output=True, text=True, check=True).stdout.lower().split()
    asked = ["php", "-n", "-r", "echo ini_get('extension_dir');"]
    directory = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    options = ["-n", "-dextension_dir=" + str(directory)]
    for name in extensions:
        if name not in built_in and (directory / f"{name}.so").exists():
            options.append(f"-dextension={name}")
    return tuple(options)


def fpm_binary() -> str:
    """The installed php-fpm, whatever its version."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    names = ["php-fpm", *(f"php-fpm{version}" for version in ("8.4", "8.3", "8.2", "8.1", "8.0", "7.4"))]
    return next((found for name in names if (found := shutil.which(name, path=path))), "php-fpm")


class Fpm:
    """A php-fpm, with the client prepended or without, and a FastCGI client for it."""

    def __init__(
        self,
        root: Path,
        client: bool = True,
        stub: Path = STUB,
        php: Mapping[str, object] | None = None,
        extensions: tuple[str, ...] = ("pdo", "pdo_sqlite", "excimer"),
        children: int = 3,
        pool: tuple[str, ...] = (),
        run_by: str | None = None,
    ) -> None:
        """`run_by`: a program that runs the php-fpm it is given, in its own time."""
        self.socket = root / "fpm.sock"
        self.log = root / "fpm.log"
        configuration = root / "fpm.conf"
        lines = [
            "[global]",
            f"error_log = {self.log}",
            "daemonize = no",
            "[shop]",
            f"listen = {self.socket}",
            "pm = static",
            f"pm.max_children = {children}",
            "catch_workers_output = yes",
            *pool,
        ]
        as_root = os.geteuid() == 0
        if as_root:
            lines += ["user = root", "group = root"]
        configuration.write_text("\n".join(lines) + "\n")
        binary = fpm_binary()
        options = [*base_options(extensions, binary), "-dzend_extension=opcache"]
        options += [f"-d{key}={value}" for key, value in (php or {}).items()]
        if as_root:
            options.append("-R")
        self.process = subprocess.Popen(
            [
                *([run_by] if run_by else []),
                binary,
                *options,
                f"-dauto_prepend_file={stub if client else ''}",
                "-dlog_errors=1",
                "-y",
                str(configuration),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + (20 * PATIENCE_S if run_by else PATIENCE_S)
        while not self.socket.exists():
            assert self.process.poll() is None, self.log.read_text() if self.log.exists() else "php-fpm did not start"
            assert time.monotonic() < deadline, "php-fpm does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def get(self, site: Site, code: str, uri: str = "/", **how: Any) -> Response:
        """Run `code` as a page of `site` and read the whole answer."""
        with self.open(site, code, uri, **how) as connection:
            data = b""
            while chunk := connection.recv(1 << 16):
                data += chunk
        return Response.of(data)

    @contextmanager
    def open(
        self,
        site: Site,
        code: str,
        uri: str = "/",
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> Iterator[socket.socket]:
        """Send the request; what becomes of the connection is the caller's affair."""
        values = {
            "SCRIPT_FILENAME": str(site.script(code)),
            "SCRIPT_NAME": "/app.php",
            "REQUEST_METHOD": method,
            "REQUEST_URI": uri,
            "QUERY_STRING": uri.partition("?")[2],
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "test/1",
            "SERVER_ADDR": "192.0.2.1",
            "REMOTE_ADDR": "203.0.113.77",
            "DOCUMENT_ROOT": str(site.root),
            "CONTENT_LENGTH": str(len(body)),
            "BITVILLE_APM_INI": str(site.ini),
        }
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            values[key if key.startswith("CONTENT_") else f"HTTP_{key}"] = value
        values |= parameters
        packed = b"".join(_pair(key, value) for key, value in values.items())
        message = [_packet(1, struct.pack(">HB5x", 1, 0)), _packet(4, packed), _packet(4, b"")]
        message += [_packet(5, body[at : at + 60_000]) for at in range(0, len(body), 60_000)]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.socket))
            connection.sendall(b"".join([*message, _packet(5, b"")]))
            yield connection


class Response:
    """What FPM answered: headers, body, and what it wrote to stderr."""

    def __init__(self, headers: dict[str, str], body: bytes, errors: bytes) -> None:
        self.headers = headers
        self.body = body
        self.errors = errors

    @property
    def status(self) -> int:
        return int(self.headers.get("status", "200").split()[0])

    @classmethod
    def of(cls, data: bytes) -> Response:
        streams = {6: b"", 7: b""}
        while len(data) >= 8:
            _, kind, _, length, padding = struct.unpack(">BBHHBx", data[:8])
            if kind in streams:
                streams[kind] += data[8 : 8 + length]
            data = data[8 + length + padding :]
        head, _, body = streams[6].partition(b"\r\n\r\n")
        pairs = (line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        return cls({name.lower(): value for name, value in pairs}, body, streams[7])


def _packet(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def _pair(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    lengths = b"".join(
        bytes([len(part)]) if len(part) < 128 else struct.pack(">I", len(part) | 1 << 31) for part in (key, text)
    )
    return lengths + key + text
