"""The files of one journal, as `segment.py` describes them. Everything here blocks: for the journal's thread."""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.logger import Logger

from bitville_apm import files, limits
from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import segment
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.segment import HEADER_BYTES, Entry, Header, Place, Record
from bitville_apm.agent.unread import first_half

_log = Logger()


@attrs.frozen
class Found:
    """What a journal held when it was opened.

    `written` is the place of its last record, `pending` how many wait for a collector. `recent` are the first 8
    bytes of the ids that came in the 15 minutes before its newest record, sorted.
    """

    journal_id: bytes
    run: int
    acked: Place
    written: Place
    pending: int
    pending_bytes: int
    recent: array[int]


@attrs.frozen
class Read:
    """Some records in order; `through` is the place reading has come to, `lost` how many are gone before it."""

    records: list[Record]
    through: Place
    lost: int


@attrs.define(eq=False)
class _Segment:
    run: int
    first: int
    path: Path


@attrs.define(eq=False)
class Disk:
    """One journal's directory. `policy` is always, interval or never (design.md 4)."""

    directory: Path
    policy: str
    journal_id: bytes = b""
    run: int = 0
    _cursor: Cursor = attrs.field(factory=Cursor)
    _cursor_written: Cursor = attrs.field(factory=Cursor)
    _segments: list[_Segment] = attrs.Factory(list)
    _run_ends: dict[int, int] = attrs.Factory(dict)
    _previous: Place = (0, 0)
    _next: int = 1
    _descriptor: int = -1
    _size: int = 0
    _dirty: bool = False
    _read_hint: tuple[Place, Path, int] | None = None

    def open(self) -> Found:
        """Read what is there and begin a new run. Never fails because of data; `OSError` when the disk does."""
        files.make_private(self.directory)
        kept, sure = cursors.read(self.directory / "cursor")
        self._segments = [
            _Segment(*place, self.directory / name)
            for name in sorted(os.listdir(self.directory))
            if (place := segment.named(name)) is not None
        ]
        self._identify(fresh=kept is None and not self._segments)
        self._cursor = self._cursor_written = kept or Cursor()
        if not sure and self._segments:
            # What lies before the first segment was acknowledged once, as far as anyone can tell: it is not lost.
            first = (self._segments[0].run, self._segments[0].first - 1)
            self._cursor = attrs.evolve(self._cursor, acked=max(first, self._cursor.acked))
        self._run_ends = {}
        pending, pending_bytes, recent = self._look_through()
        last_run = self._segments[-1].run if self._segments else 0
        self.run = max(last_run, self._cursor.run) + 1
        self._previous = (last_run, self._run_ends.get(last_run, 0))
        self._next = 1
        self._cursor = attrs.evolve(self._cursor, run=self.run)
        self._write_cursor()
        return Found(self.journal_id, self.run, self._cursor.acked, self._previous, pending, pending_bytes, recent)

    def append(self, entries: Sequence[Entry]) -> tuple[Place, int, OSError | None]:
        """Write entries in order: the place of the first, how many are written, and what stopped the rest.

        Under `always` what is written is durable too. What could not be written has left no trace.
        """
        first = (self.run, self._next)
        done = 0
        try:
            while done < len(entries):
                done += self._append_some(entries, done)
        except OSError as error:
            self._undo()
            return first, done, error
        return first, done, None

    def sync(self) -> Place:
        """Make everything written so far durable: the place up to which it is. Raises `OSError`."""
        through = (self.run, self._next - 1)
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
        return through

    def read(self, after: Place, through: Place, items: int, most_bytes: int) -> Read:
        """Records behind `after` and not beyond `through`, up to `items` and `most_bytes` or one larger.

        Reads on past what is damaged and says how many records that cost. Raises `OSError`.
        """
        start_index = max(0, bisect_right(self._segments, after, key=lambda s: (s.run, s.first - 1)) - 1)
        lost = 0
        for index in range(start_index, len(self._segments)):
            file = self._segments[index]
            if file.run < after[0]:
                continue
            if (file.run, file.first) > through:
                break
            lost += self._lost_between(after, file)
            after = max(after, (file.run, file.first - 1))
            data, start = self._rest(file, after)
            scanned = segment.scan(data, file.run, after[1], start)
            taken: list[Record] = []
            size = 0
            for record in scanned.records:
                size += record.size
                if record.place > through or len(taken) == items or (taken and size > most_bytes):
                    break
                lost += record.sequence - after[1] - 1
                after = record.place
                taken.append(record)
            if taken:
                self._read_hint = (after, file.path, scanned.ends[len(taken) - 1])
                return Read(taken, after, lost)
            if scanned.records:
                break
            if file.run < self.run and index + 1 == len(self._segments):
                end = self._run_ends.get(file.run, after[1])
                lost += max(0, end - after[1])
                after = max(after, (file.run, end))
        return Read([], after, lost)

    def acked(self, place: Place) -> None:
        """Everything up to `place` has been answered for: remember it, then remove what only held that.

        Raises `OSError`; the next call makes up for it.
        """
        self._cursor = attrs.evolve(self._cursor, acked=max(place, self._cursor.acked))
        self._write_cursor()
        while self._segments and self._is_done(0):
            self._segments[0].path.unlink(missing_ok=True)
            del self._segments[0]

    def close(self) -> None:
        """Make durable what there is, and let go of the files. Raises `OSError`."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def segments(self) -> int:
        """How many files of records there are."""
        return len(self._segments)

    # --- opening --------------------------------------------------------------------------------------------

    def _identify(self, fresh: bool) -> None:
        """Read the journal's id; a journal without a past gets a new one, so that no place is named twice."""
        path = self.directory / "id"
        found = b""
        if not fresh:
            with contextlib.suppress(OSError):
                found = path.read_bytes()
            for file in () if len(found) == 16 else self._segments:
                header = segment.decoded_header(_contents(file.path, HEADER_BYTES))
                if header is not None:
                    found = header.journal_id
        self.journal_id = found if len(found) == 16 else os.urandom(16)
        if self.journal_id != found or fresh:
            files.replace(path, self.journal_id)

    def _look_through(self) -> tuple[int, int, array[int]]:
        """Count what waits, learn where each run ended, collect the recent ids, cut a torn tail."""
        pending = pending_bytes = newest = 0
        recent: list[tuple[int, array[int]]] = []
        for file in list(self._segments):
            try:
                data = _contents(file.path)
            except OSError as error:
                file.path.rename(file.path.with_suffix(".unreadable"))
                self._segments.remove(file)
                _log.error("journal: {path} cannot be read and is set aside: {error}", path=file.path.name, error=error)
                continue
            header = segment.decoded_header(data)
            if header is not None:
                run, end = header.previous
                self._run_ends[run] = max(end, self._run_ends.get(run, 0))
            scanned = segment.scan(data, file.run)
            waiting = [r for r in scanned.records if r.place > self._cursor.acked]
            pending += len(waiting)
            pending_bytes += sum(r.size for r in waiting)
            newest = max([newest, *(r.entry.received_ms for r in scanned.records)])
            limit = newest - limits.UNREAD_ACK_S * 1000
            ids = [first_half(r.entry.id) for r in scanned.records if r.entry.received_ms >= limit]
            recent = [(at, kept) for at, kept in recent if at >= limit]
            if ids:
                recent.append((newest, array("Q", ids)))
            last = scanned.records[-1].sequence if scanned.records else file.first - 1
            self._run_ends[file.run] = max(last + scanned.lost_behind, self._run_ends.get(file.run, 0))
            if file is self._segments[-1]:
                self._mend(file.path, scanned.torn_at)
        return pending, pending_bytes, array("Q", sorted(i for _, ids in recent for i in ids))

    def _mend(self, path: Path, torn_at: int | None) -> None:
        """Cut a torn tail off the last segment and make the rest durable; a disk that refuses is no obstacle."""
        try:
            with path.open("r+b") as file:
                if torn_at is not None:
                    file.truncate(torn_at)
                    _log.info("journal: cut {path} at {at}, behind its last whole record", path=path.name, at=torn_at)
                os.fsync(file.fileno())
        except OSError as error:
            _log.warn("journal: {path} could not be mended: {error}", path=path.name, error=error)

    # --- writing --------------------------------------------------------------------------------------------

    def _append_some(self, entries: Sequence[Entry], done: int) -> int:
        """Write as many entries as fit into one segment; gives back how many."""
        if self._dirty:
            os.ftruncate(self._descriptor, self._size)
            self._dirty = False
        pieces: list[bytes] = []
        size = self._size if self._descriptor >= 0 else limits.SEGMENT_BYTES
        for sequence, entry in enumerate(entries[done:], self._next):
            length = segment.HEAD_BYTES + len(entry.body)
            if size + length > limits.SEGMENT_BYTES and (pieces or size > HEADER_BYTES):
                if pieces:
                    break
                self._begin_segment(entry.received_ms)
                size = self._size
            pieces.append(segment.encoded(entry, self.run, sequence))
            size += length
        _write_all(self._descriptor, b"".join(pieces), self._size)
        if self.policy == "always":
            os.fdatasync(self._descriptor)
        self._size = size
        self._next += len(pieces)
        return len(pieces)

    def _begin_segment(self, made_ms: int) -> None:
        """Finish the segment that is full and make the next one."""
        if self._descriptor >= 0 and self.policy != "never":
            os.fdatasync(self._descriptor)
        path = self.directory / segment.name(self.run, self._next)
        header = Header(self.run, self._next, self.journal_id, self._previous, made_ms)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, segment.encoded_header(header), 0)
            if self.policy != "never":
                files.sync_directory(self.directory)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size = descriptor, HEADER_BYTES
        self._segments.append(_Segment(self.run, self._next, path))

    def _undo(self) -> None:
        """Take back a write that failed. Where even that fails, the next append does it before it writes."""
        self._dirty = self._descriptor >= 0
        if self._dirty:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                self._dirty = False

    # --- reading and removing -------------------------------------------------------------------------------

    def _rest(self, file: _Segment, after: Place) -> tuple[bytes, int]:
        """The bytes of a segment and where in them to begin."""
        if self._read_hint is not None and self._read_hint[:2] == (after, file.path):
            return _contents(file.path, start=self._read_hint[2]), 0
        return _contents(file.path), HEADER_BYTES

    def _lost_between(self, after: Place, file: _Segment) -> int:
        """Records missing between a place and the beginning of a segment, where there is one behind it."""
        run, sequence = after
        if after == (0, 0) or (file.run, file.first) <= after:
            return 0
        if file.run == run:
            return file.first - 1 - sequence
        between = sum(end for other, end in self._run_ends.items() if run < other < file.run)
        return max(0, self._run_ends.get(run, sequence) - sequence) + between + file.first - 1

    def _is_done(self, index: int) -> bool:
        """Whether every record of a segment is answered for. The one being written to never is."""
        file = self._segments[index]
        if index + 1 < len(self._segments) and self._segments[index + 1].run == file.run:
            last = self._segments[index + 1].first - 1
        elif file.run < self.run:
            last = self._run_ends.get(file.run, 0)
        else:
            return False
        return self._cursor.acked >= (file.run, last)

    def _write_cursor(self) -> None:
        if self._cursor == self._cursor_written:
            return
        wanted = attrs.evolve(self._cursor, generation=self._cursor_written.generation + 1)
        cursors.write(self.directory / "cursor", wanted)
        self._cursor = self._cursor_written = wanted


def _contents(path: Path, most: int = -1, start: int = 0) -> bytes:
    """A file's bytes; none when it is missing, which is damage like any other."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(most)
    except FileNotFoundError:
        return b""


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
