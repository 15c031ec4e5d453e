"""`bitville doctor` on real daemons: well, ill, dead, hanging, and not there at all."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from bitville_apm.cli import doctor_collector, findings, main
from bitville_apm.cli.doctor import finding_lines
from bitville_apm.cli.findings import Finding, disk, ends, examined
from tests.agent.rig import Agent, end_line, wait_until
from tests.collector.rig import Rig, free_port
from tests.tools import require

Doctor = Callable[..., tuple[int, dict[str, list[tuple[str, str, str]]]]]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run it with configuration that is named, and none elsewhere: its exit code, and by what it is about what it found
    as level, words, and what to do.
    """

    def doctor(*arguments: str | Path) -> tuple[int, dict[str, list[tuple[str, str, str]]]]:
        code = main(["doctor", "--etc", str(tmp_path / "etc"), "--json", *map(str, arguments)])
        told = json.loads(capsys.readouterr().out)
        found: dict[str, list[tuple[str, str, str]]] = {}
        for one in told["checks"]:
            found.setdefault(one["about"], []).append((one["level"], one["what"], one["do"]))
        assert code == {"ok": 0, "warning": 1, "problem": 2}[told["status"]]
        assert told["status"] == max((one["level"] for one in told["checks"]), key=findings.LEVELS.index)
        return code, found

    return doctor


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Agent, Rig]]:
    """A collector by TLS whose certificate ends in a week, and an agent that delivers to it."""
    assert main(["cert", "new", "localhost", "--days", "7", "--to", str(tmp_path / "tls")]) == 0
    certificate = tmp_path / "tls" / "collector.crt"
    settings = f"certificate = {certificate}\nprivate_key = {certificate.with_suffix('.key')}\n"
    rig = Rig(tmp_path / "collector", extra=settings)
    url, trusting = f"https://localhost:{rig.port}", ssl.create_default_context(cafile=certificate)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", context=trusting, timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    agent = None
    try:
        rig.spawn()
        wait_until(ready, 60)
        agent = Agent(tmp_path / "agent", url, key=rig.key())
        agent.config.write_text(agent.config.read_text().replace("[collector]\n", f"[collector]\nca = {certificate}\n"))
        agent.start().send(end_line())
        wait_until(lambda: agent.ledger()["stored"] == 1)
        yield agent, rig
    finally:
        for process in (agent.process if agent else None, rig.process):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def test_a_machine_that_is_well(both: tuple[Agent, Rig], doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    """DAEMON-17, LIST-07: agent, socket, journal, disks, the way to the collector and the clock, the collector and its
    days are well, and a certificate that ends soon is a warning from both sides; a line each. Then both hang: it ends.
    """
    agent, rig = both
    files = ("--agent", agent.config, "--collector", rig.directory / "collector.ini")
    code, found = doctor(*files)
    assert code == 1
    for about, words in (
        ("agent", "runs: 0.1.0, up "), ("socket php", f"{agent.socket}, mode 0660"), ("journal", "0 records wait"),
        ("way to the collector", f"https://localhost:{rig.port} answers"), ("collector", "0.1.0 at https://127.0.0.1:"),
        ("clock", "this clock and the collector's agree"), ("database", "writes; 1 day from 20"),
        ("agents", "1 heard of since the start"),
    ):  # fmt: skip
        assert {level for level, _, _ in found[about]} == {"ok"}, found[about]
        assert any(words in what for _, what, _ in found[about]), found[about]
    assert ("ok", "pipeline default: circuit closed, 0 records wait", "") in found["agent"]
    assert [(level, " ends in 6 days" in what) for level, what, _ in found["certificate"]] == [("warning", True)] * 2
    assert {"agent's disk", "collector's disk"} < set(found)
    assert [level for level, _, _ in found["PHP client"]] == ["absent"]
    main(["doctor", "--etc", "/nowhere", *map(str, files)])
    out = capsys.readouterr().out.splitlines()
    # As wide as the terminal is.
    assert out[0].startswith("-        PHP client            not set up here: no /nowhere/bitville-")
    assert out[-1] == "2 warnings"
    assert agent.process is not None
    assert rig.process is not None
    for process in (agent.process, rig.process):
        process.send_signal(signal.SIGSTOP)
    os.utime(agent.directory / "alive", (1e9, 1e9))
    code, found = doctor(*files)
    assert code == 2
    for about in ("agent", "way to the collector", "collector"):
        assert [level for level, _, _ in found[about]] == ["problem"], found[about]
    assert any("takes the agent for hung" in what for _, what, _ in found["socket php"])


def test_a_machine_that_is_ill(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAEMON-17: an agent whose collector is away, a collector that does not run, a journal that fills: what each means
    and what to do about it; exit code 2.
    """
    agent = Agent(tmp_path / "agent", f"http://127.0.0.1:{free_port()}")
    ini = tmp_path / "collector.ini"
    ini.write_text(f"[collector]\nlisten = 127.0.0.1:{free_port()}\ndata = {tmp_path}\ncertificate = {tmp_path}/none\n")
    agent.start()
    try:
        agent.send(end_line())
        wait_until(lambda: agent.health()["stats"]["circuit_breaker"]["state"] == "open", 60)
        monkeypatch.setattr(limits, "DOCTOR_JOURNAL_SHARE", 0.0)
        code, found = doctor("--agent", agent.config, "--collector", ini)
    finally:
        agent.clean_up()
    assert code == 2
    (why,) = [one for one in found["agent"] if one[0] != "ok"]
    assert why[:2] == ("warning", "pipeline default: 5 sendings failed in a row, circuit open")
    assert "reset-breaker" in why[2]
    assert found["way to the collector"][0][0] == "problem"
    assert found["collector"][0][0] == "problem"
    assert found["journal"][0][0] == "warning"
    assert "raise journal_mb" in found["journal"][0][2]
    code, found = doctor("--agent", agent.config)
    assert (code, [one[0] for one in found["agent"]]) == (2, ["problem"])
    assert "is what a killed one left behind" in found["agent"][0][1]
    assert "systemctl start" in found["agent"][0][2]


def test_settings_that_are_wrong(doctor: Doctor, tmp_path: Path) -> None:
    """DAEMON-16: a file that cannot be read, or has an unknown key, hides nothing else; nothing at all is told."""
    agent, ini = Agent(tmp_path / "agent", "http://127.0.0.1:1", more="[nonsense]\n"), tmp_path / "none.ini"
    code, found = doctor("--agent", agent.config, "--collector", ini)
    assert code == 2
    assert found["agent"][0][0] == "problem"
    assert found["agent"][0][1].startswith(f"{agent.config}: unknown section [nonsense]; ")
    assert "cannot be read" in found["collector"][0][1]
    code, found = doctor()
    assert (code, found["this machine"][0][0]) == (2, "problem")
    assert [found[about][0][0] for about in ("agent", "collector", "PHP client")] == ["absent"] * 3


def test_the_php_client(doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PHP-07: what `bitville php check` finds, whether a pool loads the client, and whether it is switched off."""
    require("php")
    etc, spool, client = tmp_path / "etc", tmp_path / "spool", tmp_path / "client"
    ini = etc / "bitville-apm" / "profiling.ini"
    for directory in (ini.parent, spool, etc / "php"):
        directory.mkdir(parents=True)
    ini.write_text(f"profiling_enabled = 1\nsocket_path = {tmp_path}/s\ndisk_buffer_path = {spool}\ncolour = red\n")
    code, found = doctor()
    assert code == 2
    assert [level for level, _, _ in found["PHP client"]] == ["warning", "problem", "warning"]
    assert "unknown key colour" in found["PHP client"][0][1]
    assert "auto_prepend_file" in found["PHP client"][2][1]
    assert main(["php", "install", "--to", str(client), "--etc", str(etc)]) == 0
    (etc / "php" / "www.conf").write_text(f"php_admin_value[auto_prepend_file] = {client}/prepend.php\n")
    ini.write_text(ini.read_text().replace("colour = red\n", ""))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        capsys.readouterr()
        code, found = doctor()
        assert (code, [level for level, _, _ in found["PHP client"]]) == (0, ["ok", "ok"])
        assert f"loaded by {etc}/php/www.conf:1" in found["PHP client"][1][1]
        (client / "off").touch()
        code, found = doctor()
    assert (code, found["PHP client"][1][2]) == (1, f"bitville php on --dir {client}")


def test_nothing_hangs() -> None:
    """A check that does not end, or breaks, hides neither what it found nor what the others did."""
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding("first", "ok", "found before")
        never.wait()

    def breaks() -> Iterator[Finding]:
        raise KeyError("\x1bx")
        yield

    def refused() -> Iterator[Finding]:
        raise PermissionError(13, "Permission denied", "/root/x")
        yield

    checks: dict[str, findings.Check] = {
        "first": hangs, "second": breaks, "third": refused, "last": lambda: [Finding("last", "ok", "well")]
    }  # fmt: skip
    found = list(examined(checks, 0.2))
    never.set()
    assert [(one.about, one.level) for one in found] == [
        ("first", "ok"), ("first", "problem"), ("second", "problem"), ("third", "warning"), ("last", "ok")
    ]  # fmt: skip
    assert "no answer within" in found[1].what
    lines = list(finding_lines(found, 60))
    assert "\x1b" not in "".join(lines)
    assert all(len(line) <= 60 for line in lines)
    assert lines[-1] == "2 problems, 1 warning"
    assert list(finding_lines(found[:1], 60))[-1] == "all is well"


def test_levels_of_disks_and_certificates() -> None:
    """A disk is told before it is full, a small one by its share; a certificate two weeks before its end, and after."""
    mib = limits.MIB
    assert [
        disk("d", "/", free * mib, total * mib).level
        for free, total in ((5000, 100_000), (1000, 100_000), (200, 1000), (99, 1000), (63, 200))
    ] == ["ok", "warning", "ok", "warning", "problem"]
    levels: list[Any] = [ends("c", "it", 1e9 + days * 86_400, 1e9, "renew").level for days in (15, 13, -1)]
    assert levels == ["ok", "warning", "problem"]


READY: dict[str, Any] = {
    "uptime": 3600.0, "agents_seen": 2, "alerts": {"ways": {"mail": {"sent": 3, "failed": 0, "dropped": 0}}},
    "cleanup": {"running": True, "problem": None, "retention_days": 7}, "drifts": {"problem": None},
    "graylog": {"enabled": False}, "database": {"ok": True, "problems": [], "days": [], "bytes": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, [("database", "ok"), ("agents", "ok")]),
        ({"agents_seen": 0}, [("database", "ok"), ("agents", "warning")]),
        ({"agents_seen": 0, "uptime": 5.0}, [("database", "ok"), ("agents", "ok")]),
        ({"graylog": {"problem": "refused"}}, [("database", "ok"), ("Graylog", "warning"), ("agents", "ok")]),
        ({"drifts": {"problem": "no"}}, [("database", "ok"), ("slow drifts", "warning"), ("agents", "ok")]),
        (
            {"cleanup": {"running": False, "problem": "full", "retention_days": 7}},
            [("database", "ok"), ("cleanup", "warning"), ("cleanup", "problem"), ("agents", "ok")],
        ),
        (
            {"alerts": {"ways": {"mail": {"sent": 0, "failed": 1, "dropped": 0}}}},
            [("database", "ok"), ("alerts", "warning"), ("agents", "ok")],
        ),
        (
            {"database": {"ok": True, "problems": ["day 2027-01-08 cannot be read"], "days": [], "bytes": 0}},
            [("database", "warning"), ("database", "ok"), ("agents", "ok")],
        ),
        ({"database": {"ok": False, "problems": ["full"]}}, [("database", "problem"), ("agents", "ok")]),
        ({"database": {"ok": False, "problems": []}}, [("database", "problem"), ("agents", "ok")]),
    ],
)
def test_what_a_collector_says_of_itself(changes: dict[str, Any], told: list[tuple[str, str]]) -> None:
    """LIST-07: what `/ready` knows becomes a line each, with what to do where it is not well."""
    ready = {**READY, **changes}
    found = [*doctor_collector.database(ready), *doctor_collector.work(ready)]
    assert [(one.about, one.level) for one in found] == told
    assert all(one.do for one in found if one.level != "ok")


def test_the_services_it_names_are_there() -> None:
    """DAEMON-17: whoever is told to start a service has it under that name in etc/."""
    root = Path(__file__).resolve().parents[2]
    told = {
        name
        for path in (root / "bitville_apm").rglob("*.py")
        for name in re.findall(r"systemctl \w+ ([\w-]+)", path.read_text())
    }
    assert "bitville-apm-daemon" in told
    assert all((root / "etc" / f"{name}.service").exists() for name in told), told
