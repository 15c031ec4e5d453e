"""The files of one journal, as `segment.py` describes them. Everything here blocks: for the journal's thread."""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import attrs

from bitville_apm import files, limits
from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import recovery, segment
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.recovery import Segment
from bitville_apm.agent.segment import HEADER_BYTES, Entry, Header, Place, Record


@attrs.frozen
class Found:
    """What a journal held when it was opened.

    `written` is the place of its last record, `pending` how many wait for a collector. `recent` are the first 8
    bytes of the ids that came in the 15 minutes before its newest record, sorted.
    """

    journal_id: bytes
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
class Disk:
    """One journal's directory. `policy` is always, interval or never (design.md 4)."""

    directory: Path
    policy: str
    journal_id: bytes = b""
    run: int = 0
    _cursor: Cursor = attrs.field(factory=Cursor)
    _cursor_written: Cursor = attrs.field(factory=Cursor)
    _segments: list[Segment] = attrs.Factory(list)
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
        self._segments = recovery.listed(self.directory)
        self.journal_id = recovery.identify(self.directory, self._segments, fresh=kept is None and not self._segments)
        self._cursor = self._cursor_written = kept or Cursor()
        if not sure and self._segments:
            # What lies before the first segment was acknowledged once, as far as anyone can tell: it is not lost.
            first = (self._segments[0].run, self._segments[0].first - 1)
            self._cursor = attrs.evolve(self._cursor, acked=max(first, self._cursor.acked))
        looked = recovery.look_through(self._segments, self._cursor.acked)
        self._segments, self._run_ends = looked.segments, looked.run_ends
        last_run = self._segments[-1].run if self._segments else 0
        self.run = max(last_run, self._cursor.run) + 1
        self._previous = (last_run, self._run_ends.get(last_run, 0))
        self._next = 1
        self._cursor = attrs.evolve(self._cursor, run=self.run)
        self._write_cursor()
        return Found(
            self.journal_id, self._cursor.acked, self._previous, looked.pending, looked.pending_bytes, looked.recent
        )

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
        self._segments.append(Segment(self.run, self._next, path))

    def _undo(self) -> None:
        """Take back a write that failed. Where even that fails, the next append does it before it writes."""
        self._dirty = self._descriptor >= 0
        if self._dirty:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                self._dirty = False

    # --- reading and removing -------------------------------------------------------------------------------

    def _rest(self, file: Segment, after: Place) -> tuple[bytes, int]:
        """The bytes of a segment and where in them to begin."""
        if self._read_hint is not None and self._read_hint[:2] == (after, file.path):
            return recovery.contents(file.path, start=self._read_hint[2]), 0
        return recovery.contents(file.path), HEADER_BYTES

    def _lost_between(self, after: Place, file: Segment) -> int:
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


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written
