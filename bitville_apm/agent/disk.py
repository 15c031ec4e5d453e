"""The files of one journal, as `segment.py` describes them. Everything here blocks: for the journal's thread."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import attrs

from bitville_apm import files, limits
from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import recovery
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.reader import Read, Reader
from bitville_apm.agent.recovery import Segment
from bitville_apm.agent.segment import Entry, Place, Record
from bitville_apm.agent.totals import Count, Totals
from bitville_apm.agent.writer import Writer


@attrs.frozen
class Found:
    """What a journal held when it was opened.

    `acked`, `covered`, `totals`: of its cursor. `newest` is its last record, `entered` what has entered so far.
    `behind_bytes` is about how much of it waits. `recent` are the first 8 bytes of the ids that came in the 15 minutes
    before its newest record, sorted.
    """

    journal_id: bytes
    run: int
    acked: Place
    covered: Place
    newest: Record | None
    totals: Totals
    entered: Count
    behind_bytes: int
    recent: array[int]


@attrs.frozen
class Appended:
    """How many entries are written from the place `first` on, up to where all is durable, and what stopped the rest.

    Of the rest nothing is left.
    """

    first: Place
    done: int
    durable: Place
    error: OSError | None


@attrs.frozen
class Excess:
    """The oldest segments up to `through` have to go, `why` by the name of the total; `entered` is what had by then."""

    through: Place
    entered: Count
    why: str


@attrs.define(eq=False)
class Disk:
    """One journal's directory. `policy` is always, interval or never (design 4).

    `most_bytes` is its bound, with all that is in directories below it; None for a journal that only age bounds.
    `counted`: its records are added into frames, and a segment stays until that is durable (`covered`).
    """

    directory: Path
    policy: str
    most_bytes: int | None = None
    counted: bool = False
    journal_id: bytes = b""
    run: int = 0
    _cursor: Cursor = attrs.field(factory=Cursor)
    _cursor_written: Cursor = attrs.field(factory=Cursor)
    _segments: list[Segment] = attrs.Factory(list)
    _writer: Writer | None = None
    _before: Place = (0, 0)
    _sending: Reader = attrs.Factory(Reader)
    _folding: Reader = attrs.Factory(Reader)

    # --- life -----------------------------------------------------------------------------------------------

    def open(self) -> Found:
        """Read what is there and begin a new run. Never fails because of data; `OSError` when the disk does."""
        files.make_private(self.directory)
        kept, sure = cursors.read(self.directory / "cursor")
        segments = recovery.listed(self.directory)
        self.journal_id = recovery.identify(self.directory, segments, fresh=kept is None and not segments)
        cursor = kept or Cursor()
        first = segments[0] if segments else None
        if not sure and first is not None and first.before is not None and first.start > cursor.acked:
            # What lies before the first segment was settled, as far as anyone can tell: it is not lost.
            gone = first.before.beyond(cursor.totals.all)
            cursor = attrs.evolve(cursor, acked=first.start, totals=cursor.totals + Totals(forgotten=gone))
        ended = recovery.ended(segments)
        if segments:
            recovery.secure(segments[-1], ended.torn_at)
        entered = ended.entered + cursor.totals.all.beyond(ended.entered)
        self.run = max(segments[-1].run if segments else 0, cursor.run) + 1
        self._segments, self._before = segments, ended.place
        self._cursor = attrs.evolve(cursor, run=self.run, acked=self._past(cursor.acked))
        self._cursor_written = kept or Cursor()
        self._write_cursor()
        self._writer = Writer(self.directory, self.policy, self.journal_id, self.run, entered, self._began)
        behind = sum(s.size for s in self._segments if (s.run, s.first) > self._cursor.acked)
        return Found(
            self.journal_id,
            self.run,
            self._cursor.acked,
            self._cursor.covered,
            ended.newest,
            self._cursor.totals,
            entered,
            behind,
            recovery.recent(segments),
        )

    def close(self) -> None:
        """Make durable what there is, and let go of the files. Raises `OSError`."""
        if self._writer is not None:
            self._writer.close()

    @property
    def segments(self) -> int:
        """How many files of records there are."""
        return len(self._segments)

    # --- writing --------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> Appended:
        """Write entries in order."""
        writer = self._open()
        first, done, error = writer.next, 0, None
        try:
            while done < len(entries):
                done += writer.append(entries[done:])
        except OSError as problem:
            error = problem
        return Appended((self.run, first), done, writer.durable, error)

    def append_group(self, entries: Sequence[Entry]) -> Appended:
        """Write all of them or none, durably."""
        writer = self._open()
        first, done, error = writer.next, 0, None
        try:
            writer.append_group(entries)
            done = len(entries)
        except OSError as problem:
            error = problem
        return Appended((self.run, first), done, writer.durable, error)

    def sync(self) -> Place:
        """Make everything written so far durable: the place up to which it is. Raises `OSError`."""
        writer = self._open()
        writer.sync()
        return writer.durable

    def _open(self) -> Writer:
        if self._writer is None:
            raise OSError("the journal is not open")
        return self._writer

    def _began(self, file: Segment) -> None:
        if self._segments and self._segments[-1].start == file.start:
            del self._segments[-1]
        self._segments.append(file)

    # --- reading --------------------------------------------------------------------------------------------

    def read(self, after: Place, entered: Count, items: int, most_bytes: int) -> Read:
        """Durable records to be forwarded behind `after`, by which `entered` had entered. Raises `OSError`."""
        writer = self._open()
        through = (writer.durable, writer.durable_entered)
        return self._sending.read(self._segments, (after, entered), through, items, most_bytes)

    def read_back(self, after: Place, items: int, most_bytes: int) -> Read:
        """Written records of any kind behind `after`. Raises `OSError`."""
        writer = self._open()
        through = ((self.run, writer.next - 1), writer.entered)
        return self._folding.read_back(self._segments, after, through, items, most_bytes)

    # --- removing -------------------------------------------------------------------------------------------

    def settle(self, acked: Place, totals: Totals, covered: Place = (0, 0)) -> None:
        """Everything up to `acked` became `totals`, a durable frame counts everything up to `covered`.

        Remembers it, then removes what only held that. Raises `OSError`; the next call makes up for it.
        """
        self._cursor = attrs.evolve(
            self._cursor,
            acked=max(self._past(acked), self._cursor.acked),
            covered=max(self._past(covered), self._cursor.covered),
            totals=totals,
        )
        self._write_cursor()
        self._remove()

    def excess(self, now_ms: int | None) -> Excess | None:
        """What has to go for the bounds' sake: whole segments, never the newest; None when nothing has to.

        Without `now_ms` age is not looked at. Raises `OSError`.
        """
        found: tuple[int, str] | None = None
        if now_ms is not None:
            oldest = now_ms - limits.JOURNAL_AGE_S * 1000
            for index, (file, after) in enumerate(pairwise(self._segments), 1):
                # Old is what was both begun and ended long ago: one of the two may be a clock's mistake.
                if any(s.made_ms is None or s.made_ms >= oldest for s in (file, after)):
                    break
                found = index, "dropped_age"
        if self.most_bytes is not None:
            most, why = self.most_bytes, "dropped_bytes"
            system = os.statvfs(self.directory)
            share = int(system.f_blocks * system.f_frsize * limits.JOURNAL_DISK_SHARE)
            if 0 < share < most:
                most, why = share, "dropped_no_space"
            dropped = found[0] if found else 0
            held = sum(s.size for s in self._segments[dropped:]) + self._beside()
            while held > most and dropped + 1 < len(self._segments):
                held -= self._segments[dropped].size
                dropped += 1
                found = dropped, why
        while found and found[0] + 1 < len(self._segments) and self._segments[found[0]].before is None:
            found = found[0] + 1, found[1]
        first = self._segments[found[0]] if found else None
        if first is None or found is None or first.before is None:
            return None
        return Excess(first.start, first.before, found[1])

    def _past(self, place: Place) -> Place:
        """The same place; behind the last record of all earlier runs it is the beginning of this one."""
        return (self.run, 0) if self._before <= place < (self.run, 0) else place

    def _remove(self) -> None:
        done = min(self._cursor.acked, self._cursor.covered) if self.counted else self._cursor.acked
        while self._segments:
            if len(self._segments) == 1 and self._segments[0].run == self.run:
                return
            end = self._segments[1].start if len(self._segments) > 1 else (self.run, 0)
            if end > done:
                return
            self._segments[0].path.unlink(missing_ok=True)
            del self._segments[0]

    def _beside(self) -> int:
        """Bytes of the journals in directories below this one: they count, but are not dropped."""
        size = 0
        with os.scandir(self.directory) as entries:
            for directory in [entry for entry in entries if entry.is_dir(follow_symlinks=False)]:
                with os.scandir(directory) as below, contextlib.suppress(FileNotFoundError):
                    size += sum(file.stat(follow_symlinks=False).st_size for file in below)
        return size

    def _write_cursor(self) -> None:
        if self._cursor == self._cursor_written:
            return
        wanted = attrs.evolve(self._cursor, generation=self._cursor_written.generation + 1)
        cursors.write(self.directory / "cursor", wanted)
        self._cursor = self._cursor_written = wanted
