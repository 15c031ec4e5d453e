"""The other end of GELF, for trying it out: bytes and datagrams in, messages out, and what is wrong with one. Pure.

What Graylog does without a word is said here: it drops booleans, nulls, and names that it does not take.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from datetime import datetime, timezone
from typing import Any

import attrs

from bitville_apm import limits

_HEAD = struct.Struct("!2s8sBB")
_CHUNKED, _GZIP = b"\x1e\x0f", b"\x1f\x8b"
_OWN = ("version", "host", "short_message", "full_message", "timestamp", "level", "facility", "line", "file")
_NAME = re.compile(r"_[\w.\-]*\Z")
_RESERVED = ("_id", "_source", "_message", "_timestamp", "_level")


class Unreadable(Exception):
    """What arrived is no message: why, in a few words."""


@attrs.define
class Stream:
    """Messages out of the bytes of one connection."""

    _rest: bytes = b""

    def took(self, data: bytes) -> list[bytes]:
        """The messages that these bytes end. Raises `Unreadable` when one becomes too long."""
        *whole, self._rest = (self._rest + data).split(b"\0")
        if max(map(len, (*whole, self._rest))) > limits.GELF_SINK_BYTES:
            raise Unreadable(f"more than {limits.GELF_SINK_BYTES} bytes without the zero byte that ends a message")
        return whole

    @property
    def torn(self) -> int:
        """Bytes of a message that has no end yet."""
        return len(self._rest)


@attrs.define
class Datagrams:
    """Messages out of datagrams, whatever the order of their parts."""

    _parts: dict[bytes, tuple[float, dict[int, bytes]]] = attrs.field(factory=dict)
    incomplete: int = 0
    """Messages given up, because some of their parts did not come within `limits.GELF_PARTS_S`."""

    def took(self, data: bytes, now: float) -> bytes | None:
        """The message that a datagram makes whole. Raises `Unreadable`. `now` is seconds that do not jump."""
        self.late(now)
        if data[:2] != _CHUNKED:
            return _inflated(data)
        if len(data) <= _HEAD.size:
            raise Unreadable("a part of a message with nothing in it")
        _, name, number, count = _HEAD.unpack_from(data)
        if not 0 <= number < count <= limits.GELF_CHUNKS:
            raise Unreadable(f"part {number} of {count}: at most {limits.GELF_CHUNKS} are put together")
        _, parts = self._parts.setdefault(name, (now, {}))
        parts[number] = data[_HEAD.size :]
        if len(parts) < count:
            return None
        del self._parts[name]
        return _inflated(b"".join(parts[n] for n in sorted(parts)))

    def late(self, now: float) -> None:
        """Give up what waits for its parts for too long, and the oldest where there are too many."""
        while self._parts:
            name, (since, _) = next(iter(self._parts.items()))
            if now - since < limits.GELF_PARTS_S and len(self._parts) <= limits.GELF_SINK_HELD:
                return
            del self._parts[name]
            self.incomplete += 1


def read(message: bytes) -> tuple[dict[str, Any], list[str]]:
    """A message, and what is wrong with it. Raises `Unreadable`."""
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unreadable("no JSON object")
    wrong = [
        f"{name} is missing, or no text"
        for name in ("version", "host", "short_message")
        if not isinstance(found.get(name), str) or not found[name]
    ]
    if "timestamp" in found and not _is_number(found["timestamp"]):
        wrong.append("timestamp is no number")
    for name, value in found.items():
        if name in _RESERVED or not (name in _OWN or _NAME.match(name)):
            wrong.append(f"{name}: Graylog does not take this name")
        elif not isinstance(value, str) and not _is_number(value):
            wrong.append(f"{name}: neither text nor number, Graylog drops it")
        elif isinstance(value, str) and len(value.encode("utf-8", "replace")) > limits.GRAYLOG_VALUE_BYTES:
            wrong.append(f"{name}: longer than {limits.GRAYLOG_VALUE_BYTES} bytes")
    return found, wrong


def shown(message: dict[str, Any]) -> str:
    """A message as a line for people: when, where, what."""
    at = message.get("timestamp")
    when = "-"
    if isinstance(at, int | float):
        try:
            when = f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S}"
        except (ValueError, OverflowError, OSError):
            when = str(at)
    words = [when, str(message.get("host", "-")), str(message.get("short_message", "-"))]
    for name, unit in (
        ("_method", ""), ("_url", ""), ("_postgres_source", ""), ("_status_code", ""), ("_duration_ms", " ms"),
    ):  # fmt: skip
        if name in message:
            words.append(f"{message[name]}{unit}")
    return "".join(c if c.isprintable() else "?" for c in "  ".join(words))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inflated(data: bytes) -> bytes:
    """What a datagram says, plain, zlib or gzip. Raises `Unreadable`."""
    if data[:1] == b"{":
        return data
    try:
        unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16 if data[:2] == _GZIP else zlib.MAX_WBITS)
        plain = unpacking.decompress(data, limits.GELF_SINK_BYTES)
    except zlib.error:
        raise Unreadable("neither JSON nor compressed JSON") from None
    if not unpacking.eof:
        raise Unreadable(f"it is cut, or more than {limits.GELF_SINK_BYTES} bytes")
    return plain
