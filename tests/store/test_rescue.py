"""A damaged main.db: what can be read of keys and people works after the next start."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.store.sqlite import Main, SqliteStore, rescue
from tests.store.make import DAY, NOON, Pump, end
from tests.store.opened import sqlite_in

KEYS = 400


def filled(directory: Path) -> None:
    """A store with keys over several pages, people, and the hours of a day."""
    with sqlite_in(directory) as opened:
        opened.write(end(), end(at=NOON - DAY))
        opened.pump.ask(opened.store.clean_up())
    main = Main.open(directory)
    for n in range(KEYS):
        main.add_key(f"key-{n:05}", bytes([n % 256]) * 200, "shop", "ingest", NOON, None)
    main.add_user("eve", "admin", None, NOON)
    main.add_session(b"s", "eve", NOON + limits.SESSION_S)
    main.close()
    db = sqlite3.connect(directory / "main.db")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def overwritten(path: Path, page: int) -> None:
    """One page of 16 KiB becomes noise."""
    with path.open("r+b") as file:
        file.seek((page - 1) * limits.PAGE_BYTES)
        file.write(random.Random(page).randbytes(limits.PAGE_BYTES))


def page_of(path: Path, table: str, kind: str = "leaf") -> int:
    """A page that holds rows of a table."""
    db = sqlite3.connect(path)
    question = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY pageno DESC"
    (page,) = db.execute(question, (table, kind)).fetchone()
    db.close()
    return int(page)


def test_keys_beside_a_damaged_page_are_saved(tmp_path: Path) -> None:
    """Faults 16: keys that can be read work again, /ready says what happened, and the old file is kept."""
    filled(tmp_path)
    overwritten(tmp_path / "main.db", page_of(tmp_path / "main.db", "key"))
    for start in range(2):
        with sqlite_in(tmp_path) as opened:
            keys = opened.pump.ask(opened.store.keyring.keys())
            assert KEYS / 2 < len(keys) < KEYS
            assert all(key["hash"] == bytes([int(key["id"][4:]) % 256]) * 200 for key in keys)
            assert opened.pump.ask(opened.store.keyring.user("eve"))["role"] == "admin"
            assert opened.pump.ask(opened.store.keyring.session(b"s", NOON))["name"] == "eve"
            (problem,) = opened.store.health()["problems"]
            assert problem.startswith("main.db was damaged and is now damaged-main-1.db: ")
            assert len(opened.search()) == 2, start
            opened.pump.ask(opened.store.clean_up())  # hours too: they are added up again where they are gone
            assert opened.top(start=NOON - 2 * DAY, end=NOON + DAY)[0].requests == 2
    assert (tmp_path / "damaged-main-1.db").exists()


@pytest.mark.parametrize("page", [1, 2, 5])
def test_whatever_is_damaged_the_collector_starts(tmp_path: Path, page: int) -> None:
    """Faults 16: no page of main.db keeps a collector from starting, being written to, and adding up."""
    filled(tmp_path)
    overwritten(tmp_path / "main.db", page)
    with sqlite_in(tmp_path) as opened:
        opened.pump.ask(
            opened.store.keyring.do(opened.store.keyring.main.add_key, "new", b"1", "shop", "ingest", NOON, None)
        )
        assert opened.pump.ask(opened.store.keyring.key("new"))["project"] == "shop"
        assert len(opened.search()) == 2
        opened.pump.ask(opened.store.clean_up())
        assert "damaged-main-1.db" in opened.store.health()["problems"][0]


def test_a_rescue_that_was_interrupted_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts: a collector killed while keys are saved has them after the next start."""
    filled(tmp_path)
    overwritten(tmp_path / "main.db", page_of(tmp_path / "main.db", "key"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rescue, "_copied", killed)
        with pytest.raises(KeyboardInterrupt):
            SqliteStore.open(tmp_path, Pump())
    with sqlite_in(tmp_path) as opened:
        assert len(opened.pump.ask(opened.store.keyring.keys())) > KEYS / 2


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    """Restarts: nothing is set aside that is whole, however long the look at it takes."""
    filled(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAIN_CHECK_S", 0.0)
        patch.setattr(limits, "READ_STEPS", 1)
        with sqlite_in(tmp_path) as opened:
            assert len(opened.pump.ask(opened.store.keyring.keys())) == KEYS
    assert not list(tmp_path.glob("damaged-*"))


def test_damage_that_comes_later_is_told(tmp_path: Path) -> None:
    """Faults 16: keys that turn out to be unreadable while the collector runs are told in /ready, with what to do."""
    filled(tmp_path)
    with sqlite_in(tmp_path) as opened:
        overwritten(tmp_path / "main.db", page_of(tmp_path / "main.db", "key"))
        with pytest.raises(sqlite3.DatabaseError):
            opened.pump.ask(opened.store.keyring.keys())
        assert "restart the collector" in opened.store.health()["problems"][0]
