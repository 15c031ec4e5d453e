"""A damaged `main.db`: set aside at start, and row by row what can be read goes into a new one.

Keys and people are in it, without which nobody gets in: what still can be read of them must work after the next start,
whatever is wrong with the rest. The old file stays beside it. Stopped half-way, the next start does it again.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.sqlite import readable
from bitville_apm.store.sqlite.files import SQL_ERRORS, is_damage, number_of, open_reader, open_writer

_log = Logger()
_ASIDE = "damaged-main-"
_PEOPLE = ("key", "user", "link", "session")
"""Tables that everything depends on, in the order in which they refer to one another. They are small."""


def rescue(directory: Path, today: datetime.date) -> None:
    """Put a damaged `main.db` aside, and save what a file that was set aside still has. Blocks while it reads.

    Raises `StoreError`, `sqlite3.Error`, `OSError` where a new file cannot be written.
    """
    path = directory / "main.db"
    why = _flaw(path) if path.exists() else None
    if why is not None:
        free = (directory / f"{_ASIDE}{n}.db" for n in itertools.count(1))
        aside = next(other for other in free if not other.exists())
        Path(f"{path}-shm").unlink(missing_ok=True)
        for suffix in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        _log.error("main.db is damaged and now {aside}: {why}", aside=aside.name, why=why)
    left = sorted(directory.glob(f"{_ASIDE}*.db"))
    if not left:
        return
    with contextlib.closing(open_writer(path, "main")) as main:
        done = {file for (file,) in main.execute("SELECT file FROM damage")}
        for aside in left:
            if aside.name not in done:
                _save(aside, main, today)


def is_main(path: Path) -> bool:
    """Whether a damaged file was a `main.db`."""
    return path.name.startswith(_ASIDE)


def told(name: str, saved: int, lost: int) -> str:
    """For `/ready`: what became of it."""
    return (
        f"main.db was damaged and is now {name}: of its keys, people, spikes and sums {saved} rows came back,"
        f" {lost} did not; look at `bitville key list` and `bitville user list`, make anew what is missing, then remove"
        f" {name}"
    )


def _flaw(path: Path) -> str | None:
    """What is wrong with the file. A large one is looked at for `limits.MAIN_CHECK_S`, keys and people always."""
    until = time.monotonic() + limits.MAIN_CHECK_S
    try:
        with contextlib.closing(open_reader(path)) as db:
            for table in _PEOPLE if db.execute("PRAGMA user_version").fetchone()[0] else ():
                db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
            db.set_progress_handler(lambda: time.monotonic() > until, limits.READ_STEPS)
            (told,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            return None if told == "ok" else str(told)
    except SQL_ERRORS as error:
        return str(error) if is_damage(error) else None


def _save(aside: Path, main: sqlite3.Connection, today: datetime.date) -> None:
    """Copy what can be read, in one transaction with the note that it is done."""
    saved = lost = 0
    main.execute("BEGIN IMMEDIATE")
    try:
        with contextlib.suppress(*SQL_ERRORS), contextlib.closing(open_reader(aside)) as db:
            there = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            ours = [name for (name,) in main.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in (*_PEOPLE, *(name for name in ours if name not in _PEOPLE)):
                if table in there:
                    some = _copied(db, main, table)
                    saved, lost = saved + some[0], lost + some[1]
        main.execute(
            "INSERT OR REPLACE INTO damage (file, day, saved, lost) VALUES (?,?,?,?)",
            (aside.name, number_of(today), saved, lost),
        )
        main.execute("COMMIT")
    except BaseException:
        if main.in_transaction:
            main.execute("ROLLBACK")
        raise
    _log.error("{file}: {saved} rows came back, {lost} are lost", file=aside.name, saved=saved, lost=lost)


def _copied(db: sqlite3.Connection, main: sqlite3.Connection, table: str) -> tuple[int, int]:
    """How many rows of a table came back, and how many did not as far as that can be told."""
    saved, lost = 0, itertools.count()
    try:
        theirs = _columns(db, table)
        columns = [name for name in _columns(main, table) if name in theirs]
        question = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        for row in _rows(db, table, ", ".join(columns), lambda: next(lost)):
            try:
                saved += main.execute(question, row).rowcount
            except sqlite3.IntegrityError:  # what it refers to is lost, or a part of it
                next(lost)
    except SQL_ERRORS:
        next(lost)
    return saved, next(lost)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def _rows(db: sqlite3.Connection, table: str, columns: str, lost: Callable[[], object]) -> Iterator[tuple[Any, ...]]:
    try:
        db.execute(f"SELECT rowid FROM {table} LIMIT 0")  # noqa: S608 - our own names
    except sqlite3.OperationalError:  # a table without: what lies before the damage
        return iter(db.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608
    return (row[1:] for row in readable.rows(db, table, "rowid", columns, lost))
