"""The journal's format: round trip, and every kind of damage at every place."""

from __future__ import annotations

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import segment
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.segment import HEADER_BYTES, Entry, Header

bodies = st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" "))
entries = st.builds(
    Entry,
    st.sampled_from(segment.KINDS[1:]),
    st.uuids().map(str),
    st.integers(0, 2**50),
    bodies,
    st.integers(0, 255),
)

HEADER = Header(7, 1, bytes(range(16)), (6, 99), 1_795_231_261_000)


def a_segment(*bodies: bytes, run: int = 7) -> tuple[bytes, list[int]]:
    """A segment of these records, and the offset at which each ends."""
    data, ends = segment.encoded_header(HEADER), []
    for n, body in enumerate(bodies, 1):
        data += segment.encoded(Entry("end", str(uuid.UUID(int=n)), 1000 + n, body), run, n)
        ends.append(len(data))
    return data, ends


DATA, ENDS = a_segment(b'{"a":1}', b"", b'{"b":"' + b"x" * 90 + b'"}', '{"c":"\u0451BV"}'.encode(), b'{"d":4}')


@given(st.lists(entries, max_size=6), st.integers(0, 5))
def test_what_is_written_is_read(written: list[Entry], after: int) -> None:
    """Round trip of every kind, flag, id and body; `after` leaves out what was read before."""
    data = segment.encoded_header(HEADER) + b"".join(segment.encoded(e, 7, n) for n, e in enumerate(written, 1))
    scanned = segment.scan(data, 7, after)
    assert [r.entry for r in scanned.records] == written[after:]
    assert [r.place for r in scanned.records] == [(7, n) for n in range(after + 1, len(written) + 1)]
    assert (scanned.lost_behind, scanned.torn_at) == (0, None)
    assert segment.decoded_header(data) == HEADER


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
        scanned = segment.scan(DATA[:cut], 7)
        whole = [end for end in ENDS if end <= cut]
        assert scanned.ends == whole, cut
        assert scanned.lost_behind == 0, cut
        at_boundary = cut in ENDS or cut <= HEADER_BYTES
        assert scanned.torn_at == (None if at_boundary else (whole or [HEADER_BYTES])[-1]), cut


def test_zeros_behind_the_last_record_are_a_torn_tail() -> None:
    """Some file systems leave zeros after a power cut: nothing was lost by them."""
    scanned = segment.scan(DATA + bytes(300), 7)
    assert (len(scanned.records), scanned.lost_behind, scanned.torn_at) == (5, 0, len(DATA))


def lost_in(scanned: segment.Scanned, known_last: int = 5) -> int:
    """Records lost, when it is known from elsewhere that the last one written was `known_last`."""
    return known_last - len(scanned.records)


def test_flip_at_every_byte() -> None:
    """One bad byte costs the one record it is in, and the loss is known even behind the last whole one."""
    for at in range(HEADER_BYTES, len(DATA)):
        for mask in (0x01, 0x80, 0xFF):
            data = bytearray(DATA)
            data[at] ^= mask
            hit = next(n for n, end in enumerate(ENDS, 1) if at < end)
            scanned = segment.scan(bytes(data), 7)
            assert [r.sequence for r in scanned.records] == [n for n in range(1, 6) if n != hit], (at, mask)
            assert scanned.lost_behind == (hit == 5), (at, mask)
            assert scanned.torn_at is None


@settings(max_examples=300)
@given(
    st.integers(HEADER_BYTES, len(DATA) - 1),
    st.integers(0, 120),
    st.one_of(st.binary(max_size=120), st.integers(0, 120).map(bytes)),
)
def test_cut_out_or_overwritten_anywhere(at: int, length: int, put: bytes) -> None:
    """Bytes removed, zeroed, inserted: every record that is whole in what is left is read, none is invented."""
    damaged = DATA[:at] + put + DATA[at + length :]
    scanned = segment.scan(damaged, 7)
    originals = {r.sequence: r.entry for r in segment.scan(DATA, 7).records}
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
    scanned = segment.scan(DATA + foreign[HEADER_BYTES:], 7)
    assert [r.run for r in scanned.records] == [7] * 5


def test_header_that_is_cut_or_flipped_is_none() -> None:
    """The name of the file says what is needed; the records behind a bad header are read all the same."""
    good = segment.encoded_header(HEADER)
    for at in range(len(good)):
        assert segment.decoded_header(good[:at]) is None
        flipped = bytearray(DATA)
        flipped[at] ^= 0x10
        assert segment.decoded_header(bytes(flipped)) is None
        assert len(segment.scan(bytes(flipped), 7).records) == 5


def slots(older: Cursor, newer: Cursor) -> bytes:
    pair = sorted((older, newer), key=lambda c: c.generation % 2)
    return b"".join(cursors.encoded(c) for c in pair)


OLDER = Cursor((3, 10), (3, 5), 3, 8)
NEWER = Cursor((4, 2), (3, 9), 4, 9)


def test_cursor_flip_at_every_byte_leaves_one_of_the_two() -> None:
    """Either slot may go bad: the other one counts, and that it may be the older one is known."""
    data = slots(OLDER, NEWER)
    assert cursors.decoded(data) == (NEWER, True)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        found, sure = cursors.decoded(bytes(damaged))
        assert found in (OLDER, NEWER)
        assert sure == (bytes(damaged[:44] + damaged[512:556]) == data[:44] + data[512:556])


@given(st.binary(max_size=1100))
def test_a_cursor_of_rubbish_is_none(data: bytes) -> None:
    """Nothing but a cursor is taken for one; nothing raises."""
    assert cursors.decoded(data) == (None, False)
