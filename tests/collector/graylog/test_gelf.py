"""Messages for Graylog: what may be in one, and how it is cut and put into bytes."""

from __future__ import annotations

import json
import random
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.collector.graylog import gelf
from bitville_apm.store.interface import Found, Stored

texts = st.text(st.characters(codec="utf-8"))
floats = st.floats(0, 1e12)
stored = st.builds(
    Stored,
    found=st.builds(
        Found,
        id=st.uuids().map(str),
        project=texts.filter(bool),
        source=st.sampled_from(["php_agent", "postgres_agent"]),
        at=st.floats(0, 4e9),
        endpoint=texts,
        method=texts,
        url=st.text(max_size=700),
        status=st.none() | st.integers(0, 999),
        duration_ms=st.none() | floats | st.integers(0, 10**9),
        sql_count=st.integers(0, 2**53),
        sql_ms=floats | st.integers(0, 10**9),
        memory_peak_bytes=st.none() | st.integers(0, 2**53),
        host=texts,
        release=st.none() | texts,
    ),
    kind=st.sampled_from(["end", "died", "v1", "pg"]),
    client_id=st.none() | texts,
    body=st.binary(max_size=100) | st.integers(0, 40_000).map(lambda n: ("ä" * n).encode()),
)
FLOATS = {"_duration_ms", "_sql_duration_ms", "_memory_peak_mb", "timestamp"}
INTEGERS = {"_status_code", "_sql_queries", "level"}


def decoded(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message)
    return found


@given(stored, texts.filter(bool))
def test_every_message_is_one_that_graylog_takes(record: Stored, facility: str) -> None:
    """GELF-06: whatever a record has: names that are allowed, texts and numbers only, one type a field for ever, no
    value above 32,000 bytes, no zero byte, and the project, the id and level 6 in each.
    """
    plain = gelf.encoded(gelf.of_record(record, facility))
    assert b"\0" not in plain
    assert b"\n" not in plain
    message = decoded(plain)
    assert (message["version"], message["level"]) == ("1.1", 6)
    assert message["short_message"] == f"{record.found.source} - {record.found.project}"
    assert message["host"]
    for name, value in message.items():
        assert re.fullmatch(r"version|host|short_message|full_message|timestamp|level|_[\w.\-]+", name)
        assert name not in ("_id", "_source", "_message", "_timestamp", "_level")
        if name in FLOATS:
            assert type(value) is float, name
        elif name in INTEGERS:
            assert type(value) is int, name
        else:
            assert type(value) is str, name
            assert value
            assert len(value.encode()) <= limits.GRAYLOG_VALUE_BYTES
    assert len(message.get("_url", "")) <= 500
    assert message["_project"] == gelf.cut(record.found.project)
    assert message["_bv_id"] == gelf.cut(f"{record.found.project}/{record.kind}/{record.found.id}")
    whole = record.body.decode("utf-8", "replace")
    assert whole.startswith(message.get("full_message", ""))
    if len(whole.encode()) <= limits.GRAYLOG_VALUE_BYTES:
        assert message.get("full_message", "") == whole


@given(stored)
def test_the_same_record_is_the_same_message(record: Stored) -> None:
    """GELF-04: what is sent again is the same to the byte, and so is its id."""
    assert gelf.encoded(gelf.of_record(record, "f")) == gelf.encoded(gelf.of_record(record, "f"))


@pytest.mark.parametrize("message", [{"_id": "x"}, {"_source": "x"}, {"_flag": True}])
def test_what_graylog_would_drop_is_a_mistake_of_ours(message: dict[str, Any]) -> None:
    """GELF-06: booleans and reserved names vanish in Graylog without a word: they are refused here."""
    with pytest.raises(ValueError, match="drop"):
        gelf.fitting(message)


def test_whose_request_an_observation_belongs_to() -> None:
    """GELF-06: a message about a database has the correlation id of its request, and none where it has none."""
    found = Found(
        id="a", project="shop", source="postgres_agent", at=1.0, endpoint="pg_locks", method="", url="", status=None,
        duration_ms=None, cpu_ms=None, sql_count=0, sql_ms=0.0, memory_peak_bytes=None, host="db1", release=None,
        died=False,
    )  # fmt: skip
    for body, wanted in ((b'{"correlation_id": "Order 7"}', "Order 7"), (b"{}", None), (b"\xff", None)):
        record = Stored(found=found, kind="pg", recv_ms=1, client_id=None, body=body)
        message = gelf.of_record(record, "f")
        assert message.get("_correlation_id") == wanted
        assert message["_postgres_source"] == "pg_locks"
        assert "_sql_queries" not in message


@given(st.lists(stored, max_size=4))
def test_messages_of_a_stream_are_told_apart(records: list[Stored]) -> None:
    """GELF-01: a zero byte ends each message and is in none."""
    messages = [gelf.encoded(gelf.of_record(record, "f")) for record in records]
    assert b"".join(gelf.framed(message) for message in messages).split(b"\0") == [*messages, b""]


@given(st.binary(max_size=90_000), st.randoms(use_true_random=False))
def test_datagrams_are_put_together(noise: bytes, chance: Any) -> None:
    """GELF-01: parts that come in any order are the message again; each fits into a packet and says which part of how
    many it is.
    """
    parts = list(gelf.datagrams(noise, b"12345678"))
    assert all(len(part) <= limits.GELF_CHUNK_BYTES for part in parts)
    chance.shuffle(parts)
    if len(parts) == 1:
        assert zlib.decompress(parts[0]) == noise
        return
    assert all(part[:2] == b"\x1e\x0f" and part[2:10] == b"12345678" and part[11] == len(parts) for part in parts)
    assert zlib.decompress(b"".join(part[12:] for part in sorted(parts, key=lambda part: part[10]))) == noise


def test_no_message_has_too_many_parts() -> None:
    """GELF-01: the largest message there can be, of noise that cannot be compressed, fits; one beyond is refused."""
    noise = "".join(random.Random(1).choices([chr(n) for n in range(0x4E00, 0x9000)], k=11_000))
    fields: dict[str, Any] = {f"_{n}": noise for n in range(5)}
    assert len(list(gelf.datagrams(gelf.encoded(gelf.fitting({"full_message": noise}))))) <= limits.GELF_CHUNKS
    assert len(list(gelf.datagrams(gelf.encoded(gelf.fitting(fields))))) <= limits.GELF_CHUNKS
    with pytest.raises(ValueError, match="128 datagrams"):
        list(gelf.datagrams(random.Random(1).randbytes(200_000)))
