"""The heaviest values of a dimension: a table of each, linked to its requests. Data in, elements out."""

from __future__ import annotations

from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.cells import OTHER
from bitville_apm.store.interface import TopRow
from bitville_apm.web import words
from bitville_apm.web.elements import (
    DIMENSIONS,
    Column,
    Frame,
    bar,
    current,
    filled,
    folded,
    number,
    ranges,
    singular,
    table,
    time,
    window,
)
from bitville_apm.web.questions import Top
from bitville_apm.web.scope import Scope, request_url

EACH = ("statement", "external", "wait")
"""Dimensions whose mean is that of one execution, not of one request."""


def value_link(dimension: str, value: str, scope: Scope) -> Flattenable:
    """A value, as a link to the requests it stands for, where these can be searched by it."""
    text = folded(value)
    if value == OTHER:
        return tags.span("all others together", class_="faint")
    if dimension in ("endpoint", "release"):
        return tags.a(text, href=scope.url("/", **{dimension: value}))
    return tags.a(text, href=request_url(value)) if dimension == "request" else text


LOAD_HINT = "On a CPU, waiting for one, or blocked: what a load average counts"


def load_ms(row: TopRow) -> float:
    """Task-seconds, as ms: what rows are ranked by where anything has some."""
    return (row.running_s + row.blocked_s) * 1000


def endpoints_panel(top: Top, scope: Scope) -> Tag:
    """Where the time went: the heaviest endpoints, for the head of another page."""
    loaded = any(load_ms(row) for row in top.rows)
    heaviest = max(load_ms(row) if loaded else row.wall_ms for row in top.rows)
    rows = [
        tags.tr(
            tags.td(value_link("endpoint", row.value, scope), class_="name"),
            [number(words.milliseconds(load_ms(row))), tags.td(bar(load_ms(row), heaviest), class_="bars")]
            if loaded
            else [],
            number(words.milliseconds(row.wall_ms)),
            [] if loaded else tags.td(bar(row.wall_ms, heaviest), class_="bars"),
            number(words.count(row.requests)),
            number(words.milliseconds(row.wall_ms / max(1, row.requests))),
            number(words.milliseconds(row.p95_ms)),
            number(words.milliseconds(row.sql_ms)),
            number(words.count(row.errors)),
        )
        for row in top.rows
    ]
    columns = (
        Column("Endpoint"),
        *([Column("Load", number=True, hint=LOAD_HINT, beside=("bars",))] if loaded else []),
        Column(
            "Total time",
            number=True,
            hint="Wall time of all its requests together",
            beside=() if loaded else ("bars",),
        ),
        Column("Requests", number=True),
        Column("Mean", number=True),
        Column("p95", number=True, hint="95 of 100 requests took no longer"),
        Column("SQL", number=True, hint="Time of all its statements together"),
        Column("Errors", number=True, hint="Status 500 and above, fatal errors, died"),
    )
    return tags.section(
        tags.div(
            tags.h2("Where the time went ", window(scope, top.range.start, top.range.end)),
            tags.span(
                "All ",
                tags.a("endpoints", href=scope.url("/top", dimension="endpoint")),
                ", ",
                tags.a("functions", href=scope.url("/top", dimension="function")),
                ", ",
                tags.a("statements", href=scope.url("/top", dimension="statement")),
                class_="aside",
            ),
            class_="line",
        ),
        table("Endpoints by their time", columns, rows),
        class_="panel",
    )


def top_body(top: Top, frame: Frame, now: float) -> Tag:
    """The page of a dimension's heaviest values."""
    scope, dimension = frame.scope, top.dimension
    tabs = [
        current(tags.a(label, href=scope.url("/top", dimension=name)), name == dimension)
        for name, label in DIMENSIONS.items()
    ]
    note: list[Flattenable] = [time(top.range.start, "full"), " to ", time(top.range.end, "full")]
    if top.range.widened:
        note.append("; so long a time is kept by whole hours, so it was widened to them")
    return filled(
        "top",
        heading=DIMENSIONS[dimension],
        ranges=ranges(frame, now),
        tabs=tabs,
        note=note,
        host=[" on host ", tags.b(scope.host)] if scope.host else "",
        table=_top_table(top, scope) if top.rows else tags.div(tags.p(_why_empty(dimension)), class_="empty"),
    )


def _why_empty(dimension: str) -> str:
    if dimension in ("endpoint", "function", "statement"):
        return "Nothing was counted in this time."
    return "Nothing was counted in this time; not every host sends this."


def _top_table(top: Top, scope: Scope) -> Tag:
    timed = top.dimension in ("endpoint", "statement")
    each = top.dimension in EACH
    own = "Self time" if top.dimension == "function" else "Total time"
    loaded = any(load_ms(row) for row in top.rows)
    columns = [Column(singular(top.dimension))]
    if loaded:
        columns.append(Column("Load", number=True, hint=LOAD_HINT, beside=("bars",)))
    columns.append(Column(own, number=True, beside=() if loaded else ("bars",)))
    if top.dimension != "endpoint":
        columns.append(Column("Calls", number=True, hint="Executions; not every profiler counts them"))
    columns += [
        Column("Requests", number=True),
        Column("Mean", number=True, hint="Per execution" if each else "Per request"),
    ]
    if timed:
        kind = "executions" if each else "requests"
        columns += [Column(p, number=True, hint=f"{p[1:]} of 100 {kind} took no longer") for p in ("p50", "p95", "p99")]
    columns += [Column("Max", number=True), Column("CPU", number=True), Column("Errors", number=True)]
    heaviest = max(load_ms(row) if loaded else row.wall_ms for row in top.rows)
    rows = [_top_row(top, row, scope, heaviest, timed, loaded) for row in top.rows]
    return table(f"{DIMENSIONS[top.dimension]} by their time", columns, rows, "top")


def _top_row(top: Top, row: TopRow, scope: Scope, heaviest: float, timed: bool, loaded: bool) -> Tag:
    times = row.executions if row.executions and top.dimension in EACH else row.requests
    cells = [
        tags.td(value_link(top.dimension, row.value, scope), class_="name"),
        tags.td(words.milliseconds(load_ms(row) if loaded else row.wall_ms), class_="num strong"),
        tags.td(bar(load_ms(row) if loaded else row.wall_ms, heaviest), class_="bars"),
    ]
    if loaded:
        cells.append(number(words.milliseconds(row.wall_ms)))
    if top.dimension != "endpoint":
        cells.append(number(words.count(row.executions)))
    cells += [number(words.count(row.requests)), number(words.milliseconds(row.wall_ms / max(1, times)))]
    if timed:
        cells += [number(words.milliseconds(value)) for value in (row.p50_ms, row.p95_ms, row.p99_ms)]
    cells += [
        number(words.milliseconds(row.max_ms)),
        number(words.milliseconds(row.cpu_ms) if row.cpu_ms else words.NOTHING),
        number(words.count(row.errors)),
    ]
    return tags.tr(cells)
