"""The journal's file format, and reading it back whatever happened to it: bytes in, records out, no I/O.

Constraints. A record is acknowledged to its sender once it is written, so none may be lost by a crash, and its
place (run, sequence) names it for ever. A file may end anywhere (power cut), and any byte of it may go bad: what
is whole must still be delivered, and what is lost must be known exactly.

A journal is a directory:

    id                          16 random bytes, made with the journal; named in every batch sent (wire.md 5)
    cursor                      how far it is done (cursor.py)
    RRRRRRRR-SSSSSSSSSSSSSSSS.segment
                                run and first sequence in hex, so that names sort in the order of records

Each start of the agent begins a new *run*, one more than any before it, whose sequence counts from 1. A segment
is a header and then records without gaps; nothing in it is ever changed in place. It ends when the next record
would make it longer than 4 MiB, or with its run. All numbers are little-endian.

    header, 56 bytes                                record, 56 bytes and its payload
     0  4  magic "BVJ" 0x02                          0  4  magic 0x91 "BV" 0x0a
     4  4  run                                       4  4  length of the payload, bytes
     8  8  first sequence                            8  4  run
    16 16  journal id                               12  1  kind: 1 end, 2 died, 3 v1, 4 frame, 5 pg
    32  4  the run before, 0 if there was none      13  1  flags: bit 0 a frame counts it, bit 1 short
    36  8  last sequence of that run                14  2  zero
    44  8  made at, unix ms                         16  8  sequence
    52  4  crc32 of all before                      24  8  received at, unix ms
                                                    32 16  item id: the bytes of its UUID
                                                    48  4  crc32 of the payload
                                                    52  4  crc32 of all before

A payload is one line of JSON, so it cannot hold the magic's newline: every magic in a file begins a record,
unless that file is damaged.

Recovery. A head has a check of its own so that a record that is merely cut can be told: bytes that are the
beginning of a record and end with the file are a *torn tail*, which was never acknowledged, and are cut off at
the next start (zeros likewise: some file systems leave them after a power cut). Anything else that is no whole
record is *damage*: reading goes on at the next byte where a whole record of this run begins, and the gap in the
sequence is what was lost. Behind the last whole record of a segment each magic counts as one lost record, at
least one; the header of the next segment, by its first sequence or by what it says of the run before, replaces
that count.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from msgspec import Struct

KINDS = ("", "end", "died", "v1", "frame", "pg")
FRAMED = 1
SHORT = 2

_MAGIC = b"\x91BV\n"
_HEAD = struct.Struct("<4sIIBBHQQ16sI")
_HEADER = struct.Struct("<4sIQ16sIQQ")
_CRC = struct.Struct("<I")
_HEADER_MAGIC = b"BVJ\x02"
HEAD_BYTES = _HEAD.size + _CRC.size
HEADER_BYTES = _HEADER.size + _CRC.size
_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})\.segment\Z")

Place = tuple[int, int]
"""(run, sequence): compares in the order in which records were journalled. (0, 0) is before all of them."""


class Entry(Struct, frozen=True):
    """What is to be journalled: `kind` one of `KINDS`, `id` canonical, `received_ms` unix ms, `body` one line."""

    kind: str
    id: str
    received_ms: int
    body: bytes
    flags: int = 0


class Record(Struct, frozen=True):
    """An entry in its place."""

    run: int
    sequence: int
    entry: Entry

    @property
    def place(self) -> Place:
        """Its name for ever."""
        return self.run, self.sequence

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self.entry.body)


class Header(Struct, frozen=True):
    """The beginning of a segment. `previous` is the last place of the run before."""

    run: int
    first: int
    journal_id: bytes
    previous: Place
    made_ms: int


class Scanned(Struct, frozen=True):
    """What was read of one segment.

    `ends` are the offsets behind each record. `lost_behind` are the records lost behind the last whole one,
    as far as this file tells. `torn_at` is where a torn tail begins, None when there is none.
    """

    records: list[Record]
    ends: list[int]
    lost_behind: int
    torn_at: int | None


def packed_id(id_: str) -> bytes:
    """The 16 bytes of a canonical id."""
    return bytes.fromhex(id_.replace("-", ""))


def unpacked_id(packed: bytes) -> str:
    """The canonical id of 16 bytes."""
    digits = packed.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def name(run: int, first: int) -> str:
    """A segment's file name."""
    return f"{run:08x}-{first:016x}.segment"


def named(file_name: str) -> Place | None:
    """Run and first sequence of a segment's file name; None for any other file."""
    match = _NAME.match(file_name)
    return (int(match[1], 16), int(match[2], 16)) if match else None


def encoded_header(header: Header) -> bytes:
    """The first bytes of a segment."""
    plain = _HEADER.pack(_HEADER_MAGIC, header.run, header.first, header.journal_id, *header.previous, header.made_ms)
    return plain + _CRC.pack(zlib.crc32(plain))


def decoded_header(data: bytes) -> Header | None:
    """The header at the beginning of a segment; None when it is cut or damaged."""
    if len(data) < HEADER_BYTES or zlib.crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    magic, run, first, journal_id, previous_run, previous_last, made_ms = _HEADER.unpack_from(data)
    if magic != _HEADER_MAGIC:
        return None
    return Header(run, first, journal_id, (previous_run, previous_last), made_ms)


def encoded(entry: Entry, run: int, sequence: int) -> bytes:
    """One record."""
    body = entry.body
    head = _HEAD.pack(
        _MAGIC,
        len(body),
        run,
        KINDS.index(entry.kind),
        entry.flags,
        0,
        sequence,
        entry.received_ms,
        packed_id(entry.id),
        zlib.crc32(body),
    )
    return b"".join((head, _CRC.pack(zlib.crc32(head)), body))


def scan(data: bytes, run: int, after: int = 0, start: int = HEADER_BYTES) -> Scanned:
    """Every whole record of `run` with a sequence above `after`, from the offset `start` on."""
    records: list[Record] = []
    ends: list[int] = []
    last = after
    torn_at = None
    suspects = 0
    for position, end, record in _walk(data, run, start):
        if end < 0:
            torn_at = position
        elif record is None:
            suspects += 1
        else:
            suspects = 0
            if record.sequence > last:
                last = record.sequence
                records.append(record)
                ends.append(end)
    return Scanned(records, ends, suspects, torn_at)


def _walk(data: bytes, run: int, position: int) -> Iterator[tuple[int, int, Record | None]]:
    """Records in turn as (offset, end, record); damage as (offset, end, None); a torn tail has the end -1."""
    size = len(data)
    while position < size:
        head = _head(data, position, run)
        end = position + HEAD_BYTES + head[1] if head is not None else 0
        record = _record(data, position, head) if head is not None and end <= size else None
        if record is not None:
            yield position, end, record
            position = end
            continue
        found = data.find(_MAGIC, position + 1)
        if found < 0 and (end > size or _is_torn(data, position)):
            yield position, -1, None
            return
        following = size if found < 0 else found
        yield position, following, None
        position = following


def _is_torn(data: bytes, position: int) -> bool:
    """Whether what is left can be the first bytes of a record, or nothing but zeros."""
    left = len(data) - position
    if left < HEAD_BYTES and data.startswith(_MAGIC[:left], position):
        return True
    return not data[position:].strip(b"\0")


_Head = tuple[bytes, int, int, int, int, int, int, int, bytes, int]


def _head(data: bytes, position: int, run: int) -> _Head | None:
    if position + HEAD_BYTES > len(data) or not data.startswith(_MAGIC, position):
        return None
    check = _CRC.unpack_from(data, position + _HEAD.size)[0]
    if zlib.crc32(memoryview(data)[position : position + _HEAD.size]) != check:
        return None
    head: _Head = _HEAD.unpack_from(data, position)
    return head if head[2] == run and 0 < head[3] < len(KINDS) else None


def _record(data: bytes, position: int, head: _Head) -> Record | None:
    _, length, run, kind, flags, _, sequence, received_ms, item_id, check = head
    body = data[position + HEAD_BYTES : position + HEAD_BYTES + length]
    if zlib.crc32(body) != check:
        return None
    return Record(run, sequence, Entry(KINDS[kind], unpacked_id(item_id), received_ms, body, flags))
