"""The JSON API described in OpenAPI 3.1, for programs that make clients of it; served at `/api/openapi.json`.

Schemas of rows come from the types themselves, so that the two cannot differ; a test holds the routes against
`api.Api` and asks a real collector everything that is described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

import bitville_apm
from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.analysis.report import Report
from bitville_apm.store.interface import Found, TopRow
from bitville_apm.web.detail import FunctionUse
from bitville_apm.web.exports import FORMATS
from bitville_apm.web.parameters import REPORT_FORMATS, SORTS, SOURCES

_Schema = dict[str, Any]

_TEXT: _Schema = {"type": "string", "minLength": 1, "maxLength": limits.PARAMETER_CHARACTERS}
_NUMBER: _Schema = {"type": "number", "minimum": 0}
_INTEGER: _Schema = {"type": "integer"}
_TIME: _Schema = {
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1e11},
        {"type": "string", "format": "date-time"},
    ]
}
_MAYBE_NUMBER: _Schema = {"type": ["number", "null"]}
_MAYBE_TEXT: _Schema = {"type": ["string", "null"]}
_ID: _Schema = {"type": "string", "minLength": 1, "maxLength": 200}


def _choice(*words: str) -> _Schema:
    return {"type": "string", "enum": list(words)}


def _whole(low: int, high: int) -> _Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _object(**properties: _Schema) -> _Schema:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_DIMENSION = _choice(*limits.DIMENSION_CAPS)
_RANGE = {"from": _TIME, "to": _TIME}
_USUAL = {
    "count": _INTEGER,
    **dict.fromkeys(("avg_duration", "min_duration", "max_duration", "p50", "p95", "p99"), _MAYBE_NUMBER),
}
_ROW: _Schema = {"anyOf": [_ref("TopRow"), {"type": "null"}]}
_STATEMENT = _object(
    fingerprint=_TEXT,
    statement={"type": "string"},
    count=_INTEGER,
    total_ms=_NUMBER,
    max_ms=_NUMBER,
    failed=_INTEGER,
    stack=_list({"type": "string"}),
)
_WHOLE: _Schema = {
    "allOf": [
        _ref("Found"),
        _object(
            kind=_choice("end", "died", "v1", "pg"),
            received=_NUMBER,
            client_id=_MAYBE_TEXT,
            functions=_list(_ref("FunctionUse")),
            statements=_list(_STATEMENT),
            external=_list(_object(target={"type": "string"}, count=_INTEGER, total_ms=_NUMBER)),
            record={"type": "object"},
        ),
    ]
}


_SPIKE_OWN = _object(id=_ID, project=_TEXT, hosts=_list({"type": "string"}), revision=_INTEGER)
_SPIKE: _Schema = {
    "allOf": [
        _SPIKE_OWN,
        _object(
            **{name: {"type": "number"} for name in ("opened", "onset", "peak", "level", "baseline")},
            **{name: {"type": "string"} for name in ("measure", "kind", "verdict", "signature")},
            end=_MAYBE_NUMBER,
            provisional={"type": "boolean"},
        ),
    ]
}
_SPIKE_REPORT: _Schema = {"allOf": [_SPIKE_OWN, _ref("Report")]}


def _report(route: _Schema) -> _Schema:
    """A route whose answer is a report, which it also gives as Markdown."""
    route["get"]["responses"]["200"]["content"]["text/markdown"] = {"schema": {"type": "string"}}
    return route


def _get(
    summary: str,
    answer: _Schema,
    parameters: Mapping[str, _Schema] | None = None,
    *,
    wanted: str = "",
    by_id: bool = False,
) -> _Schema:
    """One route. `wanted`: the parameter that must be there; `by_id`: what is asked for may be missing."""
    asked = [
        {"name": name, "in": "query", "required": name == wanted, "schema": schema}
        for name, schema in (parameters or {}).items()
    ]
    if by_id:
        asked.insert(0, {"name": "id", "in": "path", "required": True, "schema": _ID})
    statuses = ["400", "401", "403", "414", "429", "503"] + (
        ["404"] if by_id or "correlation_id" in (parameters or {}) else []
    )
    answers: dict[str, Any] = {status: {"$ref": "#/components/responses/Problem"} for status in statuses}
    answers["200"] = {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    return {"get": {"summary": summary, "parameters": asked, "responses": answers}}


_PLACE: _Schema = {"host": _TEXT, "project": _TEXT}
_ROWS = _whole(1, limits.TOP_LIMIT)


def _paths() -> dict[str, Any]:
    names = _object(items=_list({"type": "string"}))
    return {
        **_records(),
        **_added_up(),
        **_beside_others(),
        **_causes(),
        "/api/projects": _get("The projects that sent anything", names),
        "/api/hosts": _get("The hosts that sent anything", names, {"project": _TEXT}),
    }


def _records() -> dict[str, Any]:
    """Single records."""
    search = {
        "project": _TEXT,
        "source": _choice(*SOURCES),
        "correlation_id": _TEXT,
        "url": _TEXT,
        "endpoint": _TEXT,
        "status": _whole(0, 999),
        "host": _TEXT,
        "release": _TEXT,
        "duration_min": _NUMBER,
        "duration_max": _NUMBER,
        "timestamp_start": _TIME,
        "timestamp_end": _TIME,
        "sort": _choice(*SORTS),
        "after": _TEXT,
        "limit": _whole(1, limits.SEARCH_LIMIT),
    }
    one = _get("One record whole, or its profile for another tool", _WHOLE, {"format": _choice(*FORMATS)}, by_id=True)
    one["get"]["responses"]["200"]["content"] = {
        "application/json": {"schema": {"anyOf": [_WHOLE, {"type": "object"}]}},
        "text/plain": {"schema": {"type": "string"}},
    }
    found = _object(items=_list(_ref("Found")), cursor=_MAYBE_TEXT, hasMore={"type": "boolean"})
    return {
        "/api/search": _get("Records that match, slowest first", found, search),
        "/api/requests/{id}": one,
    }  # fmt: skip


def _added_up() -> dict[str, Any]:
    """What records add up to."""
    top = _object(
        **{"dimension": _DIMENSION, "from": _NUMBER, "to": _NUMBER, "widened": {"type": "boolean"}, "known_s": _NUMBER},
        items=_list(_ref("TopRow")),
    )
    point = {name: schema for name, schema in _components()["TopRow"]["properties"].items() if name != "value"}
    series = _object(
        **{"dimension": _DIMENSION, "name": _MAYBE_TEXT, "from": _NUMBER, "to": _NUMBER, "step_s": _INTEGER},
        items=_list(_object(at=_INTEGER, **point)),
    )
    stats = _object(**{"url": _MAYBE_TEXT, "endpoint": {"type": "string"}, "from": _NUMBER, "to": _NUMBER, **_USUAL})
    statistics = _object(
        total_records=_INTEGER,
        total_php_requests=_INTEGER,
        total_postgres_records=_INTEGER,
        counted_requests=_INTEGER,
        oldest_timestamp=_MAYBE_NUMBER,
        newest_timestamp=_MAYBE_NUMBER,
        avg_duration=_MAYBE_NUMBER,
        by_source=_object(php_agent=_INTEGER, postgres_agent=_INTEGER),
    )
    return {
        "/api/top": _get(
            "The heaviest values of a dimension", top, {"dimension": _DIMENSION, **_RANGE, **_PLACE, "limit": _ROWS},
            wanted="dimension",
        ),
        "/api/series": _get(
            "One value of a dimension over time", series, {"dimension": _DIMENSION, "name": _TEXT, **_RANGE, **_PLACE}
        ),
        "/api/stats": _get(
            "How long the requests of an endpoint take",
            stats,
            {"url": _TEXT, "endpoint": _TEXT, "project": _TEXT, **_RANGE},
        ),
        "/api/statistics": _get("How much is stored", statistics, {"project": _TEXT}),
    }  # fmt: skip


def _beside_others() -> dict[str, Any]:
    """One thing beside another."""
    change = _object(value={"type": "string"}, change={"type": "number"}, a=_ROW, b=_ROW)
    usual = _object(
        avg_duration=_MAYBE_NUMBER,
        percentile_rank=_MAYBE_NUMBER,
        faster_than_percent=_MAYBE_NUMBER,
        sample_size=_INTEGER,
    )
    compared: _Schema = {
        "anyOf": [
            _object(request={"type": "object"}, comparison=usual),
            _object(dimension=_DIMENSION, a=_list(_NUMBER), b=_list(_NUMBER), items=_list(change)),
        ]
    }
    window: _Schema = {"type": "string", "pattern": "^[^,]+,[^,]+$", "description": "two times: from,to"}
    correlation = _object(
        correlation_id=_TEXT,
        trace=_object(
            php_request={"anyOf": [_WHOLE, {"type": "null"}]},
            sql_queries=_list(_STATEMENT),
            other_records=_list(_ref("Found")),
        ),
        summary=_object(total_records=_INTEGER, php_count=_INTEGER, postgres_count=_INTEGER, total_sql_time_ms=_NUMBER),
    )
    both = {"correlation_id": _TEXT, "a": window, "b": window, "dimension": _DIMENSION, **_PLACE, "limit": _ROWS}
    return {
        "/api/compare": _get("A request against what is usual, or two windows", compared, both),
        "/api/correlation/{id}": _get("A request and what its database was seen doing", correlation, by_id=True),
    }  # fmt: skip


def _causes() -> dict[str, Any]:
    """Spikes, windows explained, and slow drifts."""
    spikes = _object(items=_list(_SPIKE))
    spike = _report(_get("One spike with its report", _SPIKE_REPORT, {"format": _choice(*REPORT_FORMATS)}, by_id=True))
    explained = _report(
        _get(
            "A window of one project explained against the hour before it", _ref("Report"),
            {**_RANGE, **_PLACE, "format": _choice(*REPORT_FORMATS)}, wanted="from",
        )
    )  # fmt: skip
    drift: _Schema = {"allOf": [_object(project=_TEXT), _ref("Regression")]}
    night = _object(project=_TEXT, day=_NUMBER, made=_NUMBER, days=_INTEGER, days_wanted=_INTEGER, left_out=_INTEGER)
    regressed = _object(items=_list(drift), more=_INTEGER, projects=_list(night))
    return {
        "/api/spikes": _get(
            "Spikes, newest first", spikes, {**_RANGE, **_PLACE, "limit": _whole(1, limits.SEARCH_LIMIT)}
        ),
        "/api/spikes/{id}": spike,
        "/api/explain": explained,
        "/api/regressions": _get(
            "What costs more a call than it did, the dearest first", regressed, {"project": _TEXT, "limit": _ROWS}
        ),
    }  # fmt: skip


def _components() -> dict[str, Any]:
    return msgspec.json.schema_components(
        (Found, TopRow, FunctionUse, Report, Regression), ref_template="#/components/schemas/{name}"
    )[1]


def document() -> bytes:
    """The document as JSON."""
    problem = _object(
        error={"type": "string"},
        message={"type": "string"},
        details=_list({"type": "object"}),
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
                "schemas": _components(),
                "responses": {
                    "Problem": {"description": "What is wrong", "content": {"application/json": {"schema": problem}}}
                },
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )
