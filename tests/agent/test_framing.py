"""The line framer, fed whole, bytewise and with trailing data."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.agent.framing import LineFramer, Oversize


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=8),
    st.binary(max_size=9),
    st.lists(st.integers(0, 400)),
)
def test_lines_do_not_depend_on_how_bytes_arrive(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    """DAEMON-07: partial lines are kept; whatever the cuts, the lines are the same and the rest is waiting."""
    rest = rest.replace(b"\n", b"")
    data = b"".join(line + b"\n" for line in lines) + rest
    for way in ([data], [data[i : i + 1] for i in range(len(data))], pieces(data, cuts)):
        framer = LineFramer()
        assert [line for piece in way for line in framer.feed(piece)] == lines
        assert framer.unfinished == len(rest)
        assert framer.inside_line == bool(rest)


@given(st.integers(0, 30), st.integers(1, 7))
def test_a_line_over_the_limit_is_dropped_to_its_newline_and_reported(length: int, step: int) -> None:
    """A line beyond the limit never occupies more than the limit, and the line behind it is whole."""
    data = b"a" * length + b"\nnext\n"
    framer = LineFramer(most=10)
    found: list[bytes | Oversize] = []
    for i in range(0, len(data), step):
        found += framer.feed(data[i : i + step])
        assert framer.unfinished <= 10
    first, following = found
    assert following == b"next"
    if length <= 10:
        assert first == b"a" * length
    else:
        assert isinstance(first, Oversize)
        assert (first.length, first.beginning[:11]) == (length, b"a" * 11)


def test_8_mib_in_4_kib_pieces_costs_about_as_much_per_byte_as_1_mib() -> None:
    """Linear time: eight times the bytes may not cost anywhere near 64 times the time."""

    def cost(pieces: int) -> float:
        framer = LineFramer()
        chunk = b"x" * 4096
        started = time.process_time()
        for _ in range(pieces):
            framer.feed(chunk)
        (line,) = framer.feed(b"\n")
        assert len(line) == pieces * 4096  # type: ignore[arg-type]
        return time.process_time() - started

    cost(256)
    small = min(cost(256) for _ in range(5))
    large = min(cost(2048) for _ in range(5))
    assert large < 30 * max(small, 1e-4)
