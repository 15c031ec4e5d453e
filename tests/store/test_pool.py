"""Connections that questions leave behind keep nothing that should be gone."""

from __future__ import annotations

import os
from pathlib import Path

from bitville_apm import limits
from tests.store.make import DAY, NOON, end
from tests.store.opened import TODAY, days_of, later, sqlite_in


def opened_files(directory: Path) -> list[str]:
    """The files of a directory that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return [path for path in found if path.startswith(str(directory))]


def test_a_dropped_day_is_held_by_nobody(tmp_path: Path) -> None:
    """STOR-02: what was dropped gives its space back although questions keep connections: no file of it is open."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end(at=NOON - 7 * DAY), end())
        assert len(opened.search()) == 2
        assert any("day-20270108" in path for path in opened_files(tmp_path))
        later(opened, DAY)
        assert len(opened.search()) == 1
        assert days_of(tmp_path) == ["20270115"]
        assert not [path for path in opened_files(tmp_path) if "day-20270108" in path or "deleted" in path]
    assert opened_files(tmp_path) == []


def test_questions_see_the_file_that_is_there(tmp_path: Path) -> None:
    """Faults 16: after a day's file was replaced, questions go to the new one and the old one is closed."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        assert len(opened.search()) == 1
        (tmp_path / TODAY).rename(tmp_path / "elsewhere.db")
        assert opened.search() == []
    assert opened_files(tmp_path) == []


def test_connections_are_used_again(tmp_path: Path) -> None:
    """P10: many questions, few connections."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        for _ in range(20):
            opened.search()
        assert len([path for path in opened_files(tmp_path) if path.endswith(TODAY)]) <= limits.READERS + 1
