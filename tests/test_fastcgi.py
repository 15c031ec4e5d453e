"""The FastCGI client, fed with bytes. That its requests are understood is shown by the shop's tests."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import fastcgi
from bitville_apm.fastcgi import Answer, FastCgiError


def record(kind: int, content: bytes, padding: int = 0) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), padding) + content + b"\0" * padding


PAGE = b"Status: 404 Not Found\r\nContent-type: text/html\r\n\r\n<p>nothing\r\n\r\nhere</p>"
ANSWER = record(7, b"PHP message: oh") + record(6, PAGE[:20], 4) + record(6, PAGE[20:], 3) + record(6, b"")
ANSWER += record(3, b"\0" * 8)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6).map(sorted))
def test_an_answer_may_come_in_any_pieces(cuts: list[int]) -> None:
    """However an answer is cut, status, headers, body and errors are the same, and it is finished only at its end."""
    answer = Answer()
    for start, end in zip([0, *cuts], [*cuts, len(ANSWER)], strict=True):
        answer.feed(ANSWER[start:end])
        assert answer.finished == (end == len(ANSWER))
    assert answer.status == 404
    assert answer.headers["content-type"] == "text/html"
    assert answer.body == b"<p>nothing\r\n\r\nhere</p>"
    assert answer.errors == b"PHP message: oh"


def test_bytewise_and_with_trailing_data() -> None:
    """Byte by byte is as good as whole, and what follows the end is left alone."""
    answer = Answer()
    for byte in ANSWER + b"more":
        answer.feed(bytes([byte]))
    assert answer.finished
    assert answer.body.endswith(b"here</p>")


def test_what_is_not_fastcgi_is_refused() -> None:
    """Another protocol's answer is an error, not an endless wait."""
    with pytest.raises(FastCgiError, match="version"):
        Answer().feed(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_status_left_out_is_200() -> None:
    """CGI says nothing when all is well."""
    answer = Answer()
    answer.feed(record(6, b"Content-type: text/html\r\n\r\nhello") + record(3, b"\0" * 8))
    assert answer.status == 200


@given(st.binary(max_size=200_000), st.text(max_size=300))
def test_a_request_is_whole_records(body: bytes, value: str) -> None:
    """A request is a chain of records that each fit 16 bits; streams end with an empty one; the body is unchanged."""
    data = fastcgi.request({"NAME": value}, body)
    streams: dict[int, bytes] = {}
    kinds = []
    while data:
        version, kind, identity, length, padding = struct.unpack_from(">BBHHB", data)
        assert (version, identity) == (1, 1)
        kinds.append((kind, length))
        streams[kind] = streams.get(kind, b"") + data[8 : 8 + length]
        data = data[8 + length + padding :]
    assert kinds[0][0] == 1
    assert [kind for kind, length in kinds if length == 0] == [4, 5]
    assert streams[5] == body
    assert value.encode() in streams[4]
