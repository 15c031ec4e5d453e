"""Plans of auto_explain without the values that they hold (PG-03). Pure.

A plan names tables, indexes and functions, counts rows and milliseconds, and repeats conditions with the application's
values in them: those are read as SQL and lose their literals. Of a JSON plan likewise every text that is not known to
be a name. A plan in another format is not sent, only its statement.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bitville_apm import limits, sqltext

_DURATION = re.compile(r"duration: (\d+(?:\.\d+)?) ms  plan:\s*", re.DOTALL)
_NODE = re.compile(r" \((?:cost=|actual )")
_ARROW = re.compile(r"\s*(?:->\s|\S)")
_PROPERTY = re.compile(r"(\s*)([A-Z][A-Za-z /]*):(.*)", re.DOTALL)
_SAFE_LINES = frozenset(
    [
        "Buffers",
        "I/O Timings",
        "WAL",
        "Heap Fetches",
        "Heap Blocks",
        "Sort Method",
        "Sort Methods Used",
        "Planning Time",
        "Execution Time",
        "Workers Planned",
        "Workers Launched",
        "Buckets",
        "Batches",
        "Hits",
        "Memory",
        "Disk Usage",
        "Subplans Removed",
        "Planned Partitions",
        "Peak Memory Usage",
        "Full-sort Groups",
        "Pre-sorted Groups",
        "Rows Removed by Filter",
        "Rows Removed by Join Filter",
        "Rows Removed by Index Recheck",
        "Index Searches",
        "Single Copy",
        "Storage",
        "Trigger",
        "Time",
        "JIT",
        "Functions",
        "Timing",
        "Planning",
        "Tuples Inserted",
        "Conflicting Tuples",
        "Peak Memory",
        "Async Capable",
        "Parallel Aware",
    ]
)
_SAFE_TEXTS = frozenset(
    [
        "Node Type",
        "Relation Name",
        "Schema",
        "Alias",
        "Index Name",
        "Join Type",
        "Strategy",
        "Parent Relationship",
        "Scan Direction",
        "Command",
        "Sort Method",
        "Sort Space Type",
        "Function Name",
        "CTE Name",
        "Subplan Name",
        "Operation",
        "Partial Mode",
        "Tuplestore Name",
        "Custom Plan Provider",
        "Trigger Name",
        "Constraint Name",
        "Relation",
        "Cache Mode",
        "Setting",
        "Storage",
    ]
)


def duration(message: str) -> tuple[float, str] | None:
    """Milliseconds and the plan as it is logged; None for another message."""
    found = _DURATION.match(message)
    return (float(found[1]), message[found.end() :]) if found else None


def cleaned(plan: str) -> tuple[str, str | None, Any]:
    """The statement's text, and the plan: as a text or a JSON value, None where it is in a format that is not read."""
    if plan.lstrip().startswith(("{", "[")):
        try:
            told = json.loads(plan)
        except (ValueError, RecursionError):
            return "", None, None
        text = told.pop("Query Text", "") if isinstance(told, dict) else ""
        if isinstance(told, dict):
            told.pop("Query Parameters", None)
            told.pop("Settings", None)
        return text if isinstance(text, str) else "", None, _json(told)
    if not plan.startswith("Query Text:"):
        return "", None, None
    lines = plan.removeprefix("Query Text:").split("\n")
    first = next((n for n, line in enumerate(lines) if n and _NODE.search(line)), len(lines))
    query = lines[:first]
    parameters = next((n for n, line in enumerate(query) if n and line.startswith("Query Parameters:")), len(query))
    text = "\n".join(query[:parameters]).strip()
    told_lines = [_line(line) for line in lines[first:]]
    return text, "\n".join(told_lines)[: limits.PG_PLAN_CHARACTERS] or None, None


def _line(line: str) -> str:
    """A line of a text plan: a node as it is, a condition without its literals."""
    if _NODE.search(line) and _ARROW.match(line) and "'" not in line:
        return line
    found = _PROPERTY.match(line)
    if found is None:
        indent = line[: len(line) - len(line.lstrip())]
        return indent + sqltext.statement(line, "pg")
    indent, name, value = found[1], found[2], found[3]
    if name in _SAFE_LINES and "'" not in value:
        return line
    return f"{indent}{name}: {sqltext.statement(value, 'pg')}"


def _json(value: Any, name: str = "", depth: int = 0) -> Any:
    if depth > limits.DEPTH // 2:
        return None
    if isinstance(value, dict):
        return {key: _json(held, key, depth + 1) for key, held in value.items()}
    if isinstance(value, list):
        return [_json(held, name, depth + 1) for held in value]
    if isinstance(value, str):
        return value if name in _SAFE_TEXTS else sqltext.statement(value, "pg")
    return value
