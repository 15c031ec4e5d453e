"""From the bytes of a body to what the store takes, and what is refused and why. Pure: bytes and times in.

Three forms come (wire.md 5): newline-delimited items of an agent, each with an envelope; a JSON list; and single
bare records, also spread over several lines by whoever writes them by hand. One bad record never harms another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from twisted.logger import Logger

from bitville_apm import cells, checks, limits, reading, requests
from bitville_apm.checks import Problem, Refused
from bitville_apm.collector import frames
from bitville_apm.http import HttpProblem
from bitville_apm.records import Item, Line
from bitville_apm.store.interface import Arrival

_log = Logger()
_LINE_MOST = limits.LINE_BYTES + limits.KIB
"""A record and the envelope around it."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)


class Sender(Struct, frozen=True, kw_only=True):
    """Whose body it is and how it came. `batch`: what the headers say means one record a line, whatever is in it."""

    project: str
    now: float
    journal: str | None = None
    batch: bool = False
    postgres: bool = False


class Refusal(Struct, frozen=True):
    """One record that is not taken: its line (from 1), its id if it had one, and why."""

    line: int
    id: str | None
    reason: str
    problems: list[Problem]


class Body(Struct, frozen=True):
    """A body read: each arrival with its line, the refusals, and whether it was one bare record alone."""

    arrivals: list[tuple[int, Arrival]]
    refused: list[Refusal]
    single: bool


class _Head(Struct, frozen=True):
    """What says which kind of record a line is."""

    k: Raw | UnsetType = UNSET
    t: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    correlation_id: Raw | UnsetType = UNSET
    body: Raw | UnsetType = UNSET
    source: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    request: Raw | UnsetType = UNSET

    @property
    def is_item(self) -> bool:
        """Whether it has an agent's envelope; a record of Postgres may have its `k` without one (LIST-02)."""
        return self.k is not UNSET and not (self.body is UNSET and self.is_postgres)

    @property
    def is_postgres(self) -> bool:
        """Whether it looks like an observation of a database."""
        return self.source is not UNSET and self.data is not UNSET and self.t is UNSET and self.request is UNSET

    def given_id(self) -> str | None:
        """The id as it came."""
        for raw in (self.id, self.correlation_id):
            if raw is not UNSET:
                try:
                    return msgspec.json.decode(raw, type=str)[: limits.PROBLEM_CHARACTERS]
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
        return None


_head = msgspec.json.Decoder(_Head)


def read(plain: bytes, sender: Sender) -> Body:
    """Read a decompressed body. Raises `HttpProblem`: 400 where not even its records can be told apart, 413."""
    single, lines = _split(plain, sender.batch)
    arrivals: list[tuple[int, Arrival]] = []
    refused: list[Refusal] = []
    for count, (number, line) in enumerate(lines):
        if count == limits.BODY_RECORDS:
            raise HttpProblem(413, f"more than {limits.BODY_RECORDS} records in one body; send smaller batches")
        head: _Head | Item = _Head()
        try:
            line, head = _head_of(line)
            arrivals.append((number, _one(line, head, sender)))
        except Refused as why:
            refused.append(Refusal(number, _given_id(head), why.reason, why.problems))
        except Exception:  # noqa: BLE001 - no record, however odd, may cost its neighbours
            _log.failure("a record could not be read")
            problem = Problem("", "cannot be read; the collector's log says more")
            refused.append(Refusal(number, _given_id(head), "invalid", [problem]))
        single = single and not _is_item(head)
    return Body(arrivals, refused, single)


# --- Telling records apart --------------------------------------------------------------------------------


def _split(plain: bytes, batch: bool) -> tuple[bool, Iterator[tuple[int, bytes]]]:
    """Whether this is one record alone; and the records, each with its line or place in the list (from 1)."""
    start = len(plain) - len(plain.lstrip())
    if start == len(plain):
        raise HttpProblem(400, "the body is empty")
    if batch:
        return False, _lines(plain)
    if plain[start] == ord("["):
        spans, end = _scanned(plain)
        if end is None or plain[end:].strip():
            raise HttpProblem(400, "the body is not JSON: its list does not end, or something follows it")
        return False, ((i, plain[a:b]) for i, (a, b) in enumerate(spans, 1))
    if b"\n" not in plain.strip():
        return True, iter([(1, plain.strip())])
    end = _scanned(plain.split(b"\n", 1)[0])[1]
    if end is None:  # the first line does not end what it begins
        end = _scanned(plain)[1]
        if end is not None and not plain[end:].strip():
            return True, iter([(1, plain.strip())])
    return False, _lines(plain)


def _lines(plain: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; one at a time, and of one that is too long only so much
    that it still is, so that a body is not held twice.
    """
    start, number = 0, 1
    while start < len(plain):
        end = plain.find(b"\n", start)
        end = len(plain) if end < 0 else end
        line = plain[start : min(end, start + _LINE_MOST + 1)].strip()
        if line:
            yield number, line
        start, number = end + 1, number + 1


def _scanned(plain: bytes) -> tuple[list[tuple[int, int]], int | None]:
    """What stands between the commas of the first bracketed value, and where that ends; None if it does not."""
    spans: list[tuple[int, int]] = []
    depth = start = 0
    for token in _TOKEN.finditer(plain):
        at, end = token.span()
        byte = plain[at]
        if byte in b"[{":
            depth += 1
            start = end if depth == 1 else start
        elif byte in b"]}":
            depth -= 1
            if depth <= 0:
                if spans or plain[start:at].strip():
                    spans.append((start, at))
                return spans, end
        elif byte == ord(","):
            if depth == 1:
                spans.append((start, at))
                start = end
        elif end - at == 1:
            break  # a string that does not end
    return spans, None


# --- One record -------------------------------------------------------------------------------------------


def _head_of(line: bytes) -> tuple[bytes, _Head | Item]:
    """The line, repaired where it had to be, and what it is; its whole envelope if that took no second look."""
    if len(line) > _LINE_MOST:
        raise Refused([Problem("", f"longer than {limits.LINE_BYTES} bytes")], "oversize")
    item = reading.plain_envelope(line)
    if item is not None:
        return line, item
    try:
        return line, _head.decode(line)
    except (msgspec.MsgspecError, RecursionError):
        line, _ = checks.repaired(line)
        return line, _head.decode(line)


def _is_item(head: _Head | Item) -> bool:
    return isinstance(head, Item) or head.is_item


def _given_id(head: _Head | Item) -> str | None:
    return head.id[: limits.PROBLEM_CHARACTERS] if isinstance(head, Item) else head.given_id()


def _one(line: bytes, head: _Head | Item, sender: Sender) -> Arrival:
    if isinstance(head, Item):
        return _item(head, sender)
    return _item(reading.envelope(line), sender) if head.is_item else _bare(line, head, sender)


def _item(item: Item, sender: Sender) -> Arrival:
    inner = reading.body_of(item)
    if item.recv > (sender.now + limits.CLOCK_AHEAD_S) * 1000:
        raise _ahead("recv", item.recv / 1000 - sender.now)
    try:
        return _arrival(
            inner, sender, id=inner.id, recv_ms=item.recv, host=item.host, seq=item.seq, framed=item.framed,
        )  # fmt: skip
    except Refused as refused:
        raise refused.under("body") from None


def _bare(line: bytes, head: _Head, sender: Sender) -> Arrival:
    recv_ms = int(sender.now * 1000)
    if head.is_postgres or (sender.postgres and head.t is UNSET):
        inner = reading.read_body("pg", line, recv_ms)
        host = inner.message.host or inner.message.server or ""
    else:
        inner = reading.read_line(line, recv_ms)
        if inner.kind not in ("end", "v1"):
            raise Refused([Problem("t", f"a {inner.kind} line is for an agent; a collector takes end records")])
        host = None
    return _arrival(inner, sender, id=inner.id, recv_ms=recv_ms, host=host, seq=None, framed=False)


def _arrival(
    line: Line, sender: Sender, *, id: str, recv_ms: int, host: str | None, seq: tuple[int, int] | None, framed: bool
) -> Arrival:
    """What the store takes. `host` None: the one the record itself names."""
    extra: dict[str, Any] = {}
    if line.kind == "frame":
        _not_ahead(line.message.at, sender.now)
        wrong = list(frames.problems(line.message))
        if wrong:
            raise Refused(wrong[: limits.PROBLEMS])
        extra["frame"] = line.message
    elif line.kind == "pg":
        _not_ahead(line.message.at or 0.0, sender.now)
        extra["postgres"] = line.message
    else:
        request = extra["request"] = requests.request_of(line, uses=not framed)
        _not_ahead(request.at, sender.now)
        host = request.hostname if host is None else host
        extra["client_id"] = requests.client_id(line)
        if not framed:
            extra["cells"] = cells.of_request(request, requests.profile_of(line.message))
    return Arrival(
        project=sender.project,
        kind=line.kind,
        id=id,
        recv_ms=recv_ms,
        host=host or "",
        body=line.body,
        journal=sender.journal,
        seq=seq,
        **extra,
    )


def _not_ahead(at: float, now: float) -> None:
    if at > now + limits.CLOCK_AHEAD_S:
        raise _ahead("at", at - now)


def _ahead(field: str, seconds: float) -> Refused:
    return Refused([Problem(field, f"{seconds:.0f} s ahead of the collector's clock; check both clocks")], "clock")
