"""Commands that ask a collector, run on its machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bitville_apm.cli import main
from tests.collector.rig import Rig

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    rig: Rig, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run a command on the machine of the module's `rig`: exit code, what it said, what it complained of. The terminal
    is as wide as the module's WIDTH, by default 140 characters.
    """
    for name in ("URL", "KEY", "KEY_FILE"):
        monkeypatch.delenv(f"BITVILLE_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", str(getattr(request.module, "WIDTH", 140)))

    def run(*arguments: str) -> tuple[int, str, str]:
        elsewhere = "--config" in arguments or "--url" in arguments
        code = main([*arguments, *([] if elsewhere else ["--config", str(rig.directory / "collector.ini")])])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
