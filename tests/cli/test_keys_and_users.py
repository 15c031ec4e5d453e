"""`bitville key` and `bitville user` on a collector's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitville_apm.cli import main
from bitville_apm.collector import auth
from bitville_apm.store.sqlite import Main


@pytest.fixture
def ini(tmp_path: Path) -> str:
    """A collector.ini whose collector has run once."""
    data = tmp_path / "data"
    data.mkdir()
    keyring = Main.open(data)
    keyring.add_user("admin", "admin", None, 1_795_231_260.0)
    keyring.close()
    path = tmp_path / "collector.ini"
    path.write_text(f"[collector]\ndata = {data}\nlisten = 127.0.0.1:8555\n")
    path.chmod(0o640)
    return str(path)


def test_a_new_key_is_printed_alone_on_the_last_line(ini: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-03: a key is made for one project and its scopes, printed once; only its hash is kept."""
    assert main(["key", "new", "--project", "shop", "--scope", "read,ingest", "--config", ini]) == 0
    text = capsys.readouterr().out.splitlines()[-1]
    parts = auth.parts_of(text)
    assert parts is not None
    assert main(["key", "list", "--json", "--config", ini]) == 0
    printed = capsys.readouterr().out
    (row,) = json.loads(printed)
    assert (row["id"], row["project"], row["scopes"], row["revoked"]) == (parts[0], "shop", "ingest,read", None)
    assert parts[1] not in printed
    assert parts[1].encode() not in (Path(ini).parent / "data" / "main.db").read_bytes()


def test_a_key_is_revoked_by_its_id_or_itself(ini: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-03: revoking names a key by what people have at hand; one that is not there is said so."""
    for by_whole_key in (True, False):
        main(["key", "new", "--project", "shop", "--config", ini])
        text = capsys.readouterr().out.split()[-1]
        assert main(["key", "revoke", text if by_whole_key else text.split("_")[1], "--config", ini]) == 0
    capsys.readouterr()
    main(["key", "list", "--json", "--config", ini])
    assert all(row["revoked"] for row in json.loads(capsys.readouterr().out))
    assert main(["key", "revoke", "nobody", "--config", ini]) == 1
    assert "bitville key list" in capsys.readouterr().err


def test_a_key_can_expire(ini: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-03: `--days` gives a key an end."""
    main(["key", "new", "--project", "shop", "--days", "1.5", "--json", "--config", ini])
    made = json.loads(capsys.readouterr().out)
    main(["key", "list", "--json", "--config", ini])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["expires"] - row["created"] == pytest.approx(1.5 * 86_400)
    assert made["expires"] == row["expires"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["key", "new"], "--project"),
        (["key", "new", "--project", "Shop Ü"], "lower-case letters"),
        (["key", "new", "--project", "shop", "--scope", "write"], "unknown scope 'write'"),
        (["key", "new", "--project", "shop", "--days", "-1"], "--days"),
        (["key"], "ACTION"),
        (["spike"], "invalid choice"),
        (["user", "add"], "name"),
        (["user", "add", "a b"], "letters, digits"),
        (["user", "add", "eve", "--role", "root"], "invalid choice"),
        (["user", "add", "eve", "--projects", "shop,Ü"], "lower-case letters"),
    ],
)
def test_wrong_usage_says_what_is_wanted(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with 2 and names what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_link_logs_in_once(ini: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LIST-09: a link for an existing user, at the address the collector has; for nobody else."""
    assert main(["user", "link", "--config", ini]) == 0
    url = capsys.readouterr().out.split()[-1]
    assert url.startswith("http://127.0.0.1:8555/login/")
    keyring = Main.open(Path(ini).parent / "data")
    hashed = auth.digest(url.rpartition("/")[2])
    assert keyring.take_link(hashed, 1_795_231_260.0) == "admin"
    assert keyring.take_link(hashed, 1_795_231_260.0) is None
    keyring.close()
    assert main(["user", "link", "eve", "--config", ini]) == 1
    assert "no user 'eve'" in capsys.readouterr().err
    assert main(["user", "list", "--config", ini]) == 0
    assert "admin" in capsys.readouterr().out


def test_without_a_collector_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong path is said so, and no file appears there."""
    ini = tmp_path / "collector.ini"
    ini.write_text(f"[collector]\ndata = {tmp_path / 'data'}\n")
    ini.chmod(0o640)
    for made in (False, True):
        if made:
            (tmp_path / "data").mkdir()
        assert main(["key", "list", "--config", str(ini)]) == 1
        assert "no collector has run here yet" in capsys.readouterr().err
    assert list((tmp_path / "data").iterdir()) == []
    assert main(["key", "list", "--config", str(tmp_path / "none.ini")]) == 1
    assert "none.ini: cannot be read" in capsys.readouterr().err


def test_where_the_php_client_is(capsys: pytest.CaptureFixture[str]) -> None:
    """COMM-06: `bitville php path` prints the folder that holds prepend.php and listener.php."""
    assert main(["php", "path"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "prepend.php").is_file()
    assert (folder / "listener.php").is_file()
