"""Damaged day files: the day goes on at once, what can be read comes back, what cannot is told (faults 16)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.store.contract import Open
from tests.store.make import NOON, end, frame, postgres
from tests.store.test_keeping import clean
from tests.store.test_sqlite import TODAY
from tests.store.test_sqlite_contract import sqlite_in


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
    for page in range(len(content) // 16384 - 12, len(content) // 16384):
        content[page * 16384 : page * 16384 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with sqlite_in(tmp_path) as opened:
        later = end()
        for arrival in made[::7]:
            assert opened.write(arrival) in (["stored"], ["duplicate"])
        assert opened.write(later) == ["stored"]
        clean(opened)
        damaged = [p for p in opened.store.health()["problems"] if "damaged" in p]
        if damaged:
            assert "came back" in damaged[0]
        assert opened.store.health()["ok"] is True
        ids = held(opened)
        assert {arrival.id for arrival in made[::7]} | {later.id} <= ids
        assert ids <= {arrival.id for arrival in made} | {later.id}


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
