"""A MariaDB and a Postgres for applications, and those applications: started, used and gone again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.php.applications import Application
from tests.php.peer import MYSQL, PATIENCE_S, PGSQL, Site, base_options
from tests.tools import require

AnyApplication = TypeVar("AnyApplication", bound=Application)


@contextmanager
def mysql() -> Iterator[str]:
    """The socket of a MariaDB without passwords, with a database `shop`; beside it `log`, all that it was asked."""
    require("php", "mariadbd")
    if len(base_options(MYSQL)) == len(base_options(("pdo",))):
        require("php-mysql")
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        data = Path(root) / "data"
        data.mkdir()
        (data / "shop").mkdir()
        path = f"{root}/s"
        options = [f"--datadir={data}", f"--socket={path}", f"--pid-file={root}/pid", "--user=root"]
        options += ["--general-log", f"--general-log-file={root}/log", "--innodb-flush-log-at-trx-commit=0"]
        server = subprocess.Popen(
            ["mariadbd", "--no-defaults", "--skip-grant-tables", "--skip-networking", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await_start(lambda: os.path.exists(path), server)
            yield path
        finally:
            server.kill()
            server.wait()


@contextmanager
def postgres() -> Iterator[str]:
    """The folder of the socket of a Postgres that trusts everybody; in it `log`, all that it was asked, and by whom."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries or len(base_options(PGSQL)) == len(base_options(())):
        require("initdb", "php-pgsql")
    # Postgres does not run as root.
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        if other:
            shutil.chown(root, "postgres")
        data = f"{root}/data"
        initdb = [str(binaries[-1]), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale"]
        subprocess.run([*other, *initdb, "-E", "UTF8"], check=True, capture_output=True, cwd="/")
        options = ["-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"]
        options += ["-c", "log_statement=all", "-c", "log_line_prefix=%a|"]
        with open(f"{root}/log", "wb") as log:
            server = subprocess.Popen(
                [*other, str(binaries[-1].with_name("postgres")), *options], cwd="/", stderr=log, stdout=log
            )
        try:
            # It has its socket for a moment before it takes anybody.
            asked = [binaries[-1].with_name("pg_isready"), "-q", "-h", root]
            await_start(lambda: subprocess.run(asked, check=False).returncode == 0, server)
            yield root
        finally:
            # The fast shutdown, because a pool may still hold a session; runuser would keep this signal to itself.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(Path(data, "postmaster.pid").read_text().split()[0]), signal.SIGINT)
            server.wait(3 * PATIENCE_S)


def await_start(takes: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    """Wait until a server takes connections."""
    deadline = time.monotonic() + 3 * PATIENCE_S
    while not takes():
        assert server.poll() is None, f"{server.args!r} did not start"
        assert time.monotonic() < deadline, f"{server.args!r} does not listen"
        time.sleep(0.05)


@contextmanager
def application(make: Callable[[Path, str, Site], AnyApplication], database: str) -> Iterator[AnyApplication]:
    with contextlib.ExitStack() as stack:
        names = [
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True)) for _ in range(2)
        ]
        made = make(Path(names[0]), database, Site(Path(names[1])))
        try:
            yield made
        finally:
            made.close()
