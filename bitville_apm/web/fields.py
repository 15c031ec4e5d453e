"""What a record carries beside its times, as rows of name and value for a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.web.template import Flattenable

from bitville_apm import limits
from bitville_apm.web import words
from bitville_apm.web.detail import Detail
from bitville_apm.web.elements import time

Rows = list[tuple[str, Flattenable]]


def sections_of(detail: Detail) -> list[tuple[str, Rows]]:
    """The parts of a record that people read, in either version's spelling; empty ones are left out."""
    record = detail.record
    request, response = _mapping(record.get("request")), _mapping(record.get("response"))
    found = [
        ("Query parameters", request.get("query", request.get("query_string"))),
        ("POST variables", request.get("post", request.get("post_data"))),
        ("Files", request.get("files")),
        ("Request headers", request.get("headers")),
        ("Response headers", response.get("headers")),
        ("Context", record.get("context", record.get("custom"))),
        ("Server", {**_mapping(record.get("server")), **_mapping(record.get("php"))}),
        ("Trace", record.get("trace")),
        ("Left out to keep the client cheap", _left_out(record.get("sampled_down"))),
    ]
    sections = [*((title, rows_of(value)) for title, value in found), ("Record", _record(detail))]
    return [(title, rows) for title, rows in sections if rows]


_LEFT_OUT = {
    "sql_stack": "where quick statements came from",
    "sql": "the texts of statements",
    "memory": "all detail, as there was no memory left",
}


def _left_out(said: Any) -> Any:
    """What a record says it lacks, in words; what is not known as it came."""
    names = said if isinstance(said, list) else []
    return [_LEFT_OUT.get(name, name) if isinstance(name, str) else name for name in names]


def _record(detail: Detail) -> Rows:
    known = {
        "id": detail.found.id,
        "id of the client": detail.client_id,
        "kind": {"end": "request", "v1": "request, first version", "died": "died request"}.get(
            detail.kind, detail.kind
        ),
        "waited in front of PHP, ms": detail.record.get("queue_ms"),
        "cost of the client, µs": detail.record.get("client_us"),
    }
    told = rows_of({name: value for name, value in known.items() if value is not None})
    return [*told, ("received by the agent", time(detail.recv_ms / 1000, "full"))]


def rows_of(value: Any) -> Rows:
    """A value as rows: nested names as PHP writes them, `items[0][id]`; no more than a page can bear."""
    if value in (None, "", [], {}):
        return []
    if not isinstance(value, dict | list):
        return [("", words.cut(value))]
    rows: Rows = []
    for name, text in _leaves(value, ""):
        if len(rows) == limits.FIELDS_SHOWN:
            rows.append(("…", "more than can be shown; the JSON of this page has them all"))
            break
        rows.append((words.cut(name), words.cut(text)))
    return rows


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}[{key}]" if name else str(key))
    elif isinstance(value, list) and value:
        if all(not isinstance(inner, dict | list) for inner in value):
            yield name, ", ".join(_word(inner) for inner in value)
        else:
            for i, inner in enumerate(value):
                yield from _leaves(inner, f"{name}[{i}]" if name else str(i))
    else:
        yield name, _word(value)


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "" if value in ([], {}) else str(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def connections_of(detail: Detail) -> Sequence[str]:
    """Where the statements ran: `pgsql shop@db1:5432/shop`, `sqlite /srv/shop.sqlite`."""
    listed = _mapping(detail.record.get("sql")).get("connections")
    names = []
    for one in listed if isinstance(listed, list) else ():
        place = _mapping(one)
        user = f"{place['user']}@" if place.get("user") else ""
        port = f":{place['port']}" if place.get("port") else ""
        server, database = f"{user}{place.get('host') or ''}{port}", f"{place.get('database') or ''}"
        where = f"{server}/{database}" if database and not database.startswith("/") else server + database
        names.append(words.cut(f"{place.get('driver') or ''} {where}".strip()))
    return [name for name in names if name]


def is_cut(detail: Detail) -> bool:
    """Whether the client sent only some of the statements."""
    sql = _mapping(detail.record.get("sql"))
    summary, meta = _mapping(sql.get("summary")), _mapping(detail.record.get("_meta"))
    return bool(sql.get("truncated") or summary.get("queries_truncated") or meta.get("sql_truncated"))


def fatal_of(detail: Detail) -> tuple[str, str] | None:
    """The error that ended the request, and where it was."""
    error = detail.record.get("fatal") or detail.record.get("fatal_error")
    if not isinstance(error, dict):
        return None
    place = error.get("file") or ""
    line = f":{error['line']}" if error.get("line") is not None else ""
    return words.cut(error.get("message") or "no message"), words.cut(f"{place}{line}", 500)
