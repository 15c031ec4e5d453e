"""Row 16: bytes of a day's file or of its write-ahead log are flipped, zeroed or cut off (faults 16)."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from bitville_apm.store.interface import Arrival
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, end, frame, postgres
from tests.store.opened import TODAY, sqlite_in

CASES = [pytest.param(n, marks=[pytest.mark.full] if n >= 15 else []) for n in range(200)]
PAGE = limits.PAGE_BYTES


def arrivals() -> list[Arrival]:
    """A morning's records of every kind, one of them larger than a page."""
    chance = random.Random(16)
    columns = {"requests": [1, 2], "wall_us": [1000, 5], "histogram": [[[80, 1]], []]}
    cells = {"endpoint": {"values": ["GET /f", "GET /g"], "columns": columns}}
    made = [end(body={"context": chance.randbytes(600).hex()}, framed=n % 2 == 0) for n in range(60)]
    made.append(end(body={"context": chance.randbytes(20_000).hex()}))
    made += [frame(NOON + 10 * n, cells=cells) for n in range(10)]
    return made + [postgres(NOON + n) for n in range(10)]


def watched(opened: Open, seconds: float = 0.0) -> None:
    """Everything that was put aside for later is done; some time has passed."""
    opened.pump.now += seconds
    for _ in range(3):
        opened.pump.ask(opened.store.clean_up())


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Sequence[Arrival]]:
    """A directory as a stopped collector leaves it, one as a killed one does, and what both hold."""
    place, made = tmp_path_factory.mktemp("templates"), arrivals()
    live, stopped, killed = place / "live", place / "stopped", place / "killed"
    live.mkdir()
    with sqlite_in(live) as opened:
        for n in range(0, len(made), 9):
            assert set(opened.write(*made[n : n + 9])) == {"stored"}
        shutil.copytree(live, killed)
    shutil.copytree(live, stopped)
    return stopped, killed, made


def damage(directory: Path, chance: random.Random) -> str:
    """Do something to one file; what it was."""
    wal = directory / f"{TODAY}-wal"
    path = wal if wal.exists() and wal.stat().st_size and chance.random() < 0.7 else directory / TODAY
    if chance.random() < 0.5:
        (directory / f"{TODAY}-shm").unlink(missing_ok=True)
    content = bytearray(path.read_bytes())
    how = chance.choice(["flips", "flips", "page", "cut"])
    if how == "flips":
        for _ in range(chance.choice([1, 4, 64])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif how == "page":
        at = chance.randrange(len(content) // PAGE) * PAGE
        content[at : at + PAGE] = bytes(PAGE)
    else:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)
    return f"{path.name} {how}"


def found(opened: Open, made: Sequence[Arrival]) -> dict[str, Any]:
    """What comes back of the records, by id: their bytes, or the frames themselves."""
    frames = {one.id: one for one in opened.frames(NOON, NOON + 1000)}
    back = {}
    for arrival in made:
        stored = opened.request(arrival.id) if arrival.frame is None else None
        if stored is not None:
            back[arrival.id] = stored.body
        elif arrival.id in frames:
            back[arrival.id] = frames[arrival.id]
    return back


@pytest.mark.parametrize("case", CASES)
def test_damage_is_told(tmp_path: Path, templates: tuple[Path, Path, Sequence[Arrival]], case: int) -> None:
    """Faults 16: whatever is done to a day's files, the store starts, its day takes records, what comes back is what
    was written, what does not is told in /ready, now and after a restart.
    """
    stopped, killed, made = templates
    directory, chance = tmp_path / "data", random.Random(case)
    shutil.copytree(killed if case % 2 else stopped, directory)
    what = damage(directory, chance)
    later = end()
    with sqlite_in(directory) as opened:
        for _ in range(3):  # an agent comes back after a 503
            try:
                opened.write(later)
                break
            except Exception:  # noqa: BLE001 - whatever it was, the next look finds the damage
                watched(opened)
        found(opened, made)
        watched(opened)
        watched(opened, DAY)
        assert opened.write(later) == ["duplicate"], what
        assert opened.write(end(at=opened.pump.now)) == ["stored"]
        found(opened, made)
        watched(opened)
        problems = opened.store.health()["problems"]
        assert opened.store.health()["ok"] is True
    with sqlite_in(directory, Pump(NOON + DAY)) as opened:
        back = found(opened, made)
        watched(opened)
        assert opened.store.health()["problems"] == problems, what
        assert opened.request(later.id).body == later.body
        for arrival in made:
            if arrival.id in back:
                assert back[arrival.id] == (arrival.frame or arrival.body), what
        missing = len(made) - len(back)
        lost = [int(n) for text in problems for n in re.findall(r"(\d+) are lost|newest (\d+)", text) for n in n if n]
        assert sum(lost) >= missing or any("all are lost" in text for text in problems), (what, missing, problems)
