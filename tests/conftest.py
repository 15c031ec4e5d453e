"""For every test: an empty directory of its own, so that none leaves anything in the tree; a stand-in to send to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.agent.rig import Collector

# How long an example takes is this machine's mood, and no test's matter.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector's stand-in: it takes records of any age, and answers otherwise where a test wants it."""
    made = Collector()
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why a test was run once more: a machine that was too busy, or something that happens now and then."""
    for report in terminalreporter.stats.get("rerun", []):
        why = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
        terminalreporter.write_line(f"why {report.nodeid}: {' '.join(why)[:1000]}")
