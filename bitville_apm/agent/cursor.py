"""How far a journal is done: one small file, written over and over, that a crash cannot take along.

Two slots of 512 bytes (a sector each, so that a write is whole or absent) take turns. Each is:

     0  4  magic "BVC" 0x01
     4  8  generation: the higher of the two readable slots counts
    12 12  acked: run (4) and sequence (8) of the last record a collector has answered for
    24 12  covered: the same for the last record a durable frame counts
    36  4  run: the highest run begun
    40  4  crc32 of all before

The file has its full length from the start: a full disk does not stop the cursor. When neither slot can be
read everything still in the journal is sent again, which costs a collector some answers `duplicate`.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import attrs

from bitville_apm.agent.segment import Place

_SLOT = struct.Struct("<4sQIQIQI")
_CRC = struct.Struct("<I")
_MAGIC = b"BVC\x01"
SLOT_BYTES = 512


@attrs.frozen
class Cursor:
    """`acked`, `covered`: see above. `generation` counts the writes."""

    acked: Place = (0, 0)
    covered: Place = (0, 0)
    run: int = 0
    generation: int = 0


def encoded(cursor: Cursor) -> bytes:
    """One slot."""
    plain = _SLOT.pack(_MAGIC, cursor.generation, *cursor.acked, *cursor.covered, cursor.run)
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
    _, generation, acked_run, acked, covered_run, covered, run = _SLOT.unpack(plain)
    return Cursor((acked_run, acked), (covered_run, covered), run, generation)


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
        os.pwrite(descriptor, encoded(cursor), SLOT_BYTES * (cursor.generation % 2))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
