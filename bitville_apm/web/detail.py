"""One stored record, read for people: what it was, its functions, its statements. Pure; slow on large ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bitville_apm.checks import Refused
from bitville_apm.reading import read_body
from bitville_apm.requests import External, Request, StatementUse, profile_of, request_of, stacks_of
from bitville_apm.store.interface import Found, Stored


class FunctionUse(Struct, frozen=True):
    """A function's time in one request, ms, and the bytes it kept; None where the profiler does not tell."""

    name: str
    self_ms: float | None
    inclusive_ms: float | None
    calls: int | None
    memory_bytes: int | None


class Detail(Struct, frozen=True, kw_only=True):
    """A record, read. `request` is None for what is no request; `record` is its JSON as plain values.

    `stacks` has the frames that led to a statement, innermost first, by its fingerprint.
    """

    found: Found
    kind: str
    recv_ms: int
    client_id: str | None
    body: bytes
    record: Any
    message: Any = None
    request: Request | None = None
    functions: tuple[FunctionUse, ...] = ()
    profile_ms: float = 0.0
    statements: tuple[StatementUse, ...] = ()
    stacks: Mapping[str, tuple[str, ...]] = {}
    externals: tuple[External, ...] = ()


def detail_of(stored: Stored) -> Detail:
    """Read a stored record whole. What cannot be read any more leaves its row and its raw JSON."""
    record = msgspec.json.decode(stored.body)
    plain = Detail(
        found=stored.found,
        kind=stored.kind,
        recv_ms=stored.recv_ms,
        client_id=stored.client_id,
        body=stored.body,
        record=record if isinstance(record, dict) else {},
    )
    if stored.kind not in ("end", "died", "v1"):
        return plain
    try:
        line = read_body(stored.kind, stored.body, stored.recv_ms)
    except Refused:
        return plain
    request, profile = request_of(line), profile_of(line.message)
    functions = [
        FunctionUse(f.name, _ms(f.self_us), _ms(f.inclusive_us), f.calls, f.memory)
        for f in (profile.functions if profile is not None else ())
    ]
    return msgspec.structs.replace(
        plain,
        message=line.message,
        request=request,
        functions=tuple(sorted(functions, key=lambda f: (-(f.self_ms or 0.0), -(f.inclusive_ms or 0.0), f.name))),
        profile_ms=profile.total_us / 1000 if profile is not None else 0.0,
        statements=request.statements,
        stacks=stacks_of(line.message),
        externals=request.externals,
    )


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def detail_json(detail: Detail) -> dict[str, Any]:
    """What `/api/requests/<id>` answers: the row's fields, the record as it came, its functions and statements."""
    return {
        **found_json(detail.found),
        "kind": detail.kind,
        "received": detail.recv_ms / 1000,
        "client_id": detail.client_id,
        "functions": [msgspec.structs.asdict(function) for function in detail.functions],
        "statements": [
            {
                "fingerprint": use.fingerprint,
                "statement": use.statement,
                "count": use.n,
                "total_ms": use.ms,
                "max_ms": use.max_ms,
                "failed": use.failed,
                "stack": detail.stacks.get(use.fingerprint, ()),
            }
            for use in detail.statements
        ],
        "external": [{"target": call.target, "count": call.n, "total_ms": call.ms} for call in detail.externals],
        "record": msgspec.Raw(detail.body),
    }


def found_json(found: Found) -> dict[str, Any]:
    """One row of a search (wire.md 8)."""
    return msgspec.structs.asdict(found)
