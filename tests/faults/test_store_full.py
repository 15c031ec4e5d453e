"""Row 11: the collector's disk is full (faults 11)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from bitville_apm.store.interface import NoSpace
from bitville_apm.store.sqlite import SqliteStore
from tests.faults.tools import disks
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, end, frame
from tests.store.opened import clean, days_of, later, sqlite_in


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with disks.tmpfs(tmp_path / "disk", "24m") as mounted:
        yield mounted


def test_a_full_disk_until_retention_frees_it(tmp_path: Path, disk: Path) -> None:
    """Faults 11: on a full disk batches are refused whole and questions are answered; when a day's time is over it is
    dropped although not one more byte fits, its hours stay, and records are taken again; 0 lost, the files are whole.
    """
    noise, n = os.urandom(60_000).hex(), 0
    stored: dict[str, float] = {}
    with sqlite_in(disk) as opened:
        clean(opened)
        assert (disk / "reserve").stat().st_size > 0

        def write(at: float) -> None:
            nonlocal n
            n += 1
            batch = [end(at=at, body={"context": noise[i + n :]}) for i in range(5)]
            assert opened.write(*batch) == ["stored"] * 5
            stored.update({arrival.id: at for arrival in batch})

        for _ in range(8):
            write(NOON - 7 * DAY)
        while opened.store.health()["ok"]:
            with suppress(NoSpace):
                write(NOON)
        disks.fill(disk)
        assert os.statvfs(disk).f_bavail == 0
        with pytest.raises(NoSpace):
            write(NOON)
        assert opened.store.health()["ok"] is False
        assert len(opened.search(limit=100)) == min(100, len(stored))
        later(opened, DAY)
        assert days_of(disk) == ["20270115"]
        kept = {id for id, at in stored.items() if at == NOON}
        assert opened.top(end=NOON - 6 * DAY)[0].requests == len(stored) - len(kept)
        write(NOON)
        assert opened.store.health()["ok"] is True
        assert {row.id for page in opened.pages(None, limit=100) for row in page} == kept | set(list(stored)[-5:])
    shutil.copytree(disk, tmp_path / "copy")  # looking at them takes room too
    for path in (tmp_path / "copy").glob("*.db"):
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()


def test_days_over_the_cap_go_early(tmp_path: Path) -> None:
    """design 6: with `gigabytes` the oldest days go early, never the newest two, with their hours kept; /ready counts
    them, a record for one of them is expired, and both stay so after a restart.
    """
    noise = os.urandom(20_000).hex()
    pump = Pump()
    for _ in range(2):
        store = SqliteStore.open(tmp_path, pump, 7, 0.002)
        opened = Open(store, pump)
        opened.write(*(end(at=NOON - n * DAY, body={"context": noise[i * 50 :]}) for n in range(5) for i in range(20)))
        clean(opened)
        assert "20270115" in days_of(tmp_path)
        assert "20270114" in days_of(tmp_path)
        assert "20270111" not in days_of(tmp_path)
        health = store.health()
        assert health["dropped_for_space"] == 5 - len(days_of(tmp_path)) > 0
        assert opened.write(end(at=NOON - 4 * DAY)) == ["expired"]
        assert store.health()["expired"] > 0
        assert sum(row.requests for row in opened.top()) >= 100
        pump.ask(Deferred.fromCoroutine(store.close()))
    assert len(days_of(tmp_path)) >= 2


def test_who_fills_the_cap_is_named(tmp_path: Path) -> None:
    """design 6: when a day goes early for want of space, the log says which project most of it was."""
    noise = os.urandom(20_000).hex()
    pump = Pump()
    store = SqliteStore.open(tmp_path, pump, 7, 0.001)
    opened = Open(store, pump)
    try:
        for project, each in (("shop", 18), ("blog", 2)):
            more = ({"context": noise[i * 50 :]} for i in range(each))
            opened.write(*(end(at=NOON - 3 * DAY, project=project, body=body) for body in more))
        opened.write(frame(NOON - 3 * DAY, project="wiki"), *(end(at=NOON - n * DAY) for n in range(2)))
        with capturedLogs() as logged:
            clean(opened)
    finally:
        pump.ask(Deferred.fromCoroutine(store.close()))
    said = [str(formatEvent(event)) for event in logged]
    assert [line for line in said if line.startswith("day 2027-01-12 went early") and "% of it was shop's" in line]
