"""`bitville cert new`: what it makes is used by a real collector, a real agent, and openssl."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bitville_apm.cli import main
from tests.agent.rig import Agent, end_line, wait_until
from tests.collector.rig import Rig
from tests.tools import require


def made(directory: Path, *names: str) -> tuple[Path, Path]:
    """A certificate and its key."""
    assert main(["cert", "new", *names, "--to", str(directory)]) == 0
    return directory / "collector.crt", directory / "collector.key"


def test_from_agent_to_collector(tmp_path: Path) -> None:
    """LIST-03: an agent that trusts the certificate by `ca` delivers by TLS; one that does not, sends nothing."""
    certificate, key = made(tmp_path / "tls")
    rig = Rig(tmp_path / "collector", extra=f"certificate = {certificate}\nprivate_key = {key}\n")
    url = f"https://localhost:{rig.port}"
    trusting = ssl.create_default_context(cafile=certificate)
    agents = []
    try:
        rig.spawn()

        def ready() -> dict[str, object] | None:
            try:
                with urllib.request.urlopen(f"{url}/ready", context=trusting, timeout=5) as answer:
                    return json.loads(answer.read())  # type: ignore[no-any-return]
            except urllib.error.URLError:
                return None

        wait_until(ready)
        more = f"[collector]\nca = {certificate}\n"
        for name, lines in (("trusting", more), ("doubting", "")):
            agent = Agent(tmp_path / name, url, key=rig.key())
            agent.config.write_text(agent.config.read_text().replace("[collector]\n", lines or "[collector]\n"))
            agents.append(agent.start())
            agent.send(end_line())
        wait_until(lambda: agents[0].ledger()["stored"] == 1)
        wait_until(lambda: agents[1].health()["stats"]["circuit_breaker"]["failure_count"])
        assert agents[1].ledger()["stored"] == 0
    finally:
        for agent in agents:
            agent.kill()
        rig.end()


def test_openssl_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is valid for every name that was given, its key is nobody else's to read, and what to do is said."""
    require("openssl")
    names = ("apm.example.com", "*.example.com", "192.0.2.7", "2001:db8::7")
    certificate, key = made(tmp_path, *names)
    said = capsys.readouterr().out
    assert f"certificate = {certificate}" in said
    assert "url = https://apm.example.com:8443" in said
    assert key.stat().st_mode & 0o777 == 0o640
    for name in (*names, "127.0.0.1", "localhost"):
        flag = "-verify_ip" if name[0] in "12" else "-verify_hostname"
        asked = name.replace("*", "any")
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", str(certificate), flag, asked, str(certificate)],
            check=True,
        )
    wrong = ["openssl", "verify", "-CAfile", str(certificate), "-verify_hostname", "other.test", str(certificate)]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode != 0


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is in use is not written over; names that are none are refused."""
    _, key = made(tmp_path)
    before = key.read_bytes()
    assert main(["cert", "new", "--to", str(tmp_path)]) == 1
    assert "move it away first" in capsys.readouterr().err
    assert key.read_bytes() == before
    for name in ("https://apm", "apm:8443", "1.2.3", "a b", ""):
        with pytest.raises(SystemExit):
            main(["cert", "new", name, "--to", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def test_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How long it is valid can be said, in the limits that browsers accept."""
    assert main(["cert", "new", "--to", str(tmp_path), "--days", "30", "--json"]) == 0
    until = json.loads(capsys.readouterr().out)["until"]
    assert until.startswith(time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * 86_400)))
    with pytest.raises(SystemExit):
        main(["cert", "new", "--to", str(tmp_path / "other"), "--days", "826"])
