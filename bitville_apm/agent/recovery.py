"""What a journal's directory holds at start, whatever happened to it. Everything here blocks."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.logger import Logger

from bitville_apm import files, limits
from bitville_apm.agent import segment
from bitville_apm.agent.segment import HEADER_BYTES, Place
from bitville_apm.agent.unread import first_half

_log = Logger()


@attrs.frozen
class Segment:
    """One file of records, named by its run and first sequence."""

    run: int
    first: int
    path: Path


@attrs.frozen
class Looked:
    """`segments` that can be read, where each run ended, what waits behind `acked`, and the recent ids (packed)."""

    segments: list[Segment]
    run_ends: dict[int, int]
    pending: int
    pending_bytes: int
    recent: array[int]


def listed(directory: Path) -> list[Segment]:
    """The segments of a journal in the order of their records."""
    names = sorted(os.listdir(directory))
    return [Segment(*place, directory / name) for name in names if (place := segment.named(name)) is not None]


def identify(directory: Path, segments: Sequence[Segment], fresh: bool) -> bytes:
    """The journal's id, from its file or else from a segment.

    A journal without a past (`fresh`) gets a new one, so that no place is ever named twice.
    """
    path = directory / "id"
    found = b""
    if not fresh:
        with contextlib.suppress(OSError):
            found = path.read_bytes()
        for file in () if len(found) == 16 else segments:
            header = segment.decoded_header(contents(file.path, HEADER_BYTES))
            if header is not None:
                found = header.journal_id
    if len(found) == 16:
        return found
    made = os.urandom(16)
    files.replace(path, made)
    return made


def look_through(segments: Sequence[Segment], acked: Place) -> Looked:
    """Read every segment once: count what waits, learn where runs ended, collect recent ids, cut a torn tail."""
    readable: list[Segment] = []
    run_ends: dict[int, int] = {}
    pending = pending_bytes = newest = 0
    recent: list[tuple[int, array[int]]] = []
    for file in segments:
        try:
            data = contents(file.path)
        except OSError as error:
            file.path.rename(file.path.with_suffix(".unreadable"))
            _log.error("journal: {path} cannot be read and is set aside: {error}", path=file.path.name, error=error)
            continue
        readable.append(file)
        header = segment.decoded_header(data)
        if header is not None:
            run, end = header.previous
            run_ends[run] = max(end, run_ends.get(run, 0))
        scanned = segment.scan(data, file.run)
        waiting = [r for r in scanned.records if r.place > acked]
        pending += len(waiting)
        pending_bytes += sum(r.size for r in waiting)
        newest = max([newest, *(r.entry.received_ms for r in scanned.records)])
        limit = newest - limits.UNREAD_ACK_S * 1000
        recent = [(at, ids) for at, ids in recent if at >= limit]
        ids = array("Q", [first_half(r.entry.id) for r in scanned.records if r.entry.received_ms >= limit])
        if ids:
            recent.append((newest, ids))
        last = scanned.records[-1].sequence if scanned.records else file.first - 1
        run_ends[file.run] = max(last + scanned.lost_behind, run_ends.get(file.run, 0))
        if file is segments[-1]:
            _mend(file.path, scanned.torn_at)
    packed = array("Q", sorted(id_ for _, ids in recent for id_ in ids))
    return Looked(readable, run_ends, pending, pending_bytes, packed)


def contents(path: Path, most: int = -1, start: int = 0) -> bytes:
    """A file's bytes; none when it is missing, which is damage like any other. Raises `OSError` for the rest."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(most)
    except FileNotFoundError:
        return b""


def _mend(path: Path, torn_at: int | None) -> None:
    """Cut a torn tail off the last segment and make the rest durable; a disk that refuses is no obstacle."""
    try:
        with path.open("r+b") as file:
            if torn_at is not None:
                file.truncate(torn_at)
                _log.info("journal: cut {path} at {at}, behind its last whole record", path=path.name, at=torn_at)
            os.fsync(file.fileno())
    except OSError as error:
        _log.warn("journal: {path} could not be mended: {error}", path=path.name, error=error)
