"""`bitville postgres`. What `setup` prints is run by the fixture `postgres`, as the superuser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitville_apm.cli import main
from tests.agent.postgres.server import Server


def ini(directory: Path, text: str) -> str:
    path = directory / "agent.ini"
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def test_setup_prints_what_it_takes(postgres: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """PG-07: the SQL for any role, which may be run again; a name that is none is refused."""
    assert main(["postgres", "setup", "--role", "apm_watcher"]) == 0
    sql = capsys.readouterr().out
    assert "GRANT pg_monitor TO apm_watcher;" in sql
    for _ in range(2):
        postgres.sql(sql)
    assert postgres.sql("SELECT rolconnlimit, rolsuper FROM pg_roles WHERE rolname = 'apm_watcher'") == [(3, False)]
    postgres.sql("REVOKE ALL ON FUNCTION pg_current_logfile(), pg_current_logfile(text) FROM apm_watcher",
                 "DROP ROLE apm_watcher")  # fmt: skip
    assert main(["postgres", "setup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["role"] == "bitville"
    with pytest.raises(SystemExit) as ended:
        main(["postgres", "setup", "--role", "x'; DROP"])
    assert ended.value.code == 2


def test_check_says_what_each_server_shows(
    postgres: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PG-08: version, role, statistics and log of a server that is reached, why not of one that is not, exit code 1;
    without an agent `bitville doctor` looks as well.
    """
    good = f"[postgres main]\ndsn = {postgres.dsn(user='bitville')}\n"
    assert main(["postgres", "check", "--config", ini(tmp_path, good), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["error"], told["missing"]) == ("main", None, [])
    assert told["shows"]["role"] == "bitville"
    assert told["shows"]["log"].endswith(".json")
    assert main(["postgres", "check", "--config", ini(tmp_path, good + "[postgres away]\ndsn = host=/nowhere\n")]) == 1
    out = capsys.readouterr().out
    assert "main: reached\n" in out
    assert "away: it cannot be reached: " in out
    assert main(["doctor", "--etc", str(tmp_path), "--agent", str(tmp_path / "agent.ini"), "--json"]) == 2
    told = {one["about"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert (told["postgres main"]["level"], told["postgres main"]["what"]) == ("ok", "is reached")
    assert told["postgres away"]["level"] == "problem"
    assert told["postgres away"]["what"].startswith("it cannot be reached: ")
    assert main(["postgres", "check", "--config", ini(tmp_path, "")]) == 1
    assert capsys.readouterr().err == "bitville: agent.ini has no [postgres] section with a dsn\n"
