"""Reading one line of what travels: a fast path, and the complete check for what that does not accept.

msgspec decodes nearly every record straight into its type, while a look that parses nothing tells whether nesting,
integers and text can be within bounds. Everything else goes once through `checks.py`, which either repairs it (lone
surrogates, PHP's `[]` for an empty object) or names every field that is wrong.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bitville_apm import checks, limits, version1
from bitville_apm.checks import Problem, Refused
from bitville_apm.records import (
    ID_NAMESPACE,
    Begin,
    Count,
    Died,
    End,
    Frame,
    Item,
    Line,
    Postgres,
    Route,
    Spooled,
    Version1,
    canonical_id,
)

_CLIENT_LINES: dict[str, type[Any]] = {
    "begin": Begin,
    "route": Route,
    "end": End,
    "spooled": Spooled,
    "count": Count,
}
_BODIES: dict[str, type[Any]] = {"end": End, "v1": Version1, "died": Died, "frame": Frame, "pg": Postgres}
_DECODERS = {type_: msgspec.json.Decoder(type_) for type_ in {**_CLIENT_LINES, **_BODIES}.values()}


class _Head(Struct, frozen=True):
    """The one field that says what kind of line this is."""

    t: str | UnsetType = UNSET


_FIRST = re.compile(rb'\{"t":"(\w+)"')
_head = msgspec.json.Decoder(_Head)
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for lines that the complete check has to judge."""


def read_line(line: bytes, recv_ms: int) -> Line:
    """Read one line of a client, without its newline. `recv_ms` (unix ms) names version 1 lines that have no id.

    Raises `Refused` with every field that is wrong.
    """
    first = _FIRST.match(line)
    if first:  # as our clients write it
        kind: Any = first[1].decode()
    else:
        try:
            kind = _head.decode(line).t
        except UNREADABLE:
            line, value = checks.repaired(line)
            kind = value.get("t", UNSET)
    if kind is UNSET:
        return read_body("v1", line, recv_ms)
    if not isinstance(kind, str) or kind not in _CLIENT_LINES:
        raise Refused([Problem("t", f"unknown; one of {', '.join(_CLIENT_LINES)}, or none for version 1")])
    return _read(kind, _CLIENT_LINES[kind], line, recv_ms)


def read_body(kind: str, body: bytes, recv_ms: int) -> Line:
    """Read the body of an item of kind `end`, `died`, `v1`, `frame` or `pg`. Raises `Refused`."""
    return _read(kind, _BODIES[kind], body, recv_ms)


def _read(kind: str, type_: type[Any], body: bytes, recv_ms: int) -> Line:
    if len(body) > limits.LINE_BYTES:
        raise Refused([Problem("", f"longer than {limits.LINE_BYTES} bytes")], "oversize")
    try:
        if checks.suspicious(body):
            raise msgspec.ValidationError("looked at again, slowly")
        message = _DECODERS[type_].decode(body)
    except UNREADABLE:
        body, message = checks.complete(body, type_)
    if isinstance(message, Version1 | Postgres):
        named = (message.correlation_id if isinstance(message, Version1) else None) or message.id
        identity = canonical_id(named) if named else str(uuid.uuid5(ID_NAMESPACE, f"{recv_ms}\n{body.hex()}"))
        if isinstance(message, Version1):
            version1.started_and_ms(message)
    else:
        identity = "" if isinstance(message, Count) else canonical_id(message.id)
    return Line(kind, identity, message, body)


_item = msgspec.json.Decoder(Item)


def plain_envelope(line: bytes) -> Item | None:
    """The envelope of a line that is written as agents write it; None for any other: that one has to be looked at."""
    if not line.startswith(b'{"k":'):
        return None
    try:
        return _item.decode(line)
    except UNREADABLE:
        return None


def envelope(line: bytes) -> Item:
    """The envelope of one line of a batch, its body not read yet. Raises `Refused`."""
    try:
        return _item.decode(line)
    except UNREADABLE:
        found: Item = checks.complete(line, Item)[1]
        return found


def body_of(item: Item) -> Line:
    """The body within an envelope, under the envelope's id. Raises `Refused`; its fields begin `body.`."""
    try:
        read = read_body(item.k, bytes(item.body), item.recv)
    except Refused as refused:
        raise refused.under("body") from None
    return read if read.id == item.id else Line(read.kind, canonical_id(item.id), read.message, read.body)


def read_item(line: bytes) -> tuple[Item, Line]:
    """Read one line of a batch: its envelope and its body. Raises `Refused` as those do."""
    item = envelope(line)
    return item, body_of(item)
