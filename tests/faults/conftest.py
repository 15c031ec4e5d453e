"""Beside what a fault check says: what the agent had to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LINES = 40


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """The last lines of the agent's log that was written last, with a failure."""
    outcome: Any = yield
    report = outcome.get_result()
    directory: Path | None = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when != "call" or not report.failed or directory is None:
        return
    logs = sorted(directory.rglob("agent.log"), key=lambda log: log.stat().st_mtime)
    for log in logs[-1:]:
        text = log.read_text(errors="replace").splitlines()
        report.sections.append((f"{log.relative_to(directory)}, the end", "\n".join(text[-LINES:])))
