"""The journal's file format, and reading it back whatever happened to it: bytes in, records out, no I/O.

Constraints. A record is acknowledged to its sender once it is written, so none may be lost by a crash, and its
place (run, sequence) names it for ever. A file may end anywhere (power cut), and any byte of it may go bad: what
is whole must still be delivered, and what is lost must be known exactly, in records and in requests.

A journal is a directory:

    id                          16 random bytes, made with the journal; named in every batch sent (wire.md 5)
    cursor                      how far it is done, and what became of all that (cursor.py)
    RRRRRRRR-SSSSSSSSSSSSSSSS.segment
                                run and first sequence in hex, so that names sort in the order of records

Each start of the agent begins a new *run*, one more than any before it, whose sequence counts from 1. A segment
is a header and then records without gaps; nothing in it is ever changed in place. It ends when the next record
would make it longer than 4 MiB, or with its run; in it no record counts whose sequence belongs to the next
segment of its run (writer.py begins one when a disk has lost what it was given). All numbers are little-endian.

    header, 60 bytes                                record, 76 bytes and its payload
     0  4  magic "BVJ" 0x03                          0  4  magic 0x91 "BV" 0x0a
     4  4  run                                       4  4  length of the payload, bytes
     8  8  first sequence                            8  4  run
    16 16  journal id                               12  1  kind: 1 end, 2 died, 3 v1, 4 frame, 5 pg
    32  8  records entered before it                13  1  flags: bit 0 a frame counts it (FRAMED), 1 it is
    40  8  requests they stand for                           short (SHORT), 2 it is not to be forwarded (LOCAL),
    48  8  made at, unix ms                                  3 it is of no use without the next one (MORE)
    56  4  crc32 of all before                      14  2  its number in such a group, from 0
                                                    16  8  sequence
                                                    24  8  received at, unix ms
                                                    32 16  item id: the bytes of its UUID
                                                    48  4  requests it stands for
                                                    52  8  records entered before it
                                                    60  8  requests they stand for
                                                    68  4  crc32 of the payload
                                                    72  4  crc32 of all before

*Entered* counts what is to be forwarded since the journal was made, over all runs. It is told twice so that any
two neighbours tell what is missing between them, and so that a start need not read segments to know what waits.

A payload is one line of JSON, so it cannot hold the magic's newline: every magic in a file begins a record,
unless that file is damaged.

Recovery. A head has a check of its own so that a record that is merely cut can be told: bytes that are the
beginning of a record and end with the file are a *torn tail*, which was never acknowledged, and are cut off at
the next start (zeros likewise: some file systems leave them after a power cut). So is a group that ends a run and
is not whole: nothing is written behind a group before it is durable. (One that goes bad while it is still the last
thing in a journal that is stopped goes whole.) Anything else that is no whole record is
*damage*: reading goes on at the next byte where a whole record of this run begins, and what was lost is what that
record says has entered before it, less what was read. Behind the last whole record of a journal nothing follows that
could tell: each magic there counts as one lost record, at least one, by its head where that is whole, else as one
request to be forwarded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence

from msgspec import Struct

from bitville_apm.agent.totals import NONE, Count

KINDS = ("", "end", "died", "v1", "frame", "pg")
FRAMED = 1
SHORT = 2
LOCAL = 4
MORE = 8

_MAGIC = b"\x91BV\n"
_HEAD = struct.Struct("<4sIIBBHQQ16sIQQI")
_ID = struct.Struct("<4xI4xB11xQQ")
_DIED = KINDS.index("died")
_HEADER = struct.Struct("<4sIQ16sQQQ")
_CRC = struct.Struct("<I")
_HEADER_MAGIC = b"BVJ\x03"
HEAD_BYTES = _HEAD.size + _CRC.size
HEADER_BYTES = _HEADER.size + _CRC.size
_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})\.segment\Z")

Place = tuple[int, int]
"""(run, sequence): compares in the order in which records were journalled. (0, 0) is before all of them, and
(run, 0) behind all of the runs before."""


class Entry(Struct, frozen=True):
    """What is to be journalled: `kind` one of `KINDS`, `id` canonical, `received_ms` unix ms, `body` one line.

    `requests` is how many a frame stands for.
    """

    kind: str
    id: str
    received_ms: int
    body: bytes
    flags: int = 0
    requests: int = 1

    @property
    def count(self) -> Count:
        """What it adds to what has entered."""
        return NONE if self.flags & LOCAL else Count(1, self.requests)


class Record(Struct, frozen=True):
    """An entry in its place; `before` is what had entered before it, `part` its number in its group."""

    run: int
    sequence: int
    entry: Entry
    before: Count
    part: int = 0

    @property
    def place(self) -> Place:
        """Its name for ever."""
        return self.run, self.sequence

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self.entry.body)

    @property
    def through(self) -> Count:
        """What had entered with it."""
        return self.before + self.entry.count


class Header(Struct, frozen=True):
    """The beginning of a segment; `before` is what had entered before it."""

    run: int
    first: int
    journal_id: bytes
    before: Count
    made_ms: int


class Damage(Struct, frozen=True):
    """Bytes that are no whole record; `count` is what they count where nothing better is known.

    `grouped`: it is known to be of a group.
    """

    count: Count = Count(1, 1)
    grouped: bool = False


class Torn(Struct, frozen=True):
    """A torn tail."""


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
    before = header.before
    plain = _HEADER.pack(
        _HEADER_MAGIC, header.run, header.first, header.journal_id, before.records, before.requests, header.made_ms
    )
    return plain + _CRC.pack(zlib.crc32(plain))


def decoded_header(data: bytes) -> Header | None:
    """The header at the beginning of a segment; None when it is cut or damaged."""
    if len(data) < HEADER_BYTES or zlib.crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    magic, run, first, journal_id, records, requests, made_ms = _HEADER.unpack_from(data)
    return Header(run, first, journal_id, Count(records, requests), made_ms) if magic == _HEADER_MAGIC else None


def encoded(entry: Entry, run: int, sequence: int, before: Count, part: int = 0) -> bytes:
    """One record."""
    body = entry.body
    head = _HEAD.pack(
        _MAGIC,
        len(body),
        run,
        KINDS.index(entry.kind),
        entry.flags,
        part,
        sequence,
        entry.received_ms,
        packed_id(entry.id),
        entry.requests,
        before.records,
        before.requests,
        zlib.crc32(body),
    )
    return b"".join((head, _CRC.pack(zlib.crc32(head)), body))


def ids(data: bytes, run: int) -> Iterator[tuple[int, int]]:
    """When the records of a segment came (unix ms), and the first halves of their ids. Payloads are not looked at.

    Those of died requests are left out: their end may still come, and is no second one. Four times as fast as `walk`,
    which goes on where damage begins: a start wants many of them.
    """
    unpack, check, crc, view = _ID.unpack_from, _CRC.unpack_from, zlib.crc32, memoryview(data)
    position, size = _beginning(data), len(data)
    while position < size:
        if position + HEAD_BYTES > size or check(data, position + _HEAD.size)[0] != crc(
            view[position : position + _HEAD.size]
        ):
            break
        length, kind, received_ms, half = unpack(data, position)
        if kind != _DIED:
            yield received_ms, half
        position += HEAD_BYTES + length
    for _, _, what in walk(data, run, position) if position < size else ():
        if isinstance(what, Record) and what.entry.kind != "died":
            yield what.entry.received_ms, int.from_bytes(packed_id(what.entry.id)[:8], "little")


Piece = tuple[int, int, Record | Damage | Torn]
"""What is in a segment, and from which offset to which."""


def _beginning(data: bytes) -> int:
    """Where the records of a segment begin: where a damaged header has not its length, with the first magic."""
    found = -1 if decoded_header(data) is not None else data.find(_MAGIC)
    return HEADER_BYTES if found < 0 else found


def walk(data: bytes, run: int, position: int | None = None, *, closed: bool = False) -> Iterator[Piece]:
    """What is in a segment of `run`, or behind an offset in it; a torn tail comes last.

    `closed`: the run went on in another segment, so that a group at its end was whole once.
    """
    held: list[Piece] = []
    for piece in _pieces(data, run, _beginning(data) if position is None else position):
        what = piece[2]
        if isinstance(what, Record) and not what.part:
            yield from held
            held.clear()
        held.append(piece)
        if isinstance(what, Record) and not what.entry.flags & MORE and _whole(held):
            yield from held
            held.clear()
    if closed or not any(_grouped(what) for _, _, what in held):
        yield from held
    else:
        yield held[0][0], len(data), Torn()


def _whole(pieces: Sequence[Piece]) -> bool:
    """Whether these are the records of one group without a gap; reading may have begun inside it."""
    parts = [what.part for _, _, what in pieces if isinstance(what, Record)]
    return len(parts) == len(pieces) and parts == list(range(parts[0], parts[0] + len(parts)))


def _grouped(what: Record | Damage | Torn) -> bool:
    return isinstance(what, Record) or (isinstance(what, Damage) and what.grouped)


def _pieces(data: bytes, run: int, position: int) -> Iterator[Piece]:
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
            yield position, size, Torn()
            return
        following = size if found < 0 else found
        yield position, following, Damage() if head is None else Damage(_count(head), head[4] & MORE > 0 or head[5] > 0)
        position = following


def _is_torn(data: bytes, position: int) -> bool:
    """Whether what is left can be the first bytes of a record, or nothing but zeros."""
    left = len(data) - position
    if left < HEAD_BYTES and data.startswith(_MAGIC[:left], position):
        return True
    return not data[position:].strip(b"\0")


_Head = tuple[bytes, int, int, int, int, int, int, int, bytes, int, int, int, int]


def _head(data: bytes, position: int, run: int) -> _Head | None:
    if position + HEAD_BYTES > len(data) or not data.startswith(_MAGIC, position):
        return None
    check = _CRC.unpack_from(data, position + _HEAD.size)[0]
    if zlib.crc32(memoryview(data)[position : position + _HEAD.size]) != check:
        return None
    head: _Head = _HEAD.unpack_from(data, position)
    return head if head[2] == run and 0 < head[3] < len(KINDS) else None


def _count(head: _Head) -> Count:
    return NONE if head[4] & LOCAL else Count(1, head[9])


def _record(data: bytes, position: int, head: _Head) -> Record | None:
    _, length, run, kind, flags, part, sequence, received_ms, item_id, requests, records_before, before, check = head
    body = data[position + HEAD_BYTES : position + HEAD_BYTES + length]
    if zlib.crc32(body) != check:
        return None
    entry = Entry(KINDS[kind], unpacked_id(item_id), received_ms, body, flags, requests)
    return Record(run, sequence, entry, Count(records_before, before), part)
