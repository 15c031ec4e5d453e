"""What the JSON API takes and gives, as schemas of OpenAPI 3.1: rows come from their types, so that both are one."""

from __future__ import annotations

from typing import Any

import msgspec

from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.analysis.report import Report
from bitville_apm.store.interface import Found, TopRow
from bitville_apm.web.detail import FunctionUse

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": limits.PARAMETER_CHARACTERS}
NUMBER: Schema = {"type": "number", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
TIME: Schema = {
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1e11},
        {"type": "string", "format": "date-time"},
    ]
}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
ID: Schema = {"type": "string", "minLength": 1, "maxLength": 200}


def one_of(*words: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(words)}


def between(low: int, high: int) -> Schema:
    """A whole number, both ends included."""
    return {"type": "integer", "minimum": low, "maximum": high}


def fields(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def several(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """One of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


DIMENSION = one_of(*limits.DIMENSION_CAPS)
RANGE = {"from": TIME, "to": TIME}
USUAL = {
    "count": INTEGER,
    **dict.fromkeys(("avg_duration", "min_duration", "max_duration", "p50", "p95", "p99"), MAYBE_NUMBER),
}
ROW: Schema = {"anyOf": [ref("TopRow"), {"type": "null"}]}
STATEMENT = fields(
    fingerprint=TEXT,
    statement={"type": "string"},
    count=INTEGER,
    total_ms=NUMBER,
    max_ms=NUMBER,
    failed=INTEGER,
    stack=several({"type": "string"}),
)
WHOLE: Schema = {
    "allOf": [
        ref("Found"),
        fields(
            kind=one_of("end", "died", "v1", "pg"),
            received=NUMBER,
            client_id=MAYBE_TEXT,
            functions=several(ref("FunctionUse")),
            statements=several(STATEMENT),
            external=several(fields(target={"type": "string"}, count=INTEGER, total_ms=NUMBER)),
            record={"type": "object"},
        ),
    ]
}
_SESSION = {name: {"type": "string"} for name in ("server", "session", "statement")}
DATABASE = fields(
    sessions=several(fields(**_SESSION, seconds=NUMBER, waits_s={"type": "object", "additionalProperties": NUMBER})),
    held_up_by=several(fields(**_SESSION, state={"type": "string"}, request=MAYBE_TEXT)),
    held_up=INTEGER,
    log=several(fields(at=NUMBER, server={"type": "string"}, event={"type": "string"})),
)
REQUEST: Schema = {"allOf": [WHOLE, fields(database=DATABASE)]}

_SPIKE_OWN = fields(id=ID, project=TEXT, hosts=several({"type": "string"}), revision=INTEGER)
SPIKE: Schema = {
    "allOf": [
        _SPIKE_OWN,
        fields(
            **{name: {"type": "number"} for name in ("opened", "onset", "peak", "level", "baseline")},
            **{name: {"type": "string"} for name in ("measure", "kind", "verdict", "signature")},
            end=MAYBE_NUMBER,
            provisional={"type": "boolean"},
        ),
    ]
}
SPIKE_REPORT: Schema = {"allOf": [_SPIKE_OWN, ref("Report")]}


def components() -> dict[str, Any]:
    """Those that are made of types, by the types' names."""
    return msgspec.json.schema_components(
        (Found, TopRow, FunctionUse, Report, Regression), ref_template="#/components/schemas/{name}"
    )[1]
