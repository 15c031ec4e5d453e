"""`bitville php` on a folder and a configuration of its own: it breaks no page, and says what to do."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from bitville_apm.cli import main, php
from tests.tools import require

POOL = "php/8.2/fpm/pool.d/www.conf"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PHP's configuration, empty; the machine's own PHP is not asked."""
    monkeypatch.setattr(php, "effective", list)
    (tmp_path / "etc" / POOL).parent.mkdir(parents=True)
    return tmp_path / "etc"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "usr" / "client"


def run(*arguments: object) -> int:
    return main(["php", *map(str, arguments)])


def pool(etc: Path, text: str) -> Path:
    path = etc / POOL
    path.write_text("[www]\n" + text)
    return path


def foreign(tmp_path: Path, name: str = "waf.php") -> Path:
    path = tmp_path / name
    path.write_text("<?php")
    return path


def test_install(etc: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-17: the client is copied whole, readable by every pool, and the line for the pool is printed."""
    require("php")
    old = os.umask(0o077)
    try:
        assert run("install", "--to", home, "--etc", etc) == 0
    finally:
        os.umask(old)
    assert f"php_admin_value[auto_prepend_file] = {home}/prepend.php" in capsys.readouterr().out.splitlines()
    names = sorted(path.name for path in home.iterdir())
    assert [re.sub(r"-[0-9a-f]{12}\.", "-*.", name) for name in names] == [
        "client-*.php",
        "compat.php",
        "doctrine-*.php",
        "listener.php",
        "mediawiki-*.php",
        "prepend.php",
        "rest-*.php",
        "symfony-*.php",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o644}
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    for path in home.iterdir():
        assert subprocess.run(["php", "-n", "-l", str(path)], capture_output=True, check=False).returncode == 0
    code = (
        f"require '{home}/listener.php'; echo (int) class_exists('BitvilleApm\\\\Pdo', false),"
        " (int) function_exists('bitville_apm_begin');"
    )
    said = subprocess.run(["php", "-d", "display_errors=1", "-r", code], capture_output=True, check=True).stdout
    assert said in (b"11", b"01"), "PDO may be missing, the client not"


def test_an_upgrade_leaves_the_stub_alone(etc: Path, home: Path) -> None:
    """PHP-17: an upgrade writes a new file of classes, then the listener; the one before stays for running pages."""
    run("install", "--to", home, "--etc", etc)
    (first,) = home.glob("client-*.php")
    stub = home / "prepend.php"
    stub.write_text(stub.read_text() + "// mine\n")
    before = home / "client-aaaaaaaaaaaa.php"
    before.write_text("<?php return true;")
    ancient = home / "client-bbbbbbbbbbbb.php"
    ancient.write_text("<?php return true;")
    listener = home / "listener.php"
    listener.write_text(listener.read_text().replace(first.name, before.name))
    assert run("install", "--to", home, "--etc", etc) == 0
    assert stub.read_text().endswith("// mine\n")
    assert first.name in listener.read_text()
    assert sorted(home.glob("client-*.php")) == sorted([first, before])
    assert run("install", "--to", home, "--etc", etc, "--stub") == 0
    assert not stub.read_text().endswith("// mine\n")


@pytest.mark.parametrize(
    "line",
    [
        "php_admin_value[auto_prepend_file] = {}",
        'php_value[auto_prepend_file]="{}" ; the firewall',
        "auto_prepend_file = '{}'",
        "  php_value auto_prepend_file {}",
    ],
)
def test_an_existing_prepend_file_is_chained(
    etc: Path, home: Path, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """PHP-17: an auto_prepend_file that some configuration sets is chained, in every spelling."""
    waf = foreign(tmp_path, "it's.php" if '"' in line else "waf.php")
    path = pool(etc, ";auto_prepend_file = /not/this.php\n" + line.format(waf) + "\n")
    assert run("install", "--to", home, "--etc", etc) == 0
    assert f"({path}:3)" in capsys.readouterr().out
    shown = subprocess.run(["php", "-n", "-w", str(home / "chain.php")], capture_output=True, text=True, check=True)
    assert "require '" + str(waf).replace("'", "\\'") + "';" in shown.stdout
    # Installed once more, with our stub in the configuration: the chain stays.
    pool(etc, f"php_admin_value[auto_prepend_file] = {home}/prepend.php\n")
    assert run("install", "--to", home, "--etc", etc, "--json") == 0
    assert json.loads(capsys.readouterr().out)["chain"] is None
    assert (home / "chain.php").exists()
    assert run("install", "--to", home, "--etc", etc, "--chain", "none") == 0
    assert not (home / "chain.php").exists()


def test_what_cannot_be_chained_is_refused(
    etc: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PHP-17: several foreign files, our own stub, and a stub that knows no chain are refused with what to do."""
    one, two = foreign(tmp_path, "one.php"), foreign(tmp_path, "two.php")
    user_ini = tmp_path / ".user.ini"
    user_ini.write_text(f"auto_prepend_file = {two}\n")
    pool(etc, f"auto_prepend_file = {one}\n[b]\nauto_prepend_file = {two}\n")
    assert run("install", "--to", home, "--etc", etc) == 1
    assert "--config" in capsys.readouterr().err
    assert not home.exists()
    assert run("install", "--to", home, "--etc", etc, "--config", user_ini) == 0
    assert str(two) in (home / "chain.php").read_text()
    assert run("install", "--to", home, "--etc", etc, "--chain", home / "prepend.php") == 1
    assert "to itself" in capsys.readouterr().err
    (home / "prepend.php").write_text(f"<?php // {php.STUB_MARK}")
    assert run("install", "--to", home, "--etc", etc, "--chain", one) == 1
    assert "--stub" in capsys.readouterr().err
    assert run("install", "--to", php.SOURCE, "--etc", etc, "--chain", one) == 1


def test_uninstall_takes_the_ini_first(etc: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-17: nothing is removed while configuration names the stub, and the stub only when asked for."""
    run("install", "--to", home, "--etc", etc)
    whole = sorted(home.iterdir())
    path = pool(etc, f"php_admin_value[auto_prepend_file] = {home}/prepend.php\n")
    assert run("uninstall", "--from", home, "--etc", etc) == 1
    assert f"{path}:2" in capsys.readouterr().err
    assert sorted(home.iterdir()) == whole
    path.unlink()
    assert run("uninstall", "--from", home, "--etc", etc) == 0
    assert [p.name for p in home.iterdir()] == ["prepend.php"]
    assert run("uninstall", "--from", home, "--etc", etc, "--stub") == 0
    assert not home.exists()
    assert run("uninstall", "--from", home, "--etc", etc) == 1
    assert run("uninstall", "--from", php.SOURCE, "--etc", etc) == 1


def test_off_and_on_reach_every_pool(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PHP-17: off and on act on each client that configuration names, and on the package's own."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "listener.php").touch()
    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        run("install", "--to", home, "--etc", etc)
    pool(etc, "".join(f"[x]\nphp_admin_value[auto_prepend_file] = {home}/prepend.php\n" for home in homes))
    monkeypatch.setattr(php, "SOURCE", package)
    capsys.readouterr()
    for word in ("off", "off", "on", "on"):
        assert run(word, "--etc", etc, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"state": word, "folders": [str(p) for p in (*homes, package)], "failed": {}}
        assert {(p / "off").exists() for p in (*homes, package)} == {word == "off"}
    assert run("off", "--etc", etc, "--dir", homes[0]) == 0
    assert capsys.readouterr().out == f"off: {homes[0]}\n"
    assert [(p / "off").exists() for p in homes] == [True, False]
    assert stat.S_IMODE((homes[0] / "off").stat().st_mode) == 0o644


def test_off_says_what_failed(etc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-17: a folder without a client, or one that cannot be written, is said on stderr and by the exit code."""
    assert run("off", "--etc", etc, "--dir", tmp_path / "none") == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"bitville: there is no client in {tmp_path / 'none'}\n")
    denied = PermissionError(13, "Permission denied", "/usr/client/off")
    assert php.why(denied) == "/usr/client/off: Permission denied; run this as the owner of the folder (sudo)"


def test_path(capsys: pytest.CaptureFixture[str]) -> None:
    """CFG-02: `bitville php path` is the folder of the client."""
    assert run("path") == 0
    assert (Path(capsys.readouterr().out.strip()) / "prepend.php").is_file()


def test_check_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-07, COMM-10: unknown keys with their lines, and what the client finds at its socket and its spool."""
    require("php")
    ini = tmp_path / "profiling.ini"
    spool = tmp_path / "spool"
    text = "; a note = 1\n[profiling]\nenabled = 1\nsql_redact_sensitive = 1\nprofiling_treshold_ms = 9\ncolour=red\n"
    ini.write_text(text + f"socket_path = {tmp_path}/s\ndisk_buffer_path = {spool}\n")
    assert run("check", "--ini", ini, "--json") == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["unknown"] == [{"line": 5, "key": "profiling_treshold_ms"}, {"line": 6, "key": "colour"}]
    found = (told["enabled"], told["exists"], told["is_socket"], told["writable_dir"])
    assert found == (True, False, False, False)
    assert err.splitlines()[0] == f"bitville: {ini}:5: unknown key profiling_treshold_ms"
    assert len(err.splitlines()) == 4
    spool.mkdir()
    ini.write_text(f"profiling_enabled = 1\ndaemon_socket_path = {tmp_path}/s\ndisk_buffer_path = {spool}\n")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        assert run("check", "--ini", ini) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert {"is_socket: true", "writable_dir: true", "enabled: true"} <= set(out.splitlines())


def test_check_without_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-07: a file that is missing, or says nothing, is told as what it means: off."""
    require("php")
    assert run("check", "--ini", tmp_path / "none.ini") == 1
    assert capsys.readouterr().err == f"bitville: {tmp_path}/none.ini: No such file or directory\n"
    (tmp_path / "empty.ini").touch()
    assert run("check", "--ini", tmp_path / "empty.ini") == 1
    assert "it is off" in capsys.readouterr().err
