"""The journal's format: round trip, and every kind of damage at every place."""

from __future__ import annotations

import uuid

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import segment
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.segment import HEADER_BYTES, Damage, Entry, Header, Record, Torn
from bitville_apm.agent.totals import Count, Totals

bodies = st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" "))
entries = st.builds(
    Entry,
    st.sampled_from(segment.KINDS[1:]),
    st.uuids().map(str),
    st.integers(0, 2**50),
    bodies,
    st.integers(0, 255).map(lambda flags: flags & ~segment.MORE),
    st.integers(0, 2**32 - 1),
)

BEFORE = Count(40, 50)
HEADER = Header(7, 1, bytes(range(16)), BEFORE, 1_795_231_261_000)


def scan(data: bytes, run: int = 7) -> Scanned:
    """All of a segment."""
    found = list(segment.walk(data, run))
    return Scanned(
        records=[what for _, _, what in found if isinstance(what, Record)],
        ends=[end for _, end, what in found if isinstance(what, Record)],
        damaged=[what.count for _, _, what in found if isinstance(what, Damage)],
        torn_at=next((at for at, _, what in found if isinstance(what, Torn)), None),
    )


@attrs.frozen
class Scanned:
    records: list[Record]
    ends: list[int]
    damaged: list[Count]
    torn_at: int | None


def encoded(written: list[Entry], run: int = 7) -> list[bytes]:
    """Records in turn, counted."""
    entered, found = BEFORE, []
    part = 0
    for n, entry in enumerate(written, 1):
        found.append(segment.encoded(entry, run, n, entered, part))
        entered += entry.count
        part = part + 1 if entry.flags & segment.MORE else 0
    return found


def a_segment(*bodies: bytes, run: int = 7) -> tuple[bytes, list[int]]:
    """A segment of these records, and the offset at which each ends."""
    data, ends = segment.encoded_header(HEADER), []
    written = [Entry("end", str(uuid.UUID(int=n)), 1000 + n, body) for n, body in enumerate(bodies, 1)]
    for record in encoded(written, run):
        data += record
        ends.append(len(data))
    return data, ends


DATA, ENDS = a_segment(b'{"a":1}', b"", b'{"b":"' + b"x" * 90 + b'"}', '{"c":"\u0451BV"}'.encode(), b'{"d":4}')


@given(st.lists(entries, max_size=6))
def test_what_is_written_is_read(written: list[Entry]) -> None:
    """Round trip of every kind, flag, id, count and body; each record knows what had entered before it."""
    data = segment.encoded_header(HEADER) + b"".join(encoded(written))
    scanned = scan(data)
    assert [r.entry for r in scanned.records] == written
    assert [r.place for r in scanned.records] == [(7, n) for n in range(1, len(written) + 1)]
    assert (scanned.damaged, scanned.torn_at) == ([], None)
    assert segment.decoded_header(data) == HEADER
    entered = BEFORE
    for record in scanned.records:
        assert record.before == entered
        entered = record.through
    local = [e for e in written if e.flags & segment.LOCAL]
    assert entered.records == BEFORE.records + len(written) - len(local)


def test_a_group_is_read_whole_or_not_at_all() -> None:
    """Whatever of it a crash left: the parts of a group come with its last one, or as a torn tail."""
    whole = [Entry("end", str(uuid.UUID(int=n)), n, b"{}", segment.MORE if n in (2, 3) else 0) for n in range(1, 5)]
    pieces = encoded(whole)
    data = segment.encoded_header(HEADER) + b"".join(pieces)
    first = HEADER_BYTES + len(pieces[0])
    assert [r.sequence for r in scan(data).records] == [1, 2, 3, 4]
    for cut in range(first + 1, len(data)):
        scanned = scan(data[:cut])
        assert [r.sequence for r in scanned.records] == [1], cut
        assert (scanned.torn_at, scanned.damaged) == (first, [])
    behind = segment.encoded(Entry("end", str(uuid.UUID(int=5)), 5, b"{}"), 7, 5, BEFORE)
    for at in range(first, len(data)):
        hit = next(n for n in (2, 3, 4) if at < HEADER_BYTES + sum(map(len, pieces[:n])))
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        assert [r.sequence for r in scan(bytes(damaged)).records] == [1], "a power cut leaves sectors in any order"
        left = [n for n in (1, 2, 3, 4) if n != hit]
        assert [r.sequence for r in scan(bytes(damaged) + behind).records] == [*left, 5], "it was durable once"
        closed = segment.walk(bytes(damaged), 7, closed=True)
        assert [what.sequence for _, _, what in closed if isinstance(what, Record)] == left
    inside = first + len(pieces[1])
    assert [what.sequence for _, _, what in segment.walk(data, 7, inside) if isinstance(what, Record)] == [3, 4]


def test_what_a_damaged_record_counted_is_known_from_its_head() -> None:
    """Behind the last whole record nothing else tells: a frame's requests, and that a short one is not forwarded."""
    for entry, count in (
        (Entry("frame", str(uuid.UUID(int=2)), 2, b"{...}", requests=500), Count(1, 500)),
        (Entry("end", str(uuid.UUID(int=2)), 2, b"{...}", segment.LOCAL), Count()),
    ):
        data = bytearray(segment.encoded_header(HEADER) + encoded([entry])[0])
        data[-2] ^= 1
        assert scan(bytes(data)).damaged == [count]
        data[HEADER_BYTES + 20] ^= 1
        assert scan(bytes(data)).damaged == [Count(1, 1)]


def test_names_sort_as_records_do() -> None:
    """Run and sequence in hex of fixed width; no other file is taken for a segment."""
    places = [(1, 1), (1, 300), (2, 1), (300, 17), (2**32 - 1, 2**63)]
    names = [segment.name(*p) for p in places]
    assert names == sorted(names)
    assert [segment.named(n) for n in names] == places
    assert segment.named("cursor") is None
    assert segment.named(names[0] + ".tmp") is None


def test_cut_at_every_byte() -> None:
    """A torn tail: every record before the cut is there, what is left of the next one is recognised as torn."""
    for cut in range(len(DATA)):
        scanned = scan(DATA[:cut])
        whole = [end for end in ENDS if end <= cut]
        assert scanned.ends == whole, cut
        assert scanned.damaged == [], cut
        at_boundary = cut in ENDS or cut <= HEADER_BYTES
        assert scanned.torn_at == (None if at_boundary else (whole or [HEADER_BYTES])[-1]), cut


def test_zeros_behind_the_last_record_are_a_torn_tail() -> None:
    """Some file systems leave zeros after a power cut: nothing was lost by them."""
    scanned = scan(DATA + bytes(300))
    assert (len(scanned.records), scanned.damaged, scanned.torn_at) == (5, [], len(DATA))


def test_flip_at_every_byte() -> None:
    """One bad byte costs the one record it is in, and the loss is known even behind the last whole one."""
    for at in range(HEADER_BYTES, len(DATA)):
        for mask in (0x01, 0x80, 0xFF):
            data = bytearray(DATA)
            data[at] ^= mask
            hit = next(n for n, end in enumerate(ENDS, 1) if at < end)
            scanned = scan(bytes(data))
            assert [r.sequence for r in scanned.records] == [n for n in range(1, 6) if n != hit], (at, mask)
            assert scanned.damaged == [Count(1, 1)], (at, mask)
            assert scanned.torn_at is None
            entered = BEFORE
            missing = Count()
            for record in scanned.records:
                missing += record.before.beyond(entered)
                entered = record.through
            assert missing == (Count() if hit == 5 else Count(1, 1)), "told by the record behind it"


@settings(max_examples=300)
@given(
    st.integers(HEADER_BYTES, len(DATA) - 1),
    st.integers(0, 120),
    st.one_of(st.binary(max_size=120), st.integers(0, 120).map(bytes)),
)
def test_cut_out_or_overwritten_anywhere(at: int, length: int, put: bytes) -> None:
    """Bytes removed, zeroed, inserted: every record that is whole in what is left is read, none is invented."""
    damaged = DATA[:at] + put + DATA[at + length :]
    scanned = scan(damaged)
    originals = {r.sequence: r.entry for r in scan(DATA).records}
    whole = [
        n
        for n, (start, end) in enumerate(zip([HEADER_BYTES, *ENDS], ENDS, strict=False), 1)
        if end <= at or start >= at + length
    ]
    assert [r.sequence for r in scanned.records if r.sequence in whole] == whole
    for record in scanned.records:
        assert record.entry == originals[record.sequence]


def test_records_of_another_run_are_not_read() -> None:
    """A recycled block with an old run's records in it is damage, not data."""
    foreign, _ = a_segment(b"old", run=6)
    scanned = scan(DATA + foreign[HEADER_BYTES:])
    assert [r.run for r in scanned.records] == [7] * 5


def test_header_that_is_cut_or_flipped_is_none() -> None:
    """The name of the file says what is needed; the records behind a bad header are read all the same."""
    good = segment.encoded_header(HEADER)
    for at in range(len(good)):
        assert segment.decoded_header(good[:at]) is None
        flipped = bytearray(DATA)
        flipped[at] ^= 0x10
        assert segment.decoded_header(bytes(flipped)) is None
        assert len(scan(bytes(flipped)).records) == 5


def slots(older: Cursor, newer: Cursor) -> bytes:
    pair = sorted((older, newer), key=lambda c: c.generation % 2)
    return b"".join(cursors.encoded(c) for c in pair)


OLDER = Cursor((3, 10), (3, 5), 3, Totals(stored=Count(9, 9), corrupt=Count(1, 1)), 8)
NEWER = Cursor((4, 2), (3, 9), 4, Totals(stored=Count(12, 500), forgotten=Count(2**40, 2**50)), 9)
SLOT = 40 + 16 * 10 + 4


def test_cursor_flip_at_every_byte_leaves_one_of_the_two() -> None:
    """Either slot may go bad: the other one counts, and that it may be the older one is known."""
    data = slots(OLDER, NEWER)
    assert cursors.decoded(data) == (NEWER, True)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        found, sure = cursors.decoded(bytes(damaged))
        assert found in (OLDER, NEWER)
        assert sure == (at % 512 >= SLOT)


@given(st.binary(max_size=1100))
def test_a_cursor_of_rubbish_is_none(data: bytes) -> None:
    """Nothing but a cursor is taken for one; nothing raises."""
    assert cursors.decoded(data) == (None, False)
