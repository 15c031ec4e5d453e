"""What all tests of the PHP client share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.php import databases
from tests.php.mediawiki import MediaWiki
from tests.php.peer import Fpm, Site, fpm_binary
from tests.php.wordpress import WordPress
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


@pytest.fixture(scope="session")
def mysql() -> Iterator[str]:
    """One MariaDB for all tests."""
    with databases.mysql() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One Postgres for all tests."""
    with databases.postgres() as folder:
        yield folder


@pytest.fixture(scope="session")
def installed_blog(mysql: str) -> Iterator[WordPress]:
    require("php", "nginx", fpm_binary())
    with databases.application(WordPress, mysql) as made:
        yield made


@pytest.fixture(scope="session")
def installed_wiki(postgres: str) -> Iterator[MediaWiki]:
    require("php", "nginx", fpm_binary())
    with databases.application(MediaWiki, postgres) as made:
        yield made


@pytest.fixture
def blog(installed_blog: WordPress) -> WordPress:
    """A real WordPress, installed once, with the settings that each test begins with."""
    return installed_blog.fresh()


@pytest.fixture
def wiki(installed_wiki: MediaWiki) -> MediaWiki:
    """A real MediaWiki, likewise."""
    return installed_wiki.fresh()
