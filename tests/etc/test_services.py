"""systemd units, tmpfiles and logrotate entries, read by the programs they are for."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

import bitville_apm
from bitville_apm.agent.config import PhpSection
from bitville_apm.agent.inherited import same_place
from tests.tools import require

ETC = Path(bitville_apm.__file__).parent.parent / "etc"
UNITS = ["bitville-apm-daemon.service", "bitville-apm-collector.service", "bitville-apm-daemon.socket"]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    """DAEMON-13: `systemd-analyze verify` is silent, once the program it starts is one that exists."""
    require("systemd-analyze")
    for unit in UNITS:
        (tmp_path / unit).write_text((ETC / unit).read_text().replace("/opt/bitville-apm/bin/twistd", "/bin/true"))
    assert run("systemd-analyze", "verify", str(tmp_path / name)) == ""


def test_the_units_have_what_was_promised() -> None:
    """DAEMON-13: restarts for ever, keeps its socket's directory, and lives while the machine is overloaded."""
    unit = configparser.RawConfigParser(strict=False)
    unit.read(ETC / UNITS[0])
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert "After=network.target\n" in (ETC / UNITS[0]).read_text()
    service = unit["Service"]
    wanted = {
        "User": "bitville",
        "Restart": "always",
        "RestartSec": "5",
        "TimeoutStopSec": "30",
        "RuntimeDirectory": "bitville-apm",
        "RuntimeDirectoryMode": "0755",
        "RuntimeDirectoryPreserve": "yes",
        "StateDirectory": "bitville-apm",
        "StateDirectoryMode": "0755",
        "StandardOutput": "journal",
    }
    assert {key: service[key] for key in wanted} == wanted
    for key in ("SyslogIdentifier", "CPUWeight", "OOMScoreAdjust", "MemoryMax"):
        assert service[key]
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_socket_is_the_one_that_the_agent_looks_for() -> None:
    """DAEMON-07, DAEMON-13: the socket unit's path, group and mode are the defaults of agent.ini."""
    unit = configparser.RawConfigParser()
    unit.read(ETC / UNITS[2])
    php = PhpSection("php")
    told = unit["Socket"]
    assert same_place(Path(told["ListenStream"]), php.socket)
    assert (told["SocketGroup"], int(told["SocketMode"], 8)) == (php.group, php.mode)
    assert "Service" not in told


def test_the_runtime_directory_is_made(tmp_path: Path) -> None:
    """DAEMON-15: tmpfiles.conf makes the directory of the socket after a boot, mode 0755."""
    require("systemd-tmpfiles")
    line = (ETC / "tmpfiles.conf").read_text().replace("bitville bitville", "- -")
    (tmp_path / "bitville-apm.conf").write_text(line)
    run("systemd-tmpfiles", f"--root={tmp_path}", "--create", str(tmp_path / "bitville-apm.conf"))
    assert (tmp_path / "run" / "bitville-apm").stat().st_mode & 0o7777 == 0o755


def test_logrotate_can_read_its_file(tmp_path: Path) -> None:
    """DAEMON-15: logrotate takes logrotate.conf, and rotates a log that has grown."""
    require("logrotate")
    log = tmp_path / "daemon.log"
    log.write_bytes(b"x" * 100_000)
    text = (ETC / "logrotate.conf").read_text().replace("/var/log/bitville-apm", str(tmp_path))
    (tmp_path / "logrotate.conf").write_text(text.replace("maxsize 50M", "size 10k"))
    (tmp_path / "logrotate.conf").chmod(0o644)
    run("logrotate", "--state", str(tmp_path / "state"), str(tmp_path / "logrotate.conf"))
    assert log.stat().st_size == 0
    assert (tmp_path / "daemon.log.1").stat().st_size == 100_000


def test_the_readme_names_files_that_exist() -> None:
    """DAEMON-15: every file of etc/ that the instructions copy is there, and every file there is named in them."""
    readme = (ETC / "README.md").read_text()
    named = set(re.findall(r"(?<!/)\betc/([\w.-]+\w)", readme))
    assert named == {path.name for path in ETC.iterdir()} - {"README.md"}
