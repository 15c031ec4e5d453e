"""What all tests of the PHP client share."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.php.peer import MYSQL, PATIENCE_S, Fpm, Site, base_options, fpm_binary
from tests.tools import require


@pytest.fixture
def site() -> Iterator[Site]:
    """An application of its own. In a short directory: a UNIX socket's path ends at 107 bytes."""
    require("php")
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        yield Site(Path(root))


@contextmanager
def running(client: bool) -> Iterator[Fpm]:
    require("php", fpm_binary())
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        server = Fpm(Path(root), client)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def fpm() -> Iterator[Fpm]:
    """One php-fpm for all tests: settings are read per request, so each test brings its own."""
    with running(client=True) as server:
        yield server


@pytest.fixture(scope="session")
def bare_fpm() -> Iterator[Fpm]:
    """The same without the client."""
    with running(client=False) as server:
        yield server


@pytest.fixture(scope="module")
def mysql() -> Iterator[str]:
    """The socket of a MariaDB without passwords, with a database `shop`."""
    require("php", "mariadbd")
    if len(base_options(MYSQL)) == len(base_options(("pdo",))):
        require("php-mysql")
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as root:
        data = Path(root) / "data"
        data.mkdir()
        (data / "shop").mkdir()
        path = f"{root}/s"
        options = [f"--datadir={data}", f"--socket={path}", f"--pid-file={root}/pid", "--user=root"]
        server = subprocess.Popen(
            ["mariadbd", "--no-defaults", "--skip-grant-tables", "--skip-networking", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 3 * PATIENCE_S
            while not os.path.exists(path):
                assert server.poll() is None, "mariadbd did not start"
                assert time.monotonic() < deadline, "mariadbd does not listen"
                time.sleep(0.05)
            yield path
        finally:
            server.kill()
            server.wait()
