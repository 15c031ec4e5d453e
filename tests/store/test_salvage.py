"""Damaged day files: the day goes on at once, what can be read comes back, what cannot is told (faults 16)."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.store.contract import Open
from tests.store.make import NOON, end, frame, postgres
from tests.store.opened import TODAY, clean, sqlite_in


def filled(opened: Open) -> list[Any]:
    """Some hundred records, so that most pages belong to one table each."""
    made = [end(body={"context": random.Random(n).randbytes(2000).hex()}, framed=n % 2 == 0) for n in range(300)]
    columns = {"requests": [1], "wall_us": [1000]}
    made += [frame(NOON + 10 * n, cells={"endpoint": {"values": ["GET /f"], "columns": columns}}) for n in range(20)]
    made += [postgres(NOON + n) for n in range(20)]
    opened.write(*made)
    return made


def held(opened: Open) -> set[str]:
    """The ids of all records and frames."""
    found = {row.id for page in opened.pages(None, limit=100) for row in page}
    return found | {frame.id for frame in opened.frames(0, 1e10)}


def test_a_damaged_day_comes_back(tmp_path: Path) -> None:
    """Faults 16: with the pages of one table destroyed the day takes records at once; what can be read comes back
    with its rolls, nothing twice; the rest is counted in /ready, also after a restart.
    """
    with sqlite_in(tmp_path) as opened:
        made = filled(opened)
    path = tmp_path / TODAY
    content = bytearray(path.read_bytes())
    for page in range(12, len(content) // 16384, 3):
        content[page * 16384 : page * 16384 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with sqlite_in(tmp_path) as opened:
        later = end()
        answers = {arrival.id: opened.write(arrival) for arrival in made}
        assert set(map(tuple, answers.values())) <= {("stored",), ("duplicate",)}
        assert opened.write(later) == ["stored"]
        clean(opened)
        (problem,) = (p for p in opened.store.health()["problems"] if "damaged" in p)
        saved, lost = (int(n) for n in re.findall(r"(\d+) (?:came back|are lost)", problem))
        assert 0 < saved < len(made)
        assert 0 < lost <= len(made)
        assert opened.store.health()["ok"] is True
        gone = {arrival.id for arrival in made} - held(opened)
        assert len(gone) <= lost
        assert all(answers[id] == ["duplicate"] for id in gone)
        assert later.id in held(opened)
    with sqlite_in(tmp_path) as opened:
        assert problem in opened.store.health()["problems"]


def test_damage_of_a_closed_day_is_found_while_adding_up(tmp_path: Path) -> None:
    """Faults 16: a day nobody writes to any more is set aside and salvaged too, once its hours are added up."""
    with sqlite_in(tmp_path) as opened:
        filled(opened)
    path = tmp_path / TODAY
    content = bytearray(path.read_bytes())
    for page in range(12, len(content) // 16384, 2):
        content[page * 16384 : page * 16384 + 200] = b"\xff" * 200
    (tmp_path / "day-20270114.db").write_bytes(content)
    path.unlink()
    with sqlite_in(tmp_path) as opened:
        clean(opened)
        clean(opened)
        assert any("damaged-20270114-1.db" in problem for problem in opened.store.health()["problems"])
        assert opened.store.health()["ok"] is True


@pytest.mark.parametrize("damage", ["header", "cut", "garbage"])
def test_a_day_that_is_no_database(tmp_path: Path, damage: str) -> None:
    """Faults 16: a current day that is no database any more is answered by a new file, not by 503."""
    with sqlite_in(tmp_path) as opened:
        made = filled(opened)
    path = tmp_path / TODAY
    whole = path.read_bytes()
    path.write_bytes({"header": b"\0" * 100 + whole[100:], "cut": whole[:5000], "garbage": b"garbage" * 9999}[damage])
    with sqlite_in(tmp_path) as opened:
        assert opened.write(made[0], end()) == ["stored", "stored"]
        clean(opened)
        assert any("damaged-20270115-1.db: nothing" in problem for problem in opened.store.health()["problems"])
        assert opened.store.health()["ok"] is True
        assert len(opened.search()) == 2


def test_a_readable_file_comes_back_whole(tmp_path: Path) -> None:
    """Faults 16: of a file that was set aside and can be read, every record comes back once, and the rolls too."""
    with sqlite_in(tmp_path) as opened:
        made = filled(opened)
        wanted = opened.top(), opened.top("statement")
    (tmp_path / TODAY).rename(tmp_path / "damaged-20270115-1.db")
    with sqlite_in(tmp_path) as opened:
        opened.write(made[0], made[5])
        clean(opened)
        assert held(opened) == {arrival.id for arrival in made}
        assert (opened.top(), opened.top("statement")) == wanted
        (problem,) = opened.store.health()["problems"]
        assert "340 came back, 0 are lost" in problem
        clean(opened)
        assert held(opened) == {arrival.id for arrival in made}
