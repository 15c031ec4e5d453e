"""Opening SQLite files: who owns them, what they look like inside, and which day is in which.

A file whose schema is older is brought up to date when a writer opens it; one written by a newer version is
refused, since only that version knows what it may not touch.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import zstandard
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.sqlite import upgrading

_log = Logger()
VERSIONS = {"day": 6, "main": 6}
"""The schema version this code writes, kept in the file as `user_version`."""

SQL_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading a damaged file raises: also where SQLite's message repeats bytes of it that are no text."""
VERSION_MOST = 1000
"""A version beyond it is a flipped bit, not a program of the future."""
_DAMAGE = (
    "malformed",
    "not a database",
    "decode to UTF-8",
    "no such table",
    "no such column",
    "already exists",
    "parse error",
    "fts5",
)
_BEFORE = ".version-"
_IOERR_SHORT_READ = 522
_EPOCH = datetime.date(1970, 1, 1)
_DAY = re.compile(r"day-(\d{4})(\d\d)(\d\d)\.db\Z")


class StoreError(Exception):
    """The store cannot be used: one line that says what to do."""


def day_of(seconds: float) -> datetime.date:
    """The UTC day of a unix time."""
    return day_numbered(int(seconds // 86_400))


def day_path(directory: Path, day: datetime.date) -> Path:
    """The file of a day."""
    return directory / f"day-{day:%Y%m%d}.db"


def number_of(day: datetime.date) -> int:
    """A day as `main.db` counts them: days since 1970."""
    return (day - _EPOCH).days


def day_numbered(number: int) -> datetime.date:
    """The day of such a number."""
    return _EPOCH + datetime.timedelta(days=number)


def remove_day(directory: Path, day: datetime.date) -> None:
    """Unlink a day's file, then what SQLite keeps beside it: nobody can open the one without the others; then what an
    upgrade left.
    """
    path = day_path(directory, day)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    for copy in directory.glob(f"{path.name}{_BEFORE}*"):
        copy.unlink(missing_ok=True)


def days_in(directory: Path) -> dict[datetime.date, Path]:
    """The days that have a file, newest first."""
    found = {}
    for path in directory.iterdir():
        match = _DAY.match(path.name)
        if match:
            try:
                found[datetime.date(*map(int, match.groups()))] = path
            except ValueError:
                continue
    return dict(sorted(found.items(), reverse=True))


def open_writer(path: Path, schema: str) -> sqlite3.Connection:
    """A connection that may write, to a file that is made if missing. Raises `StoreError`, `sqlite3.Error`, `OSError`.

    Transactions are begun and ended by hand.
    """
    _create(path)
    db = sqlite3.connect(path, timeout=limits.BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size = {limits.PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA cache_size = -{limits.WRITER_CACHE_BYTES // limits.KIB}")
        db.execute(f"PRAGMA journal_size_limit = {limits.WAL_KEPT_BYTES}")
        _bring_up_to_date(db, path, schema)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what is done within, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def bring_days_up_to_date(directory: Path) -> None:
    """Do for the days of an older version what opening them as a writer does: readers come first to most of them.

    Raises `StoreError`. A damaged file is left to whoever finds it.
    """
    for path in days_in(directory).values():
        try:
            with contextlib.closing(open_reader(path)) as db:
                old = _version(db)
            if 0 < old < VERSIONS["day"]:
                open_writer(path, "day").close()
                _log.info("{name} is brought up to date", name=path.name)
        except SQL_ERRORS as error:
            _log.warn("{name} is not brought up to date: {error}", name=path.name, error=str(error))


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Each of its questions sees one commit, whole."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro",
        uri=True,
        timeout=limits.BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def is_full(error: BaseException, directory: Path) -> bool:
    """Whether an error means that the disk has no room left.

    SQLite says so itself where a write fails, but not where a file or its shared memory cannot be made.
    """
    if isinstance(error, sqlite3.Error) and "is full" in str(error):
        return True
    if not isinstance(error, sqlite3.OperationalError | OSError):
        return False
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < limits.DISK_FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def is_damage(error: BaseException) -> bool:
    """Whether an error means that what is in a file is not what was written there.

    SQLite's own word for it is a bare `DatabaseError`; a text that is no UTF-8, a table that is missing or there twice
    and a file that ends too early come as `OperationalError`, like locks and full disks, which are no damage.
    """
    if type(error) is sqlite3.DatabaseError:
        return "readonly" not in str(error)
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", None)  # None before Python 3.11
        return code == _IOERR_SHORT_READ or any(words in str(error) for words in _DAMAGE)
    return isinstance(error, zstandard.ZstdError | UnicodeDecodeError)


def flaw_of(path: Path) -> str | None:
    """What SQLite finds wrong with a whole file, None where it finds nothing. Reads all of it: seconds a gigabyte."""
    try:
        with contextlib.closing(open_reader(path)) as db:
            (told,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            return None if told == "ok" else str(told)
    except SQL_ERRORS as error:
        return str(error) if is_damage(error) else None


def _create(path: Path) -> None:
    """Make the file before SQLite does: readable by its group only, and the directory's owner's also when root
    makes it, since the daemon must be able to write what a command line has begun. SQLite gives its -wal and
    -shm files the same owner and mode.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _bring_up_to_date(db: sqlite3.Connection, path: Path, schema: str) -> None:
    """Run the scripts of later versions, all or none; before that a file that has something is copied beside it."""
    version = VERSIONS[schema]
    old = _version(db)
    if old == version:
        return
    upgrading.prepare(db)
    if 0 < old < version:
        _copy_before(db, Path(f"{path}{_BEFORE}{old}"))
    db.execute("BEGIN IMMEDIATE")
    try:
        found = _version(db)  # again: another process may have been quicker
        if not 0 <= found <= VERSION_MOST:
            raise sqlite3.DatabaseError(f"{path}: its version is damaged")
        if found > version:
            raise StoreError(f"{path} was written by a newer version of Bitville APM; use that one")
        scripts = [f"{schema}.sql"] if found == 0 else []
        scripts += [f"{schema}-{n}.sql" for n in range(max(found, 1) + 1, version + 1)]
        for name in scripts:
            for statement in _statements(name):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _copy_before(db: sqlite3.Connection, copy: Path) -> None:
    """Keep a file as it is before an upgrade. An older copy of that version was made by an upgrade that failed."""
    copy.unlink(missing_ok=True)
    try:
        _create(copy)
        with contextlib.closing(sqlite3.connect(copy)) as target:
            db.backup(target)
    except (sqlite3.Error, OSError) as error:
        copy.unlink(missing_ok=True)
        raise StoreError(f"{copy} cannot be written before the upgrade ({error}); make room and start again") from None


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _statements(name: str) -> list[str]:
    """A schema file, statement by statement: `executescript` would end our transaction."""
    found, rest = [], ""
    for line in _lines(name):
        rest += line + "\n"
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return found


def _lines(name: str) -> Iterator[str]:
    """A schema file's lines; `-- include NAME` stands for those of another one."""
    text = resources.files("bitville_apm.store").joinpath("schema").joinpath(name).read_text("utf-8")
    for line in text.splitlines():
        _, include, other = line.partition("-- include ")
        yield from _lines(other) if include else [line]


def size_of(path: Path) -> int:
    """Bytes of a database, with what its write-ahead log holds. Raises `FileNotFoundError` where there is none."""
    log = Path(f"{path}-wal")
    size = path.stat().st_size
    with contextlib.suppress(FileNotFoundError):
        size += log.stat().st_size
    return size
