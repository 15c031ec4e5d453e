"""A day file that turned out to be damaged: read row by row, and what can be read is stored again.

The writer has set the file aside and goes on in a new one. Each row becomes the arrival it once was and takes the
way of any other, so that its rolls are made anew, and a record that its sender brought again meanwhile is a
duplicate. Stopped half-way, it can be done once more from the beginning.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import Logger

from bitville_apm import cells, limits, reading, requests
from bitville_apm.store.interface import Arrival
from bitville_apm.store.sqlite import packing, readable, rescue
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.day import Mark
from bitville_apm.store.sqlite.files import SQL_ERRORS, day_path, number_of, open_reader, open_writer

_log = Logger()
_ALL = -1
"""Stands for a number of lost records that nothing tells: the file is no database any more."""
_COLUMNS = {
    "request": "project, host, id, recv_ms, kind, rolled",
    "frame": "project, host, id, CAST(at * 1000 AS INTEGER), 'frame', 0, body",
    "postgres": "project, host, id, recv_ms, 'pg', 0, body",
}


@attrs.define(eq=False)
class Salvage:
    """Damaged files of one directory. Synchronous, one call at a time; `store` takes a batch on the writer's
    thread."""

    directory: Path
    store: Callable[[Sequence[Arrival]], object]
    keep_on: Callable[[datetime.date, Sequence[Mark]], object]
    """Has the writer bring watermarks into a day."""
    stopping: bool = False

    def run(self) -> None:
        """Salvage every damaged file that was not yet. Raises `sqlite3.Error`, `OSError`, what `store` raises."""
        with contextlib.closing(open_writer(self.directory / "main.db", "main")) as main:
            done = {file for (file,) in main.execute("SELECT file FROM damage")}
            for path in sorted(self.directory.glob("damaged-*.db")):
                if path.name in done or rescue.is_main(path):
                    continue
                day = datetime.datetime.strptime(path.name[8:16], "%Y%m%d").date()  # noqa: DTZ007 - a day
                saved, lost = self._salvage(path, day, main)
                if self.stopping:
                    return
                main.execute(
                    "INSERT OR REPLACE INTO damage (file, day, saved, lost) VALUES (?,?,?,?)",
                    (path.name, number_of(day), saved, lost),
                )
                _log.error("{file}: {saved} records came back, {lost} are lost", file=path.name, saved=saved, lost=lost)

    def note(self, missing: Mapping[datetime.date, int]) -> None:
        """Remember days whose newest commits are gone, so that it is told for as long as they are kept."""
        if not missing:
            return
        with contextlib.closing(open_writer(self.directory / "main.db", "main")) as main:
            for day, lost in missing.items():
                name = day_path(self.directory, day).name
                _log.error("{file}: its newest {lost} records are gone, cut off by damage", file=name, lost=lost)
                main.execute(
                    "INSERT INTO damage (file, day, saved, lost) VALUES (?, ?, 0, ?)"
                    " ON CONFLICT DO UPDATE SET lost = lost + excluded.lost",
                    (name, number_of(day), lost),
                )

    def _salvage(self, path: Path, day: datetime.date, main: sqlite3.Connection) -> tuple[int, int]:
        """How many records of a file came back, and how many did not."""
        file = _File(path, lambda id: _dictionary(main, id))
        saved = 0
        batch: list[Arrival] = []
        for arrival in file.arrivals():
            batch.append(arrival)
            if len(batch) == limits.SALVAGE_BATCH:
                if self.stopping:
                    return 0, 0
                self.store(batch)
                saved, batch = saved + len(batch), []
        if batch:
            self.store(batch)
        if file.marks:
            self.keep_on(day, file.marks)
        saved += len(batch)
        return saved, file.lost if file.records is None or file.lost == _ALL else max(0, file.records - saved)


def _dictionary(main: sqlite3.Connection, id: int) -> bytes | None:
    row = main.execute("SELECT body FROM dictionary WHERE id = ?", (id,)).fetchone()
    return bytes(row[0]) if row else None


@attrs.define(eq=False)
class _File:
    """One damaged file, as far as it can be read. `dictionary` knows those that it may have lost."""

    path: Path
    dictionary: Callable[[int], bytes | None]
    lost: int = 0
    """Rows that cannot be read, as far as they can be told."""
    records: int | None = None
    """How many records the file says it has."""
    marks: list[Mark] = attrs.field(factory=list)
    """Its watermarks, once `arrivals` is through."""

    def arrivals(self) -> Iterator[Arrival]:
        """What every readable row once came as."""
        try:
            db = open_reader(self.path)
        except SQL_ERRORS:
            self.lost = _ALL
            return
        with contextlib.closing(db):
            try:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except SQL_ERRORS:
                self.lost = _ALL
                return
            with contextlib.suppress(*SQL_ERRORS):
                (self.records,) = db.execute("SELECT records FROM change").fetchone() or (None,)
            names = {row[0]: row[1] for row in self._rows(db, "name", "id", "text")}
            self.lost = 0  # a name is no record; those that needed it count below
            bodies = Bodies(db, self.dictionary)
            for table, columns in _COLUMNS.items():
                for row in self._rows(db, table, "row", columns):
                    try:
                        yield _arrival(db, row, names, bodies)
                    except Exception:  # noqa: BLE001 - whatever is wrong with this row, the next one may be whole
                        self.lost += 1
            with contextlib.suppress(*SQL_ERRORS):
                rows = db.execute("SELECT project, journal, run, seq, items FROM watermark")
                self.marks = [(names[project], *mark) for project, *mark in rows if project in names]

    def _rows(self, db: sqlite3.Connection, table: str, key: str, columns: str) -> Iterator[tuple[Any, ...]]:
        like = ("payload",) if table == "request" else ()
        return readable.rows(db, table, key, columns, self._lose, like)

    def _lose(self) -> None:
        self.lost += 1


def _arrival(db: sqlite3.Connection, row: tuple[Any, ...], names: dict[int, str], bodies: Bodies) -> Arrival:
    """The arrival a row once was. Raises whatever a damaged one makes go wrong.

    Its id is the body's own, which a checksum covers.
    """
    number, project, host, id, recv_ms, kind, rolled, *body = row
    if not body:
        body = list(db.execute("SELECT body FROM payload WHERE row = ?", (number,)).fetchone())
    plain = bodies.decompress(body[0])
    if kind == "frame":
        plain = packing.body_of(plain, names.__getitem__)
    line = reading.read_body(kind, plain, recv_ms)
    more: dict[str, Any] = {}
    if kind in ("frame", "pg"):
        more["frame" if kind == "frame" else "postgres"] = line.message
    else:
        more["request"] = request = requests.request_of(line)
        more["client_id"] = requests.client_id(line)
        if rolled:
            more["cells"] = cells.of_request(request, requests.profile_of(line.message))
    return Arrival(
        project=names[project], kind=kind, id=line.id or str(uuid.UUID(bytes=id)), recv_ms=recv_ms, host=names[host],
        body=line.body, **more,
    )  # fmt: skip


def told(directory: Path) -> list[str]:
    """For `/ready`: a sentence for each damaged file."""
    with contextlib.closing(open_reader(directory / "main.db")) as main:
        known = {row[0]: row[1:] for row in main.execute("SELECT file, saved, lost FROM damage")}
    said = []
    for path in sorted(directory.glob("damaged-*.db")):
        saved, lost = known.pop(path.name, (None, None))
        if rescue.is_main(path):
            said.append(rescue.told(path.name, saved or 0, lost or 0))
            continue
        day = f"{path.name[8:12]}-{path.name[12:14]}-{path.name[14:16]}"
        what = "what can be read is being stored again" if saved is None else f"{saved} came back, {lost} are lost"
        what = "nothing in it could be read, all are lost" if lost == _ALL else what
        said.append(f"records of {day} were in a damaged file, now {path.name}: {what}")
    for name, (_, lost) in sorted(known.items()):
        if name.startswith("day-"):
            said.append(f"{name} was damaged at its end: the newest {lost} records it had at some time are lost")
    return said
