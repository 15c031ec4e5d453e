"""What is SQLite's own: its files, a full disk, damage, readers beside the writer."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bitville_apm import limits
from bitville_apm.store.interface import Arrival, NoSpace, Search, TooSlow
from bitville_apm.store.sqlite import day as day_module
from bitville_apm.store.sqlite import files
from bitville_apm.store.sqlite.days import DayFiles
from bitville_apm.store.sqlite.files import StoreError
from tests.faults.tools import disks
from tests.store.make import DAY, NOON, Pump, died, end, frame, new_id, postgres
from tests.store.opened import TODAY, YESTERDAY, sqlite_in

# --- Days -------------------------------------------------------------------------------------------------


def test_the_day_is_that_of_recv(tmp_path: Path) -> None:
    """design 6: a record's file is that of its recv in UTC, a frame's that of its own time; midnight is exact."""
    midnight = NOON + DAY / 2
    with sqlite_in(tmp_path, Pump(midnight)) as opened:
        opened.write(
            end(at=NOON, recv=midnight - 0.001),
            end(at=NOON, recv=midnight),
            frame(midnight - 10),
            postgres(midnight + 1),
        )
    assert sorted(path.name for path in tmp_path.glob("day-*")) == [TODAY, "day-20270116.db"]
    counts = {}
    for path in tmp_path.glob("day-*.db"):
        db = sqlite3.connect(path)
        tables = ("request", "frame", "postgres")
        counts[path.name] = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        db.close()
    assert counts == {TODAY: [1, 1, 0], "day-20270116.db": [1, 0, 1]}


def test_a_day_file_is_as_designed(tmp_path: Path) -> None:
    """STOR-01, design 6: WAL, 16 KB pages, schema version, readable by owner and group only, complete in itself."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end(journal="ab" * 16, seq=(3, 17)), end(journal="ab" * 16, seq=(3, 9)))
        path = tmp_path / TODAY
        for made in (path, tmp_path / "main.db"):
            assert stat.S_IMODE(made.stat().st_mode) == 0o640
        db = sqlite3.connect(path)
        for pragma, value in (("journal_mode", "wal"), ("page_size", 16384), ("user_version", files.VERSIONS["day"])):
            assert db.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        watermark = db.execute("SELECT text, journal, run, seq, items FROM watermark JOIN name ON id = project")
        assert watermark.fetchall() == [("shop", "ab" * 16, 3, 17, 2)]
        db.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["commits", TODAY, "main.db"]


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Restarts: what was answered is there when the files are opened again, and is a duplicate then."""
    record = end()
    with sqlite_in(tmp_path) as opened:
        opened.write(record)
    with sqlite_in(tmp_path) as opened:
        assert opened.request(record.id).body == record.body
        assert opened.write(record, end()) == ["duplicate", "stored"]
        assert [row.requests for row in opened.top()] == [2]


def test_days_are_read_together(tmp_path: Path) -> None:
    """QUERY-02: questions go over all days, more of them than the writer keeps open."""
    with sqlite_in(tmp_path) as opened:
        records = [end(at=NOON - n * DAY) for n in range(8)]
        assert opened.write(*records) == ["stored"] * 8
        assert [row.id for row in opened.search(sort="time")] == [record.id for record in records]
        assert opened.top(start=NOON - 8 * DAY)[0].requests == 8
        assert opened.top(start=NOON - 1.5 * DAY)[0].requests == 2


def test_files_kept_open_are_bounded(tmp_path: Path) -> None:
    """design 6: the writer holds limits.DAYS_OPEN files, however many days a batch is about."""
    days = DayFiles(tmp_path)
    days.write([[end(at=NOON - n * DAY) for n in range(8)]])
    assert len(days._open) == limits.DAYS_OPEN
    assert len(list(tmp_path.glob("day-????????.db"))) == 8
    days.close()


def impossible() -> Arrival:
    """An arrival that no collector makes and no store can take."""
    return msgspec.structs.replace(end(), id="no uuid")


# --- One commit -------------------------------------------------------------------------------------------


def test_a_crash_between_two_days_is_mended_by_the_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I1: an end whose day was committed while the day of its `died` was not: the sender's retry mends it."""
    id = new_id()
    dead, alive = died(id, NOON - DAY), end(id, NOON - DAY, ms=DAY * 1000)
    days = DayFiles(tmp_path)
    days.write([[dead]])
    commit = day_module.Day.commit

    def crash(self: day_module.Day) -> int:
        if self.path.name == YESTERDAY:
            raise OSError("power cut")
        return commit(self)

    monkeypatch.setattr(day_module.Day, "commit", crash)
    with pytest.raises(OSError, match="power cut"):
        days.write([[alive]])
    monkeypatch.undo()
    days.close()
    with sqlite_in(tmp_path) as opened:
        assert opened.request(id).body == alive.body
        assert opened.write(alive) == ["duplicate"]
        assert [row.died for row in opened.search(correlation_id=id)] == [False]
        assert [(row.requests, row.errors) for row in opened.top()] == [(1, 0)]


def test_a_failure_changes_nothing(tmp_path: Path) -> None:
    """I1: a batch that fails half-way leaves no trace, and the store goes on."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        with pytest.raises(ValueError, match="non-hexadecimal"):
            opened.write(end(), impossible())
        assert opened.store.health()["ok"] is False
        assert len(opened.search()) == 1
        assert opened.write(end()) == ["stored"]
        assert opened.store.health()["ok"] is True
        assert [row.requests for row in opened.top()] == [2]


def test_one_batch_in_trouble_is_not_its_neighbours(tmp_path: Path) -> None:
    """design 6: batches are committed together, but one that cannot be stored fails alone."""
    with sqlite_in(tmp_path) as opened:
        waiting = [opened.store.write([batch]) for batch in (end(), impossible(), end())]
        assert opened.pump.ask(waiting[0]) == ["stored"]
        with pytest.raises(ValueError, match="non-hexadecimal"):
            opened.pump.ask(waiting[1])
        assert opened.pump.ask(waiting[2]) == ["stored"]


def test_readers_beside_the_writer(tmp_path: Path) -> None:
    """STOR-01: questions are answered while batches are written, and never see half a batch."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        wrong: list[Any] = []
        over = threading.Event()

        def ask() -> None:
            reader = opened.store._reader
            while not over.is_set():
                try:
                    n = sum(row.requests for row in reader.top(None, "endpoint", 0, 1e10, None, 10))
                    if n % 10 != 1:
                        wrong.append(n)
                except Exception as error:  # noqa: BLE001 - whatever it is, the test shall see it
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            opened.write(*(end() for _ in range(10)))
        over.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(list(opened.pages(None, limit=100))) == 7


def test_a_question_has_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """limits.READ_S: a question that takes too long is given up, so that it cannot pin the write-ahead log."""
    with sqlite_in(tmp_path) as opened:
        for _ in range(5):
            opened.write(*(end(body={"request": {"method": "GET", "uri": "/" + "x" * 2000}}) for _ in range(400)))
        monkeypatch.setattr(limits, "READ_S", 0.0)
        with pytest.raises(TooSlow):
            opened.search(url="%x%y%x%y%x%y")
        monkeypatch.undo()
        assert opened.write(end()) == ["stored"]


# --- Trouble with files -----------------------------------------------------------------------------------


def test_a_damaged_day_is_named_and_the_others_live(tmp_path: Path) -> None:
    """design 6: a file that cannot be read keeps nobody from reading and writing the other days."""
    kept = end()
    with sqlite_in(tmp_path) as opened:
        opened.write(kept, end(at=NOON - DAY))
    (tmp_path / YESTERDAY).write_bytes(b"garbage" * 10_000)
    with sqlite_in(tmp_path) as opened:
        assert "2027-01-14 cannot be read" in opened.store.health()["problems"][0]
        assert [row.id for row in opened.search()] == [kept.id]
        assert opened.write(end(), kept) == ["stored", "duplicate"]
        assert opened.write(end(at=NOON - DAY)) == ["stored"]
        assert len(opened.search()) == 3


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """design 6: a file of a newer version is refused, since only that version knows what it may not touch."""
    with sqlite_in(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "main.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer version"), sqlite_in(tmp_path):
        pass


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """design 6: the scripts of later versions run in order, in one transaction with the version's number; the file as
    it was is beside it, until its day is dropped.
    """
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
    now = files.VERSIONS["day"]
    last = f"day-{now + 2}.sql"
    scripts = {f"day-{now + 1}.sql": ["CREATE TABLE two (x)"], last: ["INSERT INTO two VALUES (3)", "broken"]}
    monkeypatch.setitem(files.VERSIONS, "day", now + 2)
    monkeypatch.setattr(files, "_statements", lambda name: scripts[name])
    with pytest.raises(sqlite3.OperationalError, match="broken"):
        files.open_writer(tmp_path / "day-20270115.db", "day")
    scripts[last].pop()
    db = files.open_writer(tmp_path / "day-20270115.db", "day")
    assert db.execute("SELECT x FROM two").fetchall() == [(3,)]
    assert db.execute("PRAGMA user_version").fetchone() == (now + 2,)
    db.close()
    before = sqlite3.connect(tmp_path / f"day-20270115.db.version-{now}")
    assert before.execute("SELECT count(*) FROM request").fetchone() == (1,)
    assert before.execute("PRAGMA user_version").fetchone() == (now,)
    before.close()
    files.remove_day(tmp_path, files.day_of(NOON))
    assert not list(tmp_path.glob("day-*"))


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    """design 6: only `day-YYYYMMDD.db` with a real date is a day."""
    for name in ("day-20271399.db", "day-2027.db", "notes.txt"):
        (tmp_path / name).write_text("x")
    with sqlite_in(tmp_path) as opened:
        assert opened.search() == []
        assert opened.store.health()["problems"] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    with disks.tmpfs(tmp_path / "disk", "6m") as mounted:
        yield mounted


def test_a_full_disk(small_disk: Path) -> None:
    """Faults 11: on a full disk batches fail with NoSpace whole, reading goes on, and with space writing does;
    nothing that was answered is lost, nothing that was not is there.
    """
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * limits.MIB)
    noise = os.urandom(150_000).hex()
    stored: list[str] = []
    failed = 0
    with sqlite_in(small_disk) as opened:
        while failed < 5:
            batch = [end(body={"context": noise[n : n + 20_000]}) for n in range(10)]
            try:
                assert opened.write(*batch) == ["stored"] * 10
                stored += [record.id for record in batch]
            except NoSpace:
                failed += 1
        assert len(stored) >= 20
        assert opened.store.health()["ok"] is False
        assert "disk is full" in opened.store.health()["problems"][0]
        assert len(opened.search(limit=100)) == min(100, len(stored))
        assert opened.request(stored[0]) is not None
        with pytest.raises(NoSpace):  # nor can a new day begin
            opened.write(*(end(at=NOON - DAY, body={"context": noise}) for _ in range(10)))
        ballast.unlink()
        retried = end()
        assert opened.write(retried) == ["stored"]
        assert opened.store.health()["ok"] is True
        rows = [row.id for page in opened.pages(None, limit=100) for row in page]
        assert sorted(rows) == sorted([*stored, retried.id])
        assert sum(row.requests for row in opened.top()) == len(rows)
    for path in small_disk.glob("day-*.db"):
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()


def test_search_default_is_slowest_first(tmp_path: Path) -> None:
    """QUERY-02: slowest first by default; records of Postgres, which have no duration, come last."""
    with sqlite_in(tmp_path) as opened:
        opened.write(postgres(), end(ms=5), end(ms=7), end(ms=6))
        assert [row.duration_ms for row in opened.search()] == [7, 6, 5, None]
        assert Search().limit == limits.SEARCH_DEFAULT
