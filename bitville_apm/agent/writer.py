"""The end of a journal that is written to: one run of segments. Everything here blocks.

What a disk may do, and what follows:

* A write fails, takes only a part of it twice, or says that it wrote what it did not (the file's length tells): the
  file is cut back to its last whole record, now or before the next write, and nothing of the entry remains.
* An fsync fails. The kernel may then have thrown away what was not on disk yet, and a later fsync of the same file
  succeeds without it. So that file is not trusted any more: a new segment begins behind the last record that was
  durable, with all written since, which is held in memory until an fsync has succeeded. Until that segment is
  durable nothing is taken.
* A write or an fsync never returns: the thread that calls this hangs, the reactor does not.

Under `always` a record is durable before `append` returns; under `interval` with the next `sync`; under `never`
when the system likes, and "durable" means written. A group is made durable at once under each of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from msgspec import structs

from bitville_apm import files, limits
from bitville_apm.agent import segment
from bitville_apm.agent.recovery import Segment
from bitville_apm.agent.segment import HEAD_BYTES, HEADER_BYTES, MORE, Entry, Header, Place
from bitville_apm.agent.totals import Count

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.define(eq=False)
class Writer:
    """One run. `policy` is always, interval or never; `began` is told of each new segment.

    `entered` is what has entered the journal so far, `next` the sequence of the next record. `durable` and
    `durable_entered` say the same of what is durable.
    """

    directory: Path
    policy: str
    journal_id: bytes
    run: int
    entered: Count
    began: Callable[[Segment], None]
    next: int = 1
    durable: Place = attrs.field(init=False)
    durable_entered: Count = attrs.field(init=False)
    _file: Segment | None = None
    _descriptor: int = -1
    _dirty: bool = False
    _named: bool = False
    _distrusted: bool = False
    _kept: list[bytes] = attrs.Factory(list)
    _kept_bytes: int = 0

    def __attrs_post_init__(self) -> None:
        self.durable, self.durable_entered = (self.run, 0), self.entered

    def append(self, entries: Sequence[Entry]) -> int:
        """Write as many of these entries as fit into one segment, in order; gives back how many.

        Raises `OSError`; nothing of them is left then.
        """
        self._make_ready()
        size = self._file.size if self._file is not None else limits.SEGMENT_BYTES
        fitting = 0
        for entry in entries:
            size += HEAD_BYTES + len(entry.body)
            if size > limits.SEGMENT_BYTES and fitting:
                break
            if size > limits.SEGMENT_BYTES and (self._file is None or self._file.size > HEADER_BYTES):
                self._begin(entry.received_ms)
                size = HEADER_BYTES + HEAD_BYTES + len(entry.body)
            fitting += 1
        self._write(entries[:fitting], durable=self.policy == "always")
        return fitting

    def append_group(self, entries: Sequence[Entry]) -> None:
        """Write entries of which all count or none, also after a crash, and make them durable. Raises `OSError`."""
        group = [structs.replace(entry, flags=entry.flags | MORE) for entry in entries[:-1]] + [entries[-1]]
        self._make_ready()
        size = sum(HEAD_BYTES + len(entry.body) for entry in group)
        file = self._file
        if file is None or (file.size > HEADER_BYTES and file.size + size > limits.SEGMENT_BYTES):
            self._begin(group[0].received_ms)
        self._write(group, durable=True)

    def sync(self) -> None:
        """Make everything written so far durable. Raises `OSError`."""
        if self._descriptor < 0:
            return
        if self._distrusted:
            self._renew()
        if self.durable != (self.run, self.next - 1) or self.policy == "never":
            self._make_durable()

    def close(self) -> None:
        """Make durable what there is, and let go of the file. Raises `OSError`."""
        try:
            self.sync()
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    # --- writing --------------------------------------------------------------------------------------------

    def _make_ready(self) -> None:
        if self._distrusted:
            self._renew()
        if self._dirty:
            self._cut_back()
        if self._kept_bytes > limits.UNSYNCED_BYTES:
            self._make_durable()

    def _write(self, entries: Sequence[Entry], durable: bool) -> None:
        file = self._file
        assert file is not None  # noqa: S101  # both callers began one
        pieces: list[bytes] = []
        entered, part = self.entered, 0
        for sequence, entry in enumerate(entries, self.next):
            pieces.append(segment.encoded(entry, self.run, sequence, entered, part))
            part = part + 1 if entry.flags & MORE else 0
            entered += entry.count
        data = b"".join(pieces)
        before = (self.next, self.entered, file.size)
        try:
            _write_all(self._descriptor, data, file.size)
            self.next, self.entered, file.size = self.next + len(entries), entered, file.size + len(data)
            if self.policy == "never":
                self.durable, self.durable_entered = (self.run, self.next - 1), entered
            if durable:
                self._make_durable()
            elif self.policy == "interval":
                self._kept.append(data)
                self._kept_bytes += len(data)
        except OSError:
            self.next, self.entered, file.size = before
            if self.policy == "never":
                self.durable, self.durable_entered = (self.run, self.next - 1), self.entered
            self._dirty = True
            with contextlib.suppress(OSError):
                self._cut_back()
            raise

    def _cut_back(self) -> None:
        if self._file is not None and self._descriptor >= 0:
            os.ftruncate(self._descriptor, self._file.size)
        self._dirty = False

    def _make_durable(self) -> None:
        try:
            os.fdatasync(self._descriptor)
            if not self._named:
                files.sync_directory(self.directory)
                self._named = True
        except OSError:
            self._distrusted = True
            raise
        self.durable, self.durable_entered = (self.run, self.next - 1), self.entered
        self._kept, self._kept_bytes = [], 0

    # --- segments -------------------------------------------------------------------------------------------

    def _begin(self, made_ms: int) -> None:
        """Finish the segment that is full and make the next one."""
        if self._descriptor >= 0 and self.policy != "never" and self.durable != (self.run, self.next - 1):
            self._make_durable()
        file = Segment(self.run, self.next, self.directory / segment.name(self.run, self.next))
        self._open(file, self.entered, made_ms, file.path, b"")
        self._named = False
        if self.policy != "never":
            self._make_durable()

    def _renew(self) -> None:
        """Go on in a new segment, with all that is not durable; the one before is not trusted any more."""
        old = self._file
        made_ms = old.made_ms if old is not None and old.made_ms is not None else 0
        first = self.durable[1] + 1
        file = Segment(self.run, first, self.directory / segment.name(self.run, first))
        half = self.directory / f".{file.path.name}.tmp"
        self._open(file, self.durable_entered, made_ms, half, b"".join(self._kept))
        self._dirty, self._named = False, False
        self._make_durable()
        self._distrusted = False

    def _open(self, file: Segment, before: Count, made_ms: int, path: Path, data: bytes) -> None:
        header = Header(self.run, file.first, self.journal_id, before, made_ms)
        content = segment.encoded_header(header) + data
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            _write_all(descriptor, content, 0)
            if path != file.path:
                os.fsync(descriptor)
                os.replace(path, file.path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        file.size, file.before, file.made_ms = len(content), before, made_ms
        self._file, self._descriptor = file, descriptor
        self.began(file)


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    """Write behind the end of a file. What was said to be written in part is written once more, whole."""
    if os.pwrite(descriptor, data, at) != len(data) and os.pwrite(descriptor, data, at) != len(data):
        raise OSError(errno.ENOSPC, "the disk takes only part of a write")
    if os.fstat(descriptor).st_size != at + len(data):
        raise OSError(errno.EIO, "the disk did not take what it said it took")
