"""From a stored record to a message in Graylog's format, and from a message to what travels. Pure: values in, bytes
out.

GELF 1.1, https://go2docs.graylog.org/current/getting_in_log_data/gelf.html: a JSON object with `version`, `host`,
`short_message`, `timestamp` (unix seconds), `level` (syslog's) and fields of our own, each with `_` before its name. A
field is a text or a number: what is neither, or unknown, is left out, since Graylog drops booleans and nulls without a
word. A field keeps one type for ever: the index behind Graylog takes the type of the first value it sees, so that what
may have a fraction always has one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from bitville_apm import limits
from bitville_apm.collector.message import Message
from bitville_apm.store.interface import Stored

Value = str | int | float
_WARNING, _NOTICE, _INFORMATIONAL = 4, 5, 6
_CHUNKED = b"\x1e\x0f"
_HEAD = struct.Struct("!2s8sBB")
_PAYLOAD = limits.GELF_CHUNK_BYTES - _HEAD.size
_RESERVED = ("_id", "_source", "_message", "_timestamp", "_level")


def of_record(stored: Stored, facility: str) -> dict[str, Value]:
    """The message of one record.

    `_bv_id` names it: what is sent again after a cut has the same one. A request that was taken for dead and the end
    that came for it all the same are two messages, of one `_correlation_id`.
    """
    found = stored.found
    server = found.host or "unknown"
    message: dict[str, Value | None] = {
        "version": "1.1",
        "host": server,
        "short_message": f"{found.source} - {found.project}",
        "full_message": stored.body.decode("utf-8", "replace"),
        "timestamp": round(found.at, 6),
        "level": _INFORMATIONAL,
        "_bv_id": f"{found.project}/{stored.kind}/{found.id}",
        "_correlation_id": stored.client_id or found.id,
        "_project": found.project,
        "_kind": stored.kind,
        "_server_hostname": server,
        "_facility": facility,
    }
    if stored.kind == "pg":
        message["_correlation_id"] = _correlation(stored.body)
        message["_postgres_source"] = found.endpoint
    else:
        message |= {
            "_duration_ms": _fraction(found.duration_ms),
            "_url": found.url[: limits.GRAYLOG_URL_CHARACTERS],
            "_method": found.method,
            "_endpoint": found.endpoint,
            "_status_code": found.status,
            "_sql_queries": found.sql_count,
            "_sql_duration_ms": _fraction(found.sql_ms),
            "_memory_peak_mb": _fraction(_megabytes(found.memory_peak_bytes)),
            "_release": found.release,
        }
    return fitting(message)


def of_spike(message: Message, facility: str) -> dict[str, Value]:
    """The message of an alert: its subject, the whole report, and in fields what a stream may look at."""
    spike, event = message.spike, message.event
    over = event == "over" and spike.end is not None
    return fitting(
        {
            "version": "1.1",
            "host": spike.hosts[0] if spike.hosts else "unknown",
            "short_message": message.subject,
            "full_message": message.markdown(),
            "timestamp": round((spike.end if over else None) or spike.onset, 6),
            "level": _NOTICE if over else _WARNING,
            "_bv_id": f"{spike.project}/spike/{spike.id}/{event}",
            "_project": spike.project,
            "_kind": "spike",
            "_event": event,
            "_verdict": message.report.verdict,
            "_link": message.link,
            "_hosts": ", ".join(spike.hosts),
            "_load": _fraction(spike.level),
            "_load_before": _fraction(spike.baseline),
            "_facility": facility,
        }
    )


def fitting(message: Mapping[str, Value | None]) -> dict[str, Value]:
    """A message as Graylog takes it: no value that is unknown or empty, and no text that is too long."""
    fits: dict[str, Value] = {}
    for name, value in message.items():
        if name in _RESERVED or isinstance(value, bool):
            raise ValueError(f"{name}: Graylog would drop it")
        if isinstance(value, str):
            value = cut(value)
        if value is not None and value != "":
            fits[name] = value
    return fits


def cut(text: str) -> str:
    """A text of at most `limits.GRAYLOG_VALUE_BYTES` in UTF-8, cut between two characters."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limits.GRAYLOG_VALUE_BYTES:
        return data.decode()
    return data[: limits.GRAYLOG_VALUE_BYTES].decode("utf-8", "ignore")


def encoded(message: Mapping[str, Value]) -> bytes:
    """A message as JSON: one line, without a zero byte."""
    return msgspec.json.encode(message)


def framed(message: bytes) -> bytes:
    """As it goes over TCP and TLS: behind each message a zero byte. Graylog takes nothing compressed there."""
    return message + b"\0"


def datagrams(message: bytes, number: bytes | None = None) -> Iterator[bytes]:
    """As it goes over UDP: compressed, in several datagrams if it is long. `number`: 8 bytes that all its parts have.

    Raises `ValueError` for one that would need more parts than Graylog puts together.
    """
    packed = zlib.compress(message, 6)
    if len(packed) <= limits.GELF_CHUNK_BYTES:
        yield packed
        return
    parts = [packed[at : at + _PAYLOAD] for at in range(0, len(packed), _PAYLOAD)]
    if len(parts) > limits.GELF_CHUNKS:
        raise ValueError(f"a message of {len(packed)} bytes does not fit into {limits.GELF_CHUNKS} datagrams")
    number = number or os.urandom(8)
    for n, part in enumerate(parts):
        yield _HEAD.pack(_CHUNKED, number, n, len(parts)) + part


def _correlation(body: bytes) -> str | None:
    """The request that an observation belongs to."""
    try:
        return msgspec.json.decode(body, type=_Observation).correlation_id
    except msgspec.MsgspecError:
        return None


class _Observation(msgspec.Struct):
    correlation_id: str | None = None


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / limits.MIB


def _fraction(number: float | None) -> float | None:
    return None if number is None else round(float(number), 3)
