"""The sink's side: messages out of bytes and datagrams, and what is told to be wrong with one."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.collector.graylog import gelf
from bitville_apm.collector.graylog.receiving import Datagrams, Stream, Unreadable, read, shown

GOOD = {"version": "1.1", "host": "web1", "short_message": "php_agent - shop"}
messages = st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\0", b"")), max_size=8)


@given(messages, st.integers(1, 40), st.binary(max_size=10).map(lambda data: data.replace(b"\0", b"")))
def test_a_stream_in_pieces(sent: list[bytes], size: int, trailing: bytes) -> None:
    """GELF-01: messages are the same whole, in pieces of any size and byte by byte; an end that never comes is told."""
    data = b"".join(gelf.framed(message) for message in sent) + trailing
    for pieces in ([data], [data[at : at + size] for at in range(0, len(data), size)], [bytes([b]) for b in data]):
        stream = Stream()
        assert [message for piece in pieces for message in stream.took(piece)] == sent
        assert stream.torn == len(trailing)


def test_a_stream_without_an_end() -> None:
    """What never ends a message does not fill the memory."""
    stream = Stream()
    for _ in range(limits.GELF_SINK_BYTES // 65_536):
        assert stream.took(b"x" * 65_536) == []
    with pytest.raises(Unreadable, match="without the zero byte"):
        stream.took(b"x")


@given(st.lists(st.binary(min_size=1, max_size=9000), max_size=5), st.randoms(use_true_random=False))
def test_datagrams_in_any_order(sent: list[bytes], dice: Any) -> None:
    """GELF-01: parts of several messages, mixed and repeated, are these messages."""
    parts = [part for n, message in enumerate(sent) for part in gelf.datagrams(message, n.to_bytes(8, "big"))]
    dice.shuffle(parts)
    taking = Datagrams()
    found = [message for part in parts if (message := taking.took(part, 0.0)) is not None]
    assert sorted(found) == sorted(sent)
    assert taking.incomplete == 0


def test_parts_that_do_not_come() -> None:
    """A message is given up after five seconds, as Graylog does, and too many unfinished ones push out the oldest."""
    taking = Datagrams()
    noise = [b"\x1e\x0f" + n.to_bytes(8, "big") + b"\0\2x" for n in range(limits.GELF_SINK_HELD + 10)]
    assert taking.took(noise[0], 0.0) is None
    taking.late(limits.GELF_PARTS_S)
    assert taking.incomplete == 1
    for part in noise:
        taking.took(part, 10.0)
    assert taking.incomplete == 10
    for bad in (
        b"\x1e\x0f",
        b"\x1e\x0f12345678\5\5x",
        b"\x1e\x0f12345678\0\xffx",
        b"nothing",
        zlib.compress(b"x")[:-2],
    ):
        with pytest.raises(Unreadable):
            taking.took(bad, 10.0)
    for packed in (zlib.compress(b"{}"), gzip.compress(b"{}"), b"{}"):
        assert taking.took(packed, 10.0) == b"{}"
    with pytest.raises(Unreadable, match="more than"):
        taking.took(zlib.compress(b"x" * (limits.GELF_SINK_BYTES + 1)), 10.0)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"_flag": True}, "_flag: neither"),
        ({"_none": None}, "_none: neither"),
        ({"_id": "x"}, "_id: Graylog"),
        ({"user": "x"}, "user: Graylog"),
        ({"_a b": "x"}, "_a b: Graylog"),
        ({"host": ""}, "host is missing"),
        ({"version": 1}, "version is missing"),
        ({"timestamp": "now"}, "timestamp is no number"),
        ({"_x": "y" * 32_001}, "_x: longer"),
    ],
)
def test_what_graylog_drops_is_said(more: dict[str, Any], why: str) -> None:
    """GELF-06: what Graylog would lose without a word."""
    found, wrong = read(json.dumps({**GOOD, **more}).encode())
    assert found == {**GOOD, **more}
    assert [problem for problem in wrong if problem.startswith(why)]


@pytest.mark.parametrize("bad", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"1"])
def test_what_is_no_message(bad: bytes) -> None:
    """Neither is it taken, nor does it end the sink."""
    with pytest.raises(Unreadable):
        read(bad)


def test_a_message_is_a_line() -> None:
    """What is printed of a message is one line, whatever it says."""
    assert read(json.dumps(GOOD).encode())[1] == []
    more = {
        "timestamp": 1_800_014_400.5,
        "_method": "GET",
        "_url": "/a\n\x1b[2J",
        "_status_code": 200,
        "_duration_ms": 7,
    }
    line = shown({**GOOD, **more})
    assert line == "2027-01-15 12:00:00  web1  php_agent - shop  GET  /a??[2J  200  7 ms"
    assert shown({"timestamp": 1e99}).startswith("1e+99")
