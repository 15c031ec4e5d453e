"""The records that travel (wire.md 1, 2, 4-6), as types. How bytes become one of them is in `reading.py`.

What is required and of which type is said here and nowhere else; fields that are not known here are kept, because a
record travels and is stored as the bytes that came.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bitville_apm import limits

ID_NAMESPACE = uuid.UUID("6b1f6c5e-3f0b-5d0a-9a35-1f2a7d1c4b60")
"""Ids that are no UUIDs become uuid5 of themselves under this. Never changes: stored ids depend on it."""

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}(?:\1[0-9a-fA-F]{4}){2}\1[0-9a-fA-F]{12}\Z")

Text = Annotated[str, Meta(min_length=1)]
UnixSeconds = Annotated[float, Meta(ge=0, lt=1e11)]
Milliseconds = Annotated[float, Meta(ge=0, le=limits.MS_MAX)]
Number = Annotated[int, Meta(ge=0, le=limits.NUMBER_MAX)]
Schedstat = tuple[Number, Number]
"""`/proc/PID/schedstat`: nanoseconds on a CPU, nanoseconds runnable but waiting for one."""


def canonical_id(text: str) -> str:
    """The identity under which a record is stored: a UUID in lower case with hyphens.

    Anything that is no UUID becomes uuid5 of itself under `ID_NAMESPACE`, so that the same spelling always
    gives the same record.
    """
    if _CANONICAL.match(text):
        return text
    if _UUID.match(text):
        return str(uuid.UUID(text))
    return str(uuid.uuid5(ID_NAMESPACE, text))


# --- Lines of a client (wire.md 1) ------------------------------------------------------------------------


class Begin(Struct, frozen=True, kw_only=True):
    """A request started. `pid` is what the client believes; the kernel's word (SO_PEERCRED) is what counts."""

    id: Text
    at: UnixSeconds
    v: int | None = None
    pid: int | None = None
    method: str = ""
    uri: str = ""
    client: str | None = None
    agent: str | None = None
    release: str | None = None
    ss: Schedstat | None = None


class Route(Struct, frozen=True, kw_only=True):
    """A framework knows its route now."""

    id: Text
    route: Text


class Spooled(Struct, frozen=True, kw_only=True):
    """The client gave up waiting for the ack and wrote a spool file."""

    id: Text


class Count(Struct, frozen=True, kw_only=True):
    """Short records that are only counted (spool files): `unconfirmed` were sent whole but never acknowledged,
    `left_out` found no room in a full file."""

    unconfirmed: Number
    left_out: Number = 0


class RequestPart(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    method: Text
    uri: str
    route: str | None = None
    query: Any = None
    headers: Any = None
    post: Any = None
    files: Any = None


class Response(Struct, frozen=True, kw_only=True):
    """What was answered."""

    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    headers: Any = None


class Cpu(Struct, frozen=True, kw_only=True):
    """getrusage; only where schedstat is not to be had, since a profiler's helper thread inflates it."""

    user_us: Number = 0
    system_us: Number = 0


class Memory(Struct, frozen=True, kw_only=True):
    """Of the PHP process, bytes."""

    peak_bytes: Number | None = None
    current_bytes: Number | None = None


class Query(Struct, frozen=True, kw_only=True):
    """One statement, or several of one shape added up (`n`); `ms` is their sum, `c` an index of connections."""

    sql: str
    ms: Milliseconds
    at: float | None = None
    n: Number = 1
    c: int | None = None
    failed: bool | int | None = None
    stack: Any = None


class Connection(Struct, frozen=True, kw_only=True):
    """Where statements ran."""

    driver: str | None = None
    host: str | None = None
    port: int | str | None = None
    database: str | None = None
    user: str | None = None


class Sql(Struct, frozen=True, kw_only=True):
    """All statements of a request: `n` and `ms` count every one, `queries` may be cut."""

    n: Number = 0
    ms: Milliseconds = 0.0
    failed: Number = 0
    slow: Number = 0
    connections: list[Connection] = []
    queries: list[Query] = []
    truncated: bool | int | None = None


class Call(Struct, frozen=True, kw_only=True):
    """Time spent waiting for somebody else than the database."""

    kind: Literal["http", "cache", "other"]
    target: str
    n: Number = 1
    ms: Milliseconds = 0.0
    at: float | None = None


class Excimer(Struct, frozen=True, kw_only=True, tag_field="kind", tag="excimer"):
    """Collapsed stacks, a line each: `file;function;function samples`."""

    period_us: Annotated[int, Meta(gt=0)]
    stacks: str


class Xhprof(Struct, frozen=True, kw_only=True, tag_field="kind", tag="xhprof"):
    """Caller/callee edges `a==>b` of XHProf and its relatives."""

    edges: dict[str, Any]


class Fatal(Struct, frozen=True, kw_only=True):
    """The error that ended the request."""

    type: int | str | None = None
    message: str | None = None
    file: str | None = None
    line: int | None = None


class Server(Struct, frozen=True, kw_only=True):
    """The PHP side of the host."""

    hostname: str | None = None
    php: str | None = None
    sapi: str | None = None
    pool: str | None = None
    software: str | None = None
    client: str | None = None


class End(Struct, frozen=True, kw_only=True):
    """What one request leaves (wire.md 2). `at` is its start, `ms` its wall time without the client's own work."""

    v: Literal[2]
    id: Text
    at: UnixSeconds
    ms: Milliseconds
    request: RequestPart
    client: str | None = None
    agent: str | None = None
    response: Response | None = None
    ss: Schedstat | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    sql: Sql | None = None
    calls: list[Call] | None = None
    profile: Excimer | Xhprof | None = None
    fatal: Fatal | None = None
    context: Any = None
    release: str | None = None
    trace: Any = None
    queue_ms: float | None = None
    server: Server | None = None
    php: Any = None
    client_us: float | None = None
    short: bool = False
    sampled_down: Any = None


class Version1(Struct, frozen=True, kw_only=True):
    """The first version's record (wire.md 3), loosely: `requests.py` knows its two spellings."""

    correlation_id: str | None = None
    id: str | None = None
    timestamp: float | str | None = None
    elapsed_ms: float | str | None = None
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None
    xhprof: dict[str, Any] | None = None
    sql: dict[str, Any] | None = None
    server: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    custom: Any = None
    fatal_error: dict[str, Any] | None = None
    _meta: Any = None


class Died(Struct, frozen=True, kw_only=True):
    """A request that ended without an end: its begin line, what the last look saw, and the time it had run."""

    id: Text
    at: UnixSeconds
    ms: Milliseconds
    pid: int | None = None
    method: str = ""
    uri: str = ""
    route: str | None = None
    client: str | None = None
    agent: str | None = None
    release: str | None = None
    ss: Schedstat | None = None
    state: str | None = None
    looks: Number | None = None


class Frame(Struct, frozen=True, kw_only=True):
    """Ten seconds of one host and project, added up (wire.md 6). `cells` hold columns as arrays."""

    id: Text
    at: UnixSeconds
    secs: Annotated[float, Meta(ge=0)]
    v: Literal[2]
    covers: tuple[int, int, int] | None = None
    final: bool = False
    late: bool = False
    seconds: dict[str, list[float | None]] = {}
    load: dict[str, Any] = {}
    cells: dict[str, Cells] = {}
    links: list[tuple[str, str, str, str, float, float | None, float]] = []
    lost: dict[str, float] = {}


class Cells(Struct, frozen=True, kw_only=True):
    """The values of one dimension and, under each column's name, one number (or histogram) a value."""

    values: list[str]
    columns: dict[str, list[Any]] = {}


class Postgres(Struct, frozen=True, kw_only=True):
    """One observation of a database server (LIST-02), in both versions' shapes."""

    source: Text
    data: Any
    id: str | None = None
    host: str | None = None
    server: str | None = None
    at: UnixSeconds | None = None
    timestamp: float | str | None = None
    correlation_id: str | None = None


class Line(Struct, frozen=True):
    """One line read: its kind (`begin` … `count`, `v1`, `died`, `frame`, `pg`), canonical id, and its bytes.

    `body` differs from what came only where something had to be repaired. `id` is empty for a `count`.
    """

    kind: str
    id: str
    message: Any
    body: bytes


# --- Items from an agent to a collector (wire.md 5) -------------------------------------------------------


class Item(Struct, frozen=True, kw_only=True):
    """A record on its way: `seq` is its (run, sequence) in the journal, `recv` unix ms when it entered that.

    `framed` says that a frame counts it, so that the collector must not.
    """

    k: Literal["end", "died", "v1", "frame", "pg"]
    id: Text
    body: msgspec.Raw
    seq: tuple[Number, Number]
    recv: Annotated[int, Meta(ge=0, lt=10**14)]
    host: str
    framed: bool = False
