"""`[postgres NAME]` in agent.ini."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from bitville_apm.agent.config import PostgresSection, read_agent
from bitville_apm.ini import ConfigError

DSN = "host=/var/run/postgresql dbname=shop user=bitville"


def read(directory: Path, text: str, **environment: str) -> tuple[PostgresSection, ...]:
    path = directory / "agent.ini"
    path.touch(mode=0o600)
    path.write_text(text)
    return read_agent(path, environment).postgres


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[postgres main]\n", "[postgres main] dsn is wanted, such as host=/var/run/postgresql"),
        ("[postgres]\nlog = /a.log\n", "[postgres] dsn is wanted, such as host=/var/run/postgresql"),
        (f"[postgres]\nlog = x.log\ndsn = {DSN}\n", "[postgres] log = 'x.log': an absolute path is wanted"),
        ("[postgres main]\ndsn = postgres://u:hunter2@[::1\n", "[postgres main] dsn: a connection string is wanted"),
        ("[postgres]\ndsn = password=hunter2 nonsense=1\n", "[postgres] dsn: a connection string is wanted"),
        (f"[postgres]\ndsn = {DSN}\npassword = hunter2\n", "[postgres] has no key 'password'; it knows dsn, key, log"),
        (f"[postgres]\ndsn = {DSN}\n[php postgres]\n", "[php postgres]: /health calls the database by this name"),
    ],
)
def test_a_wrong_section_is_one_line(tmp_path: Path, section: str, told: str) -> None:
    """PG-COMM-04: a mistake in `[postgres …]` is one line that says what to do, and repeats no password."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, section)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_psycopg_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PG-COMM-04: where the extra is not installed, a `[postgres]` section says how to; all else needs none of it."""
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "psycopg" else find(name, *more)
    )
    with pytest.raises(ConfigError, match=r"\[postgres\] needs psycopg: pip install 'bitville-apm\[postgres\]'"):
        read(tmp_path, f"[postgres]\ndsn = {DSN}\n")
    assert read(tmp_path, "[postgres]\n") == ()


def test_any_number_of_servers(tmp_path: Path) -> None:
    """PG-COMM-03, DAEMON-16: each section is a server, with a key of its own if it has one; a password may come from
    the environment or a file, and is in no repr.
    """
    (tmp_path / "dsn").write_text("host=db2 password=hunter2\n")
    found = read(
        tmp_path,
        f"[postgres]\ndsn = {DSN}\n[postgres reports]\nkey = bv_x_y\nlog = /var/log/postgresql/*.csv\n",
        BITVILLE_POSTGRES_REPORTS_DSN_FILE=str(tmp_path / "dsn"),
    )
    assert found == (
        PostgresSection("postgres", DSN),
        PostgresSection("reports", "host=db2 password=hunter2", "/var/log/postgresql/*.csv", "bv_x_y"),
    )
    assert "hunter2" not in repr(found)
    assert "bv_x_y" not in repr(found)
