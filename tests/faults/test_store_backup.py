"""Row 29: a backup under load, and what a restore has (faults 29)."""

from __future__ import annotations

import datetime
import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from bitville_apm.store.interface import NoSpace
from bitville_apm.store.sqlite import backup
from bitville_apm.store.sqlite.days import DayFiles
from bitville_apm.store.sqlite.files import StoreError
from tests.collector.rig import item, running
from tests.store.make import DAY, NOON, died, end, end_body, frame, new_id, spike
from tests.store.opened import sqlite_in

BATCH = 5
WHEN = datetime.datetime(2027, 1, 15, 12, tzinfo=datetime.timezone.utc)
RUNS = [pytest.param(run, marks=[pytest.mark.full] if run >= 2 else []) for run in range(50)]


@pytest.mark.parametrize("run", RUNS)
def test_a_backup_under_load(tmp_path: Path, run: int) -> None:
    """Faults 29: a copy made while batches are committed is whole, has every record that was answered before it began,
    no half batch, rolls that add up to its records, and no request both dead and ended across two days.
    """
    data = tmp_path / "data"
    data.mkdir()
    with sqlite_in(data):
        pass
    files = DayFiles(data)
    answered: list[list[Any]] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            id = new_id()
            files.write([[died(id, NOON - DAY)]])
            batch = [end(id, NOON - DAY, ms=DAY * 1000), *(end() for _ in range(BATCH - 2)), frame(NOON - DAY)]
            files.write([batch])
            answered.append(batch)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(answered) < 10 + run:
            time.sleep(0.001)
        before = [arrival.id for batch in list(answered) for arrival in batch]
        made = backup.back_up(data, tmp_path / "to", WHEN)
    finally:
        over.set()
        thread.join()
    files.close()
    folder = Path(made.folder)
    assert sorted(made.files) == ["day-20270114.db", "day-20270115.db", "main.db"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(made.files)
    for path in folder.iterdir():
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
    with sqlite_in(folder) as opened:
        rows = [row for page in opened.pages(None, limit=100) for row in page]
        have = {row.id for row in rows} | {frame.id for frame in opened.frames(0, 1e10)}
        assert set(before) <= have
        assert len(rows) == len({row.id for row in rows})
        assert sum(row.requests for row in opened.top()) == len(rows)
        later = [batch for batch in answered if batch[0].id not in before]
        assert all(len({a.id for a in batch[1:-1]} & have) in (0, BATCH - 2) for batch in later)
        assert opened.store.health()["problems"] == []


def test_what_is_not_whole_is_no_backup(tmp_path: Path) -> None:
    """Faults 29: a copy of a damaged file is refused, nothing is left that looks like a backup; so is one that would
    not fit.
    """
    with sqlite_in(tmp_path) as opened:
        opened.write(*(end() for _ in range(50)))
    path = tmp_path / "day-20270115.db"
    content = bytearray(path.read_bytes())
    content[3 * 16384 : 3 * 16384 + 100] = b"\xff" * 100
    path.write_bytes(content)
    with pytest.raises((StoreError, sqlite3.DatabaseError)):
        backup.back_up(tmp_path, tmp_path / "to", WHEN)
    assert list((tmp_path / "to").iterdir()) == []


def test_no_room_for_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults 11: a backup that would fill the disk is not begun; what a killed one left is removed by the next."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        opened.pump.ask(opened.store.keep_spike(spike("kept")))
        (tmp_path / backup.FOLDER / "20270101T000000Z.partial").mkdir(parents=True)
        monkeypatch.setattr(limits, "RESERVE_BYTES", 2**60)
        with pytest.raises(NoSpace, match="MiB are free"):
            opened.pump.ask(opened.store.back_up())
        monkeypatch.undo()
        made = opened.pump.ask(opened.store.back_up())
        assert [path.name for path in (tmp_path / backup.FOLDER).iterdir()] == [Path(made.folder).name]
        with pytest.raises(StoreError, match="already"):
            opened.pump.ask(opened.store.back_up())
    with sqlite_in(Path(made.folder)) as copy:
        assert copy.pump.ask(copy.store.spike(None, "kept")) == spike("kept")


def test_backup_and_restore_by_hand(tmp_path: Path) -> None:
    """Faults 29, LIST-07: `bitville backup` beside a running collector, its folder as another collector's data: the
    records, the keys and the way in are there; `POST /admin/backup` makes one too, for admins only.
    """
    with running(tmp_path / "a") as rig:
        key = rig.key("shop", "ingest,read,admin")
        bodies = [end_body(new_id(), time.time() - 1) for _ in range(20)]
        assert rig.post(key, *(item(body, n=n) for n, body in enumerate(bodies, 1))).json["stored"] == 20
        command = [str(Path(sys.executable).with_name("bitville")), "backup", "--to", str(tmp_path / "to"), "--json"]
        told = subprocess.run(
            [*command, "--config", str(rig.directory / "collector.ini")], capture_output=True, text=True, check=True
        )
        folder = Path(json.loads(told.stdout)["folder"])
        assert rig.ask("POST", "/admin/backup", b"", rig.key("shop", "read")).status == 403
        made = rig.ask("POST", "/admin/backup", b"", key).json
        assert Path(made["folder"]).parent == rig.data / "backups"
        assert set(made["files"]) == {path.name for path in folder.glob("*.db")}
    with running(tmp_path / "b", data=folder) as rig:
        found = rig.ask("GET", "/api/search?limit=100", key=key).json["items"]
        assert {row["id"] for row in found} == {body["id"] for body in bodies}
        assert rig.post(key, item(bodies[0])).json["duplicate"] == 1
        assert rig.ask("GET", "/ready").json["database"]["problems"] == []
