"""`bitville alerts test`, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bitville_apm.cli.alerts import VERDICT
from tests.collector.rig import free_port

BITVILLE = str(Path(sys.executable).with_name("bitville"))


def run(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = Path("collector.ini").absolute()
    path.write_text(f"[alerts]\n{text}\n")
    path.chmod(0o640)
    command = [BITVILLE, "alerts", "test", "--config", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_way_is_tried() -> None:
    """ADV-05: a test goes by every way; what fails is named with its reason and the exit code says so; no address is
    shown, which may be a secret.
    """
    here = Path.cwd()
    hook = f"http://127.0.0.1:{free_port()}/secret"
    done = run(f"base_url = https://apm.example/apm\ncommand = /bin/sh -c 'cat > {here}/told'\nwebhook = {hook}")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == ["webhook: not sent: ConnectionRefusedError", "command: sent"]
    assert "secret" not in done.stdout + done.stderr
    text = Path("told").read_text()
    assert text.startswith(f"# {VERDICT}")
    assert "<https://apm.example/apm/spikes>" in text
    fine = run("command = /bin/true", "--json")
    assert (fine.returncode, json.loads(fine.stdout)) == (0, {"command": None})


def test_nobody_to_tell() -> None:
    """CFG-06: an [alerts] that names nobody is told in one line."""
    done = run("over = no")
    assert (done.returncode, done.stdout) == (1, "")
    assert "names nobody" in done.stderr
    assert done.stderr.count("\n") == 1
