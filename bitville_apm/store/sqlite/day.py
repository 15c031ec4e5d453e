"""One day's file, as its only writer sees it: what is in it, and how one arrival changes it.

Changes gather in a transaction that `begin` opens and `commit` or `rollback` ends. Cells are added up in memory
until the commit, so that a value that a hundred records share is one row read and one written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from bitville_apm import cells as cells_of
from bitville_apm import limits, reading, records
from bitville_apm.cells import Columns
from bitville_apm.records import Frame, Postgres
from bitville_apm.requests import Request, request_of
from bitville_apm.store.interface import Arrival
from bitville_apm.store.sqlite import compressing, loads, packing, rolls
from bitville_apm.store.sqlite.compressing import Bodies
from bitville_apm.store.sqlite.files import open_writer
from bitville_apm.store.sqlite.gathering import Requests
from bitville_apm.version1 import seconds_of

Mark = tuple[str, str, int, int, int]
"""A watermark: project, journal, run, highest sequence number, items."""

_WATERMARK = (
    "INSERT INTO watermark (project, journal, run, seq, items) VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE"
    " SET seq = max(seq, excluded.seq), items = items + excluded.items"
)
_CHANGED = (
    "UPDATE change SET n = n + 1, records = records + ?,"
    " newest = max(newest, (SELECT coalesce(max(row), 0) FROM request))"
)


@attrs.define(eq=False)
class Day:
    """An open day file. Belongs to the writer's thread."""

    path: Path
    _db: sqlite3.Connection
    _names: dict[str, int] = attrs.field(factory=dict)
    _present: set[tuple[int, int]] = attrs.field(factory=set)
    _cells: dict[rolls.Place, dict[int, Columns]] = attrs.field(factory=dict)
    _watermarks: dict[tuple[int, str, int], tuple[int, int]] = attrs.field(factory=dict)
    bodies: Bodies = attrs.field(init=False)
    _requests: Requests = attrs.field(init=False)
    _new: int = 0
    """Records more than at `begin`."""
    _records: int = 0
    _taught: bool = False
    wants_dictionary: bool = False
    """Whether it has records enough to learn a dictionary of its own, and has none."""

    def __attrs_post_init__(self) -> None:
        self.bodies = Bodies(self._db)
        self._requests = Requests(self._db, self.bodies)
        (self._records,) = self._db.execute("SELECT records FROM change").fetchone()
        self._taught = bool(self._db.execute("SELECT 1 FROM dictionary WHERE learned").fetchone())

    @classmethod
    def open(cls, path: Path) -> Day:
        """Open a day's file, made if missing. Raises `StoreError`, `sqlite3.Error`, `OSError`."""
        return cls(path, open_writer(path, "day"))

    # --- Transactions -------------------------------------------------------------------------------------

    @property
    def changing(self) -> bool:
        """Whether a transaction is open."""
        return self._db.in_transaction

    def begin(self) -> None:
        """Open a transaction if none is."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def prepare(self) -> None:
        """Do all that a commit needs but the commit itself."""
        self._requests.write()
        self._flush()
        self._db.executemany(
            _WATERMARK, [(project, journal, run, *held) for (project, journal, run), held in self._watermarks.items()]
        )
        self._watermarks.clear()
        self._db.execute(_CHANGED, (self._new,))

    def commit(self) -> int:
        """Make durable what was written and prepared; how many records the file has now.

        On an error nothing is changed after `rollback`.
        """
        self._db.execute("COMMIT")
        self._records, self._new = self._records + self._new, 0
        if not self._taught and self._records >= limits.DICTIONARY_RECORDS:
            self._taught = self.wants_dictionary = True
        if len(self._names) > limits.NAMES_CACHED:
            self._names.clear()
            self._present.clear()
        return self._records

    def rollback(self) -> None:
        """Forget everything since `begin`, numbers of new names included."""
        for gathered in (self._names, self._present, self._cells, self._watermarks):
            gathered.clear()
        self._new = 0
        self._requests.forget()
        self.bodies.forget()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file: readers keep connections, so closing alone would not."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close."""
        self._db.close()

    # --- What it learned and knows of others ----------------------------------------------------------------

    def teach(self, id: int, dictionary: bytes, *, own: bool) -> None:
        """Compress with a dictionary from now on; `own`: it was learned from this day. Outside a transaction."""
        compressing.add(self._db, id, dictionary, own=own)
        self.bodies.forget()

    def keep_on(self, marks: Sequence[Mark]) -> None:
        """Take over the watermarks of another file of this day. Outside a transaction."""
        self.begin()
        self._db.executemany(_WATERMARK, [(self._name(project), *mark) for project, *mark in marks])
        self._db.execute("COMMIT")

    # --- Requests -----------------------------------------------------------------------------------------

    def kind_of(self, project: str, id: str) -> str | None:
        """The kind of the request that is held under this identity; None when there is none."""
        number = self._known(project)
        return None if number is None else self._requests.kind_of((number, _bytes_of(id)))

    def add_request(self, arrival: Arrival, request: Request) -> None:
        """Add a request that is not held yet, and what it adds to the rolls."""
        project, host = self._place(arrival)
        self._requests.add(
            (project, _bytes_of(arrival.id)),
            arrival,
            request,
            host=host,
            endpoint=self._name(request.endpoint),
            release=self._name(request.release) if request.release else None,
        )
        self._new += 1
        if arrival.cells:
            flat = ((dimension, value, columns) for (dimension, value), columns in arrival.cells.items())
            self._roll(project, host, _minute(request, arrival.recv_ms), flat)

    def drop_died(self, project: str, id: str) -> None:
        """Remove a request that was taken for dead, and what it added to the rolls."""
        number = self._name(project)
        held = self._requests.remove((number, _bytes_of(id)))
        if held.rolled:
            died = request_of(reading.read_body("died", held.body, held.recv_ms))
            self._flush()
            flat = (
                (dimension, value, columns) for (dimension, value), columns in cells_of.of_request(died, None).items()
            )
            self._roll(number, held.host, _minute(died, held.recv_ms), flat)
            rolls.take_out(self._db, self.bodies, self._cells, self._other)
            self._cells.clear()
        self._new -= 1

    # --- Frames and Postgres ------------------------------------------------------------------------------

    def add_frame(self, arrival: Arrival, frame: Frame) -> bool:
        """Add a frame and its cells; whether it was new."""
        project, host = self._place(arrival)
        id = _bytes_of(arrival.id)
        if self._db.execute("SELECT 1 FROM frame WHERE project = ? AND id = ?", (project, id)).fetchone():
            return False
        self._db.execute(
            "INSERT INTO frame (project, id, at, host, body) VALUES (?,?,?,?,?)",
            (project, id, frame.at, host, self.bodies.compress_plain(packing.packed(arrival.body, self._name))),
        )
        self._new += 1
        self._roll(project, host, int(frame.at // 60), cells_of.of_frame(frame))
        loads.add(self._db, project, host, frame)
        return True

    def has_postgres(self, project: str, id: str) -> bool:
        """Whether this observation is held."""
        number = self._known(project)
        held = (
            number is not None
            and self._db.execute(
                "SELECT 1 FROM postgres WHERE project = ? AND id = ?", (number, _bytes_of(id))
            ).fetchone()
        )
        return bool(held)

    def add_postgres(self, arrival: Arrival, seen: Postgres) -> None:
        """Add an observation that is not held yet."""
        project, host = self._place(arrival)
        at = seen.at if seen.at is not None else seconds_of(seen.timestamp)
        correlation = records.canonical_id(seen.correlation_id) if seen.correlation_id else None
        self._db.execute(
            "INSERT INTO postgres (project, id, at, recv_ms, host, source, correlation, body) VALUES (?,?,?,?,?,?,?,?)",
            (
                project,
                _bytes_of(arrival.id),
                at if at is not None else arrival.recv_ms / 1000,
                arrival.recv_ms,
                host,
                self._name(seen.source),
                _bytes_of(correlation) if correlation else None,
                self.bodies.compress(arrival.body),
            ),
        )
        self._new += 1

    def note(self, arrival: Arrival, new: bool) -> None:
        """Remember how far the sender's journal has come."""
        if arrival.journal is None or arrival.seq is None:
            return
        run, seq = arrival.seq
        key = (self._name(arrival.project), arrival.journal, run)
        highest, items = self._watermarks.get(key, (0, 0))
        self._watermarks[key] = (max(highest, seq), items + new)

    # --- Names and rolls ----------------------------------------------------------------------------------

    def _place(self, arrival: Arrival) -> tuple[int, int]:
        """The numbers of project and host, noted as present."""
        place = (self._name(arrival.project), self._name(arrival.host))
        if place not in self._present:
            self._db.execute("INSERT OR IGNORE INTO presence (project, host) VALUES (?, ?)", place)
            self._present.add(place)
        return place

    def _known(self, text: str) -> int | None:
        """The number of a name that is in the file; None when it is not."""
        number = self._names.get(text)
        if number is None:
            row = self._db.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
            if row is None:
                return None
            number = self._names[text] = int(row[0])
        return number

    def _name(self, text: str) -> int:
        """The number of a name, given to it now if it is new."""
        text = text[: limits.NAME_CHARACTERS]
        number = self._known(text)
        if number is None:
            self.begin()
            number = self._db.execute("INSERT INTO name (text) VALUES (?)", (text,)).lastrowid
            assert number is not None  # noqa: S101 - an insert that did not raise has a row
            self._names[text] = number
        return number

    def _other(self) -> int:
        return self._name(cells_of.OTHER)

    def _roll(self, project: int, host: int, minute: int, cells: Iterable[tuple[str, str, Columns]]) -> None:
        """Add cells to those of this commit."""
        tables: dict[str, dict[int, Columns]] = {}
        known = self._names.get
        for dimension, value, columns in cells:
            table = tables.get(dimension)
            if table is None:
                place = (project, self._name(dimension), minute, host)
                table = tables[dimension] = self._cells.setdefault(place, {})
            number = known(value)
            if number is None:
                number = self._name(value)
            held = table.get(number)
            if held is None:
                held = table[number] = Columns()
            held.add(columns)

    def _flush(self) -> None:
        rolls.add(self._db, self.bodies, self._cells, self._other)
        self._cells.clear()


def _bytes_of(id: str) -> bytes:
    """The 16 bytes of a canonical id."""
    return bytes.fromhex(id.replace("-", ""))


def _minute(request: Request, recv_ms: int) -> int:
    recv = recv_ms / 1000
    return int(max(recv - limits.END_BEFORE_RECV_S, min(request.end, recv)) // 60)
