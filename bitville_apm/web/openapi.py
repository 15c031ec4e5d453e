"""The JSON API described in OpenAPI 3.1, for programs that make clients of it; served at `/api/openapi.json`.

A test holds the routes against `api.Api` and asks a real collector everything that is described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

import bitville_apm
from bitville_apm import limits
from bitville_apm.web.exports import FORMATS
from bitville_apm.web.parameters import REPORT_FORMATS, SORTS, SOURCES
from bitville_apm.web.schemas import (
    DIMENSION,
    ID,
    INTEGER,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    NUMBER,
    RANGE,
    REQUEST,
    ROW,
    SPIKE,
    SPIKE_REPORT,
    STATEMENT,
    TEXT,
    TIME,
    USUAL,
    WHOLE,
    Schema,
    between,
    components,
    fields,
    one_of,
    ref,
    several,
)


def _report(route: Schema) -> Schema:
    """A route whose answer is a report, which it also gives as Markdown."""
    route["get"]["responses"]["200"]["content"]["text/markdown"] = {"schema": {"type": "string"}}
    return route


def _get(
    summary: str,
    answer: Schema,
    parameters: Mapping[str, Schema] | None = None,
    *,
    wanted: str = "",
    by_id: bool = False,
) -> Schema:
    """One route. `wanted`: the parameter that must be there; `by_id`: what is asked for may be missing."""
    asked = [
        {"name": name, "in": "query", "required": name == wanted, "schema": schema}
        for name, schema in (parameters or {}).items()
    ]
    if by_id:
        asked.insert(0, {"name": "id", "in": "path", "required": True, "schema": ID})
    statuses = ["400", "401", "403", "414", "429", "503"] + (
        ["404"] if by_id or "correlation_id" in (parameters or {}) else []
    )
    answers: dict[str, Any] = {status: {"$ref": "#/components/responses/Problem"} for status in statuses}
    answers["200"] = {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    return {"get": {"summary": summary, "parameters": asked, "responses": answers}}


_PLACE: Schema = {"host": TEXT, "project": TEXT}
_ROWS = between(1, limits.TOP_LIMIT)


def _paths() -> dict[str, Any]:
    names = fields(items=several({"type": "string"}))
    return {
        **_records(),
        **_added_up(),
        **_beside_others(),
        **_causes(),
        "/api/projects": _get("The projects that sent anything", names),
        "/api/hosts": _get("The hosts that sent anything", names, {"project": TEXT}),
    }


def _records() -> dict[str, Any]:
    """Single records."""
    search = {
        "project": TEXT,
        "source": one_of(*SOURCES),
        "correlation_id": TEXT,
        "url": TEXT,
        "endpoint": TEXT,
        "status": between(0, 999),
        "host": TEXT,
        "release": TEXT,
        "duration_min": NUMBER,
        "duration_max": NUMBER,
        "timestamp_start": TIME,
        "timestamp_end": TIME,
        "sort": one_of(*SORTS),
        "after": TEXT,
        "limit": between(1, limits.SEARCH_LIMIT),
    }
    one = _get("One record whole, or its profile for another tool", REQUEST, {"format": one_of(*FORMATS)}, by_id=True)
    one["get"]["responses"]["200"]["content"] = {
        "application/json": {"schema": {"anyOf": [REQUEST, {"type": "object"}]}},
        "text/plain": {"schema": {"type": "string"}},
    }
    found = fields(items=several(ref("Found")), cursor=MAYBE_TEXT, hasMore={"type": "boolean"})
    return {
        "/api/search": _get("Records that match, slowest first", found, search),
        "/api/requests/{id}": one,
    }  # fmt: skip


def _added_up() -> dict[str, Any]:
    """What records add up to."""
    top = fields(
        **{"dimension": DIMENSION, "from": NUMBER, "to": NUMBER, "widened": {"type": "boolean"}, "known_s": NUMBER},
        items=several(ref("TopRow")),
    )
    point = {name: schema for name, schema in components()["TopRow"]["properties"].items() if name != "value"}
    series = fields(
        **{"dimension": DIMENSION, "name": MAYBE_TEXT, "from": NUMBER, "to": NUMBER, "step_s": INTEGER},
        items=several(fields(at=INTEGER, **point)),
    )
    stats = fields(**{"url": MAYBE_TEXT, "endpoint": {"type": "string"}, "from": NUMBER, "to": NUMBER, **USUAL})
    statistics = fields(
        total_records=INTEGER,
        total_php_requests=INTEGER,
        total_postgres_records=INTEGER,
        counted_requests=INTEGER,
        oldest_timestamp=MAYBE_NUMBER,
        newest_timestamp=MAYBE_NUMBER,
        avg_duration=MAYBE_NUMBER,
        by_source=fields(php_agent=INTEGER, postgres_agent=INTEGER),
    )
    return {
        "/api/top": _get(
            "The heaviest values of a dimension", top, {"dimension": DIMENSION, **RANGE, **_PLACE, "limit": _ROWS},
            wanted="dimension",
        ),
        "/api/series": _get(
            "One value of a dimension over time", series, {"dimension": DIMENSION, "name": TEXT, **RANGE, **_PLACE}
        ),
        "/api/stats": _get(
            "How long the requests of an endpoint take",
            stats,
            {"url": TEXT, "endpoint": TEXT, "project": TEXT, **RANGE},
        ),
        "/api/statistics": _get("How much is stored", statistics, {"project": TEXT}),
    }  # fmt: skip


def _beside_others() -> dict[str, Any]:
    """One thing beside another."""
    change = fields(value={"type": "string"}, change={"type": "number"}, a=ROW, b=ROW)
    usual = fields(
        avg_duration=MAYBE_NUMBER,
        percentile_rank=MAYBE_NUMBER,
        faster_than_percent=MAYBE_NUMBER,
        sample_size=INTEGER,
    )
    compared: Schema = {
        "anyOf": [
            fields(request={"type": "object"}, comparison=usual),
            fields(dimension=DIMENSION, a=several(NUMBER), b=several(NUMBER), items=several(change)),
        ]
    }
    window: Schema = {"type": "string", "pattern": "^[^,]+,[^,]+$", "description": "two times: from,to"}
    correlation = fields(
        correlation_id=TEXT,
        trace=fields(
            php_request={"anyOf": [WHOLE, {"type": "null"}]},
            sql_queries=several(STATEMENT),
            other_records=several(ref("Found")),
        ),
        summary=fields(total_records=INTEGER, php_count=INTEGER, postgres_count=INTEGER, total_sql_time_ms=NUMBER),
    )
    both = {"correlation_id": TEXT, "a": window, "b": window, "dimension": DIMENSION, **_PLACE, "limit": _ROWS}
    return {
        "/api/compare": _get("A request against what is usual, or two windows", compared, both),
        "/api/correlation/{id}": _get("A request and what its database was seen doing", correlation, by_id=True),
    }  # fmt: skip


def _causes() -> dict[str, Any]:
    """Spikes, windows explained, and slow drifts."""
    spikes = fields(items=several(SPIKE))
    spike = _report(_get("One spike with its report", SPIKE_REPORT, {"format": one_of(*REPORT_FORMATS)}, by_id=True))
    explained = _report(
        _get(
            "A window of one project explained against the hour before it", ref("Report"),
            {**RANGE, **_PLACE, "format": one_of(*REPORT_FORMATS)}, wanted="from",
        )
    )  # fmt: skip
    drift: Schema = {"allOf": [fields(project=TEXT), ref("Regression")]}
    night = fields(project=TEXT, day=NUMBER, made=NUMBER, days=INTEGER, days_wanted=INTEGER, left_out=INTEGER)
    regressed = fields(items=several(drift), more=INTEGER, projects=several(night))
    return {
        "/api/spikes": _get(
            "Spikes, newest first", spikes, {**RANGE, **_PLACE, "limit": between(1, limits.SEARCH_LIMIT)}
        ),
        "/api/spikes/{id}": spike,
        "/api/explain": explained,
        "/api/regressions": _get(
            "What costs more a call than it did, the dearest first", regressed, {"project": TEXT, "limit": _ROWS}
        ),
    }  # fmt: skip


def document() -> bytes:
    """The document as JSON."""
    problem = fields(
        error={"type": "string"},
        message={"type": "string"},
        details=several({"type": "object"}),
    )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Bitville APM",
                "version": bitville_apm.__version__,
                "description": "Times are unix seconds, or ISO 8601 (UTC where it names no zone); durations are ms.",
            },
            "security": [{"key": []}],
            "paths": _paths(),
            "components": {
                "schemas": components(),
                "responses": {
                    "Problem": {"description": "What is wrong", "content": {"application/json": {"schema": problem}}}
                },
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )
