"""The first version's record in both spellings found in the field (wire.md 3), read by meaning.

Each function takes the record (`records.Version1`) and finds one thing wherever that spelling keeps it. They
never raise for odd values of optional fields: what cannot be read is taken for absent.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bitville_apm import limits
from bitville_apm.checks import Problem, Refused

if TYPE_CHECKING:
    from bitville_apm.records import Version1


def _number(*candidates: Any) -> float | None:
    """The first candidate that is a finite number or spells one."""
    for candidate in candidates:
        if isinstance(candidate, int | float | str) and not isinstance(candidate, bool):
            try:
                value = float(candidate)
            except ValueError:
                continue
            if math.isfinite(value):
                return value
    return None


def _integer(*candidates: Any) -> int | None:
    value = _number(*candidates)
    return int(value) if value is not None and 0 <= value <= limits.NUMBER_MAX else None


def _text(*candidates: Any) -> str | None:
    return next((c for c in candidates if isinstance(c, str) and c), None)


def seconds_of(stamp: float | str | None) -> float | None:
    """Unix seconds of a time stamp: a number, a text that spells one, or ISO 8601 (UTC where it says nothing)."""
    value = _number(stamp)
    if value is None and isinstance(stamp, str):
        try:
            parsed = datetime.datetime.fromisoformat(stamp.strip().replace("Z", "+00:00"))
        except ValueError:
            return None
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=datetime.timezone.utc)
        value = parsed.timestamp()
    return value if value is not None and 0 <= value < 1e11 else None


def started_and_ms(record: Version1) -> tuple[float, float]:
    """When the request started (unix seconds) and how long it took (ms). Raises `Refused` without them."""
    timing = record.timing or {}
    ms = _number(record.elapsed_ms, timing.get("duration_ms"), timing.get("elapsed_ms"))
    start = _number(timing.get("start_time"))
    end = _number(timing.get("end_time"), record.timestamp)
    problems = []
    if ms is None and start is not None and end is not None:
        ms = (end - start) * 1000
    if ms is None or not 0 <= ms <= limits.MS_MAX:
        problems.append(Problem("elapsed_ms", "no duration: elapsed_ms, timing.duration_ms or timing.elapsed_ms"))
    if start is None and end is not None:
        start = end - (ms or 0) / 1000
    if start is None or not 0 <= start < 1e11:
        problems.append(Problem("timestamp", "no time in unix seconds: timestamp or timing.start_time"))
    if problems or ms is None or start is None:
        raise Refused(problems)
    return start, ms


def method_and_uri(record: Version1) -> tuple[str, str]:
    """The method, and the URI with its query string."""
    request = record.request or {}
    uri = _text(request.get("uri"), request.get("url")) or ""
    query = _text(request.get("query_string"))
    if query and "?" not in uri:
        uri = f"{uri}?{query}"
    return _text(request.get("method")) or "GET", uri


def status(record: Version1) -> int | None:
    """The response's status, None when unknown."""
    response = record.response or {}
    return _integer(response.get("status_code"), response.get("status"))


def hostname(record: Version1) -> str | None:
    """The sender's host name."""
    return _text((record.server or {}).get("hostname"))


def memory_peak(record: Version1) -> int | None:
    """Peak memory in bytes."""
    inside = (record.xhprof or {}).get("memory")
    candidates = [m for m in (inside, record.memory) if isinstance(m, dict)]
    return _integer(*(m.get(key) for m in candidates for key in ("peak_usage", "peak_bytes", "peak")))


def sql_totals(record: Version1) -> tuple[int, float]:
    """How many statements ran and their time together, ms."""
    sql = record.sql or {}
    found = sql.get("summary")
    summary: dict[str, Any] = found if isinstance(found, dict) else {}
    listed = list(queries(record))
    n = _integer(sql.get("total_queries"), summary.get("total_queries"))
    ms = _number(sql.get("total_duration_ms"), summary.get("total_time_ms"))
    if ms is None:
        ms = sum(q[1] for q in listed)
    return (len(listed) if n is None else n), min(max(0.0, ms), limits.MS_MAX)


def queries(record: Version1) -> Iterator[tuple[str, float, Any]]:
    """Each statement listed: its text (literals and all), its time in ms, and its stack as it came."""
    listed = (record.sql or {}).get("queries")
    for query in listed if isinstance(listed, list) else ():
        if isinstance(query, dict):
            text = _text(query.get("query"), query.get("sql"))
            if text is not None:
                ms = _number(query.get("duration_ms"), query.get("time_ms")) or 0.0
                yield text, min(max(0.0, ms), limits.MS_MAX), query.get("stack_trace", query.get("stack"))


def edges(record: Version1) -> Mapping[str, Any] | None:
    """The raw map of caller/callee edges, where that is what the record has."""
    xhprof = record.xhprof
    return xhprof if xhprof and "profiling" not in xhprof else None


def summary(record: Version1) -> Mapping[str, Any] | None:
    """The summary of top functions, where the sender kept no edges."""
    found = (record.xhprof or {}).get("profiling")
    return found if isinstance(found, dict) else None
