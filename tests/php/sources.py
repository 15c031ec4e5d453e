"""What tests of statements run and read."""

from __future__ import annotations

from typing import Any

from tests.php.peer import MYSQL, Site


def run(site: Site, code: str, extensions: tuple[str, ...] = MYSQL, **settings: object) -> tuple[str, dict[str, Any]]:
    """What a script prints, and its whole record."""
    site.configure(None, **{"profiling_threshold_ms": 0, **settings})
    with site.agent() as agent:
        done = site.run(code, extensions=extensions)
        assert done.stderr == b"", done.stderr
        return done.stdout.decode(), agent.one("end")


def texts(end: dict[str, Any]) -> list[str]:
    return [query["sql"] for query in end["sql"]["queries"]]


def connect(path: str, named: str = "mysqli") -> str:
    return f"$d = new {named}(null, 'root', '', 'shop', null, '{path}');"
