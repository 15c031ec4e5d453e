"""A copy of the whole store while it is written to: days first, `main.db` last, each verified.

All day files are looked at in one moment, before the first is copied. Should that moment lie between the commits of
two days, a request that was taken for dead before midnight and ended after it is dropped from the copy of its first
day, as the second of these commits does. What the collector commits meanwhile goes into write-ahead logs that are not
cut back before the copy is done.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from bitville_apm import limits
from bitville_apm.store.interface import BackedUp, NoSpace
from bitville_apm.store.sqlite.day import Day
from bitville_apm.store.sqlite.files import StoreError, days_in, open_reader, size_of

FOLDER = "backups"
"""Below the data directory: where copies go that were not told another place."""
_KEY = "local.key"
_PARTIAL = ".partial"


def back_up(
    directory: Path,
    to: Path,
    now: datetime.datetime,
    tell: Callable[[str, float], None] = lambda name, share: None,
) -> BackedUp:
    """Copy a store into a new folder of `to`, named by the time. `tell` hears of each file and how much is done.

    Raises `StoreError` with one line where a copy is not whole, `NoSpace`, `sqlite3.Error`, `OSError`. What was
    begun is removed.
    """
    with contextlib.ExitStack() as stack:
        sources: list[tuple[str, Callable[[], sqlite3.Connection]]] = []
        size = 0
        for path in sorted(days_in(directory).values()):
            with contextlib.suppress(FileNotFoundError):
                size += size_of(path)
                source = stack.enter_context(_snapshot(path))
                sources.append((path.name, lambda source=source: source))  # type: ignore[misc]
        main = directory / "main.db"
        size += size_of(main)
        sources.append((main.name, lambda: stack.enter_context(_snapshot(main))))
        final, partial = _folder(to, now, size)
        try:
            files = {name: _copied(open_source(), partial / name, tell) for name, open_source in sources}
            _drop_died_that_ended(partial)
            if (directory / _KEY).exists():
                shutil.copy2(directory / _KEY, partial / _KEY)
            _make_durable(partial)
            partial.rename(final)
            _make_durable(to)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return BackedUp(folder=str(final), files=files)


@contextlib.contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A file as it is in this moment, whatever is committed to it later."""
    with contextlib.closing(open_reader(path)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is taken by the first question
        yield db


def _folder(to: Path, now: datetime.datetime, size: int) -> tuple[Path, Path]:
    """The folder of this copy, and the one it is made in. Raises `NoSpace` where it would not fit."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in to.glob(f"*{_PARTIAL}"):
        shutil.rmtree(left)  # of one that was killed
    free = shutil.disk_usage(to).free
    if free < size + limits.RESERVE_BYTES:
        raise NoSpace(f"{to}: {size >> 20} MiB are needed and {free >> 20} MiB are free")
    final = to / f"{now:%Y%m%dT%H%M%SZ}"
    if final.exists():
        raise StoreError(f"{final} is there already; wait a second")
    partial = Path(f"{final}{_PARTIAL}")
    partial.mkdir(mode=0o700)
    return final, partial


def _copied(source: sqlite3.Connection, path: Path, tell: Callable[[str, float], None]) -> int:
    """Copy one file and read the copy as a whole; its size in bytes."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
        source.backup(
            copy,
            pages=limits.BACKUP_PAGES,
            progress=lambda _, left, total: tell(path.name, 1 - left / max(1, total)),
            sleep=0,
        )
        source.rollback()  # its write-ahead log may be cut back from here on
        (told,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if told != "ok":
            raise StoreError(f"the copy of {path.name} is not whole: {told}")
        copy.execute("PRAGMA journal_mode = WAL")
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def _drop_died_that_ended(folder: Path) -> None:
    """Requests that one day calls dead and the next knows the end of."""
    days = days_in(folder)
    for date, path in days.items():
        later = days.get(date + datetime.timedelta(days=1))
        dead = _dead(path) if later is not None else []
        if later is None or not dead:
            continue
        with contextlib.closing(Day.open(path)) as day, contextlib.closing(Day.open(later)) as next_day:
            ended = [one for one in dead if next_day.kind_of(*one) not in (None, "died")]
            if ended:
                day.begin()
                for project, id in ended:
                    day.drop_died(project, id)
                day.prepare()
                day.commit()


def _dead(path: Path) -> list[tuple[str, str]]:
    """Project and id of the requests that a copied day calls dead."""
    question = "SELECT text, request.id FROM request JOIN name ON name.id = project WHERE kind = 'died'"
    with contextlib.closing(sqlite3.connect(path)) as db:  # one that may write: it leaves nothing beside the file
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # it was just being made
        return [(project, str(uuid.UUID(bytes=id))) for project, id in db.execute(question)]


def _make_durable(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
