"""How far a journal is done and what became of it: one small file, written over and over, that a crash spares.

Two slots of 512 bytes (a sector each, so that a write is whole or absent) take turns. Each is:

     0  4  magic "BVC" 0x02
     4  8  generation: the higher of the two readable slots counts
    12 12  acked: run (4) and sequence (8) of the last record that nobody waits for: it and all before it are
           answered for by a collector, dropped, lost, or not to be forwarded
    24 12  covered: the same for the last record that a durable frame counts
    36  4  run: the highest run begun
    40     what became of everything that had entered up to `acked`: for each of the totals (totals.py), in their
           order, records (8) and requests (8)
           4  crc32 of all before

Their sum is what had entered up to `acked` (segment.py): whatever a crash does, each record is in one of the totals
or behind that place, never both. A segment is unlinked only after a slot beyond it is durable.

The file has its full length from the start: a full disk does not stop the cursor. When one slot cannot be read the
other one counts, which may be the older: what was answered for last is sent again, and a collector says `duplicate`.
When neither can be read everything still in the journal is sent again, and what entered before it is `forgotten`.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import attrs

from bitville_apm import files
from bitville_apm.agent.segment import Place
from bitville_apm.agent.totals import Count, Totals

_KINDS = len(attrs.fields(Totals))
_SLOT = struct.Struct(f"<4sQIQIQI{2 * _KINDS}Q")
_CRC = struct.Struct("<I")
_MAGIC = b"BVC\x02"
SLOT_BYTES = 512


@attrs.frozen
class Cursor:
    """See above. `generation` counts the writes."""

    acked: Place = (0, 0)
    covered: Place = (0, 0)
    run: int = 0
    totals: Totals = attrs.field(factory=Totals)
    generation: int = 0


def encoded(cursor: Cursor) -> bytes:
    """One slot."""
    numbers = [number for count in cursor.totals.counts for number in (count.records, count.requests)]
    plain = _SLOT.pack(_MAGIC, cursor.generation, *cursor.acked, *cursor.covered, cursor.run, *numbers)
    return (plain + _CRC.pack(zlib.crc32(plain))).ljust(SLOT_BYTES, b"\0")


def decoded(data: bytes) -> tuple[Cursor | None, bool]:
    """The newer of the readable slots, None when there is none; and whether it surely is the last one written."""
    found = [c for c in (_slot(data, 0), _slot(data, SLOT_BYTES)) if c is not None]
    newest = max(found, key=lambda c: c.generation, default=None)
    return newest, newest is not None and (len(found) == 2 or newest.generation == 1)


def _slot(data: bytes, at: int) -> Cursor | None:
    plain = data[at : at + _SLOT.size]
    check = data[at + _SLOT.size : at + _SLOT.size + _CRC.size]
    if len(check) < _CRC.size or zlib.crc32(plain) != _CRC.unpack(check)[0] or not plain.startswith(_MAGIC):
        return None
    _, generation, acked_run, acked, covered_run, covered, run, *numbers = _SLOT.unpack(plain)
    totals = Totals(*(Count(*numbers[i : i + 2]) for i in range(0, 2 * _KINDS, 2)))
    return Cursor((acked_run, acked), (covered_run, covered), run, totals, generation)


def read(path: Path) -> tuple[Cursor | None, bool]:
    """The cursor of a file as `decoded` gives it; None also when the file is missing or unreadable. Blocks."""
    try:
        return decoded(path.read_bytes())
    except OSError:
        return None, False


def write(path: Path, cursor: Cursor) -> None:
    """Write over the older slot and make it durable. Raises `OSError`. Blocks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < 2 * SLOT_BYTES:
            os.pwrite(descriptor, bytes(2 * SLOT_BYTES), 0)
            files.sync_directory(path.parent)
        at, slot = SLOT_BYTES * (cursor.generation % 2), encoded(cursor)
        os.pwrite(descriptor, slot, at)
        if os.pread(descriptor, SLOT_BYTES, at) != slot:
            raise OSError(errno.EIO, "the disk did not take what it said it took")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
