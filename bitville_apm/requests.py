"""One finished request in one form, whichever line told of it: an end, a died, or a version 1 record.

Store, rolls and pages work on this form only; the record itself is kept beside it as the bytes that came.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from bitville_apm import endpoints, limits, profile, sqltext, version1
from bitville_apm.profile import Own, Profile
from bitville_apm.records import Call, Died, End, Excimer, Line, Query, Sql, Version1

_DIALECTS = (("mysql", "mysql"), ("maria", "mysql"), ("pg", "pg"), ("postgres", "pg"), ("sqlite", "sqlite"))


class StatementUse(Struct, frozen=True):
    """What one request did with one statement: executions, their time together and the longest, ms."""

    fingerprint: str
    statement: str
    n: int
    ms: float
    max_ms: float
    failed: int


class External(Struct, frozen=True):
    """What one request asked of one other host or service."""

    target: str
    n: int
    ms: float


class Request(Struct, frozen=True, kw_only=True):
    """One finished request. `at` unix seconds of its start, times in the units named, None where unknown."""

    id: str
    kind: str
    at: float
    ms: float
    method: str
    uri: str
    endpoint: str
    status: int | None = None
    cpu_us: int | None = None
    queue_us: int | None = None
    memory_peak: int | None = None
    sql_n: int = 0
    sql_ms: float = 0.0
    statements: tuple[StatementUse, ...] = ()
    externals: tuple[External, ...] = ()
    client: str | None = None
    agent: str | None = None
    release: str | None = None
    hostname: str | None = None
    fatal: bool = False

    @property
    def end(self) -> float:
        """Unix seconds when it ended: the window it counts in."""
        return self.at + self.ms / 1000

    @property
    def died(self) -> bool:
        """Whether it ended without saying so."""
        return self.kind == "died"

    @property
    def failed(self) -> bool:
        """What `errors` counts: a status of 500 and above, a fatal error, or died."""
        return self.fatal or self.died or (self.status or 0) >= 500


@functools.lru_cache(limits.NAMES_REMEMBERED)
def network(address: str | None) -> str | None:
    """The /24 or /48 an address belongs to, as the dimension `client` has it; None for what is no address."""
    if not address:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return str(ipaddress.ip_network(f"{parsed}/{24 if parsed.version == 4 else 48}", strict=False))


@functools.lru_cache(limits.NAMES_REMEMBERED)
def dialect(driver: str | None) -> str:
    """The dialect of wire.md 7 that a driver's name implies."""
    name = (driver or "").lower()
    return next((d for part, d in _DIALECTS if part in name), "unknown")


def request_of(line: Line, uses: bool = True) -> Request:
    """The common form of an `end`, `died` or `v1` line. `uses` False: without statements and externals, the half of
    the work; nobody asks for those of a record that a frame has counted.
    """
    message = line.message
    if isinstance(message, End):
        return _of_end(line, message, uses)
    if isinstance(message, Version1):
        return _of_version1(line, message, uses)
    assert isinstance(message, Died), line.kind  # noqa: S101 - callers ask only for requests
    return Request(
        id=line.id,
        kind="died",
        at=message.at,
        ms=message.ms,
        method=message.method,
        uri=message.uri,
        endpoint=endpoints.endpoint(message.method, message.uri, message.route),
        client=message.client,
        agent=message.agent,
        release=message.release,
    )


def profile_of(message: Any) -> Profile | None:
    """The functions of a record's profile; None where it has none. Costs milliseconds on a large one."""
    if isinstance(message, End):
        kept = message.profile
        if kept is None:
            return None
        if isinstance(kept, Excimer):
            return profile.from_excimer(kept.stacks, kept.period_us)
        return profile.from_edges(kept.edges)
    if isinstance(message, Version1):
        edges, summary = version1.edges(message), version1.summary(message)
        if edges is not None:
            return profile.from_edges(edges)
        if summary is not None:
            return profile.from_summary(summary)
    return None


def functions_of(message: Any) -> list[Own]:
    """What each function of a record's profile spent itself, longest first: all that a frame needs of it."""
    kept = message.profile if isinstance(message, End) else None
    if isinstance(kept, Excimer):
        waits = _waits(message.sql)
        own = profile.own_times(kept.stacks, kept.period_us)
        found = [Own(name, us, None, max(0, us - waits.get(name, 0)) if waits else us) for name, us in own.items()]
        found.sort(key=lambda f: -f.us)
        return found
    whole = profile_of(message)
    return own_of(whole) if whole is not None else []


def own_of(whole: Profile) -> list[Own]:
    """The same of a profile that is read already."""
    return [Own(f.name, f.self_us, f.calls, f.self_us) for f in whole.functions if f.self_us and f.self_us > 0]


def _waits(sql: Sql | None) -> dict[str, int]:
    """Microseconds that functions waited for their own statements, where these say who sent them.

    A frame of a stack is `file:line Class->method`; a profiler of samples says `Class::method`, and counts the
    wait as that function's own time. Executions without a stack, as quick ones have none early in a request, are taken
    for their statement's last that has one.
    """
    waits: dict[str, int] = {}
    senders: dict[str, str] = {}
    unsaid: dict[str, float] = {}
    for query in sql.queries if sql is not None else ():
        frames = frames_of(query.stack)
        if frames:
            name = senders[query.sql] = frames[0].rpartition(" ")[2].replace("->", "::")
            waits[name] = waits.get(name, 0) + round(query.ms * 1000)
        else:
            unsaid[query.sql] = unsaid.get(query.sql, 0.0) + query.ms
    for sql_text, ms in unsaid.items():
        if sql_text in senders:
            waits[senders[sql_text]] += round(ms * 1000)
    return waits


def frames_of(stack: Any) -> tuple[str, ...]:
    """The frames of a statement's stack, innermost first; none where a client sent something else for it."""
    return tuple(stack) if isinstance(stack, list) and all(isinstance(frame, str) for frame in stack) else ()


def stacks_of(message: Any) -> dict[str, tuple[str, ...]]:
    """What led to each statement of a record, by fingerprint: the frames of its longest execution that has some."""
    if not isinstance(message, End) or message.sql is None:
        return {}
    sql, longest = message.sql, dict[str, tuple[float, tuple[str, ...]]]()
    for query in sql.queries:
        frames = frames_of(query.stack)
        if frames:
            fingerprint, _ = _named_briefly(query.sql, _spoken(sql, query))
            longest[fingerprint] = max(longest.get(fingerprint, (-1.0, ())), (query.ms / max(1, query.n), frames))
    return {fingerprint: frames for fingerprint, (_, frames) in longest.items()}


def client_id(line: Line) -> str | None:
    """The id the client gave, where it is stored under another (wire.md 5)."""
    given = getattr(line.message, "correlation_id", None) or getattr(line.message, "id", None)
    return given if given != line.id else None


def _of_end(line: Line, end: End, uses: bool) -> Request:
    sql = end.sql
    cpu_us = queue_us = None
    if end.ss is not None:
        cpu_us, queue_us = end.ss[0] // 1000, end.ss[1] // 1000
    elif end.cpu is not None:
        cpu_us = end.cpu.user_us + end.cpu.system_us
    request = end.request
    return Request(
        id=line.id,
        kind="end",
        at=end.at,
        ms=end.ms,
        method=request.method,
        uri=request.uri,
        endpoint=endpoints.endpoint(request.method, request.uri, request.route),
        status=end.response.status if end.response else None,
        cpu_us=cpu_us,
        queue_us=queue_us,
        memory_peak=end.memory.peak_bytes if end.memory else None,
        sql_n=sql.n if sql else 0,
        sql_ms=sql.ms if sql else 0.0,
        statements=_statements_of(sql) if uses and sql else (),
        externals=_externals(end.calls) if uses and end.calls else (),
        client=end.client,
        agent=end.agent,
        release=end.release,
        hostname=end.server.hostname if end.server else None,
        fatal=end.fatal is not None,
    )


def _of_version1(line: Line, record: Version1, uses: bool) -> Request:
    at, ms = version1.started_and_ms(record)
    method, uri = version1.method_and_uri(record)
    used: dict[str, list[Any]] = {}
    for text, query_ms, _stack in version1.queries(record) if uses else ():
        _use(used, text, "unknown", 1, query_ms, 0)
    sql_n, sql_ms = version1.sql_totals(record)
    return Request(
        id=line.id,
        kind="v1",
        at=at,
        ms=ms,
        method=method,
        uri=uri,
        endpoint=endpoints.endpoint(method, uri),
        status=version1.status(record),
        memory_peak=version1.memory_peak(record),
        sql_n=sql_n,
        sql_ms=sql_ms,
        statements=_statements(used),
        hostname=version1.hostname(record),
        fatal=bool(record.fatal_error),
    )


def _statements_of(sql: Sql) -> tuple[StatementUse, ...]:
    uses: dict[str, list[Any]] = {}
    for query in sql.queries:
        _use(uses, query.sql, _spoken(sql, query), query.n, query.ms, int(query.failed or 0))
    return _statements(uses)


def _spoken(sql: Sql, query: Query) -> str:
    """The dialect of the connection that a statement ran on."""
    known = query.c is not None and 0 <= query.c < len(sql.connections)
    return dialect(sql.connections[query.c].driver if known and query.c is not None else None)


def _externals(calls: Sequence[Call]) -> tuple[External, ...]:
    sums: dict[str, tuple[int, float]] = {}
    for call in calls:
        n, ms = sums.get(call.target, (0, 0.0))
        sums[call.target] = (n + call.n, ms + call.ms)
    return tuple(External(target, n, ms) for target, (n, ms) in sums.items())


@functools.lru_cache(limits.STATEMENTS_REMEMBERED)
def _named(sql: str, spoken: str) -> tuple[str, str]:
    """Fingerprint and statement. An application has few statements and runs them for ever: they are remembered."""
    statement = sqltext.statement(sql, spoken)
    return sqltext.fingerprint(statement), statement


def _named_briefly(sql: str, spoken: str) -> tuple[str, str]:
    """The same, without remembering long ones."""
    return (_named if len(sql) <= limits.STATEMENT_REMEMBERED_CHARACTERS else _named.__wrapped__)(sql, spoken)


def _use(uses: dict[str, list[Any]], sql: str, spoken: str, n: int, ms: float, failed: int) -> None:
    fingerprint, statement = _named_briefly(sql, spoken)
    use = uses.setdefault(fingerprint, [statement, 0, 0.0, 0.0, 0])
    use[1] += n
    use[2] += ms
    use[3] = max(use[3], ms / max(1, n))
    use[4] += failed


def _statements(uses: dict[str, list[Any]]) -> tuple[StatementUse, ...]:
    found = (StatementUse(fingerprint, *use) for fingerprint, use in uses.items())
    return tuple(sorted(found, key=lambda use: -use.ms))
