"""What a journal's directory holds at start, whatever happened to it. Everything here blocks.

A start reads the headers of all segments, and whole only the newest ones: the last, for where the journal ends, and
those of the last 15 minutes, for their ids. Damage in any other is found when it is read for the sender.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.logger import Logger

from bitville_apm import files, limits
from bitville_apm.agent import segment
from bitville_apm.agent.segment import HEADER_BYTES, Damage, Place, Record, Torn
from bitville_apm.agent.totals import NONE, Count

_log = Logger()


@attrs.define
class Segment:
    """One file of records, named by its run and first sequence.

    `before` is what had entered before it and `made_ms` when it was made, None when its header does not tell.
    """

    run: int
    first: int
    path: Path
    size: int = 0
    before: Count | None = None
    made_ms: int | None = None
    journal_id: bytes = b""

    @property
    def start(self) -> Place:
        """The place before its first record; the end of the segment before it, too."""
        return self.run, self.first - 1


def listed(directory: Path) -> list[Segment]:
    """The segments of a journal in the order of their records, with what their headers tell. Raises `OSError`."""
    found = []
    for name in sorted(os.listdir(directory)):
        place = segment.named(name)
        if place is not None:
            found.append(_headed(Segment(*place, directory / name)))
    return found


def _headed(file: Segment) -> Segment:
    file.size = file.path.stat().st_size
    header = segment.decoded_header(contents(file.path, most=HEADER_BYTES))
    if header is not None:
        file.before, file.made_ms, file.journal_id = header.before, header.made_ms, header.journal_id
    elif file.size:
        first = next((r for _, _, r in segment.walk(contents(file.path), file.run) if isinstance(r, Record)), None)
        if first is not None:
            file.before, file.made_ms = first.before, first.entry.received_ms
    return file


def identify(directory: Path, segments: Sequence[Segment], fresh: bool) -> bytes:
    """The journal's id, from its file or else from a segment.

    A journal without a past (`fresh`) gets a new one, so that no place is ever named twice.
    """
    path = directory / "id"
    found = b""
    if not fresh:
        with contextlib.suppress(OSError):
            found = path.read_bytes()
        if len(found) != 16:
            found = next((s.journal_id for s in segments if s.journal_id), b"")
    if len(found) == 16:
        return found
    made = os.urandom(16)
    files.replace(path, made)
    return made


@attrs.frozen
class Ended:
    """How a journal ends: its last record, the place behind it, what had entered by then.

    Where something is lost behind its last record the place is behind its last run. `torn_at` is where in the last
    segment a torn tail begins, its length where there is none.
    """

    newest: Record | None
    place: Place
    entered: Count
    torn_at: int


def ended(segments: Sequence[Segment]) -> Ended:
    """Look at the last segment, and at those before it only while nothing in it tells. Raises `OSError`."""
    lost, behind = NONE, (segments[-1].run + 1, 0) if segments else (0, 0)
    torn_at = 0
    for file in reversed(segments):
        last: Record | None = None
        data = contents(file.path)
        whole = len(data)
        for position, _, what in segment.walk(data, file.run):
            if isinstance(what, Torn):
                whole = position
            elif isinstance(what, Damage):
                lost += what.count
            else:
                last, lost = what, NONE
        if file is segments[-1]:
            torn_at = whole
        if last is not None:
            return Ended(last, last.place if lost == NONE else behind, last.through + lost, torn_at)
        if file.before is not None:
            return Ended(None, file.start if lost == NONE else behind, file.before + lost, torn_at)
    return Ended(None, behind, lost, torn_at)


def recent(segments: Sequence[Segment]) -> array[int]:
    """The first halves of the ids that came in the 15 minutes before the newest record, sorted."""
    found = array("Q")
    limit = 0
    for file in reversed(segments):
        came = list(segment.ids(contents(file.path), file.run))
        limit = max([limit, *(at - int(limits.UNREAD_ACK_S * 1000) for at, _ in came)])
        found.extend(id_ for at, id_ in came if at >= limit)
        if (file.made_ms is not None and file.made_ms < limit) or len(found) > limits.RECENT_IDS:
            break
    found.byteswap()
    return array("Q", sorted(found))


def contents(path: Path, start: int = 0, most: int = -1) -> bytes:
    """A file's bytes; none when it is missing, which is damage like any other.

    What the disk can no longer read comes as zeros. Raises `OSError` for anything else.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(most) or b""
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    _log.error("journal: {path} cannot be read in one go; trying it piece by piece", path=path.name)
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size if most < 0 else start + most
        pieces = []
        for at in range(start, end, limits.READABLE_BYTES):
            length = min(limits.READABLE_BYTES, end - at)
            try:
                pieces.append(os.pread(file.fileno(), length, at))
            except OSError:
                pieces.append(bytes(length))
        return b"".join(pieces)


def secure(file: Segment, torn_at: int) -> None:
    """Make the last segment durable, without its torn tail; a disk that refuses is no obstacle.

    It is written anew: an fsync may have failed that only the process before was told of, and another would succeed.
    """
    try:
        data = contents(file.path)
        if torn_at < len(data):
            _log.info("journal: cut {path} at {at}, behind its last whole record", path=file.path.name, at=torn_at)
        files.replace(file.path, data[:torn_at])
        file.size = torn_at
    except OSError as error:
        _log.warn("journal: {path} could not be made durable: {error}", path=file.path.name, error=error)
