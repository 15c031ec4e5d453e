"""The heaviest values of a dimension: a table of each, linked to its requests. Data in, elements out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.cells import OTHER
from bitville_apm.store.interface import TopRow
from bitville_apm.web import words
from bitville_apm.web.dimensions import DIMENSIONS, singular
from bitville_apm.web.elements import Column, Frame, bar, current, filled, folded, number, ranges, table, time, window
from bitville_apm.web.questions import Top
from bitville_apm.web.scope import Scope, request_url

EACH = ("statement", "external", "wait")
"""Dimensions whose mean is that of one execution, not of one request."""


def value_link(dimension: str, value: str, scope: Scope) -> Flattenable:
    """A value, as a link to the requests it stands for where these can be searched by it, else to its course."""
    if value not in (OTHER, OUTSIDE) and dimension in ("endpoint", "release"):
        return tags.a(folded(value), href=scope.url("/", **{dimension: value}))
    return trend_link(dimension, value, scope)


def trend_link(dimension: str, value: str, scope: Scope) -> Flattenable:
    """A value, as a link to its course over time; a request's id leads to that request."""
    if value == OTHER:
        return tags.span("all others together", class_="faint")
    text: Flattenable = "PHP outside of requests" if value == OUTSIDE else folded(value)
    if dimension == "request":
        return tags.a(text, href=request_url(value))
    if dimension not in DIMENSIONS or not value:
        return text
    return tags.a(text, href=_wide(scope).url("/trend", dimension=dimension, name=value))


def _wide(scope: Scope) -> Scope:
    """At least an hour, so that there is something before to compare with."""
    if scope.start is None or scope.end is None or scope.end - scope.start >= _COURSE_S:
        return scope
    return attrs.evolve(scope, start=max(0.0, scope.end - _COURSE_S), end=scope.end + _COURSE_S / 6)


OUTSIDE = "~php"
"""The endpoint of PHP processes that are in no request (wire.md 6)."""
_COURSE_S = 3600
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


_OF_DATABASE = frozenset({"wait", "blocker"})
"""Dimensions that only an agent that watches a database tells of."""


def top_body(top: Top, frame: Frame, now: float, watched: bool = True) -> Tag:
    """The page of a dimension's heaviest values; `watched`: whether any database is."""
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
        table=_top_table(top, scope) if top.rows else _empty(dimension, watched),
    )


def _empty(dimension: str, watched: bool) -> Tag:
    if dimension in _OF_DATABASE and not watched:
        return filled("unwatched")
    why = "Nothing was counted in this time"
    why += "." if dimension in ("endpoint", "function", "statement") else "; not every host sends this."
    return tags.div(tags.p(why), class_="empty")


def _top_table(top: Top, scope: Scope) -> Tag:
    columns = _columns(top)
    measures = [measure(row) for row in top.rows for measure in (columns[0].value,)]
    heaviest = max([0.0, *measures])
    heads = [Column(singular(top.dimension))]
    for n, column in enumerate(columns):
        heads.append(Column(column.heading, number=True, hint=column.hint, beside=("bars",) if n == 0 else ()))
    rows = sorted(top.rows, key=lambda row: -columns[0].value(row)) if top.dimension in SAMPLED else top.rows
    lines = [_top_line(top.dimension, row, columns, heaviest, scope) for row in rows]
    return table(f"{DIMENSIONS[top.dimension]} by their time", heads, lines, "top")


def _top_line(dimension: str, row: TopRow, columns: Sequence[Measure], heaviest: float, scope: Scope) -> Tag:
    first, *others = columns
    return tags.tr(
        tags.td(trend_link(dimension, row.value, scope), class_="name"),
        tags.td(first.text(row), class_="num strong"),
        tags.td(bar(first.value(row), heaviest), class_="bars"),
        [number(column.text(row)) for column in others],
    )


@attrs.frozen
class Measure:
    """A column of numbers: its value in a row, and how that is said."""

    heading: str
    value: Callable[[TopRow], float]
    hint: str | None = None
    said: Callable[[TopRow], str] | None = None

    def text(self, row: TopRow) -> str:
        """The number in words; what is nothing steps back."""
        if self.said is not None:
            return self.said(row)
        value = self.value(row)
        return words.milliseconds(value) if value else words.NOTHING


_LOAD = Measure("Load", load_ms, LOAD_HINT)
_CPU = Measure("CPU", lambda row: row.cpu_ms, "On a CPU")
_QUEUE = Measure("Waited for a CPU", lambda row: row.queue_ms, "Could have run, but no CPU was free")
_BLOCKED = Measure("Blocked", lambda row: row.blocked_s * 1000, "Uninterruptible: mostly waiting for a disk")
_WAITING = Measure("Waiting", lambda row: row.waiting_s * 1000, "Asleep, or held up by something else than a disk")
_REQUESTS = Measure("Requests", lambda row: row.requests, said=lambda row: words.count(row.requests))
_ERRORS = Measure(
    "Errors", lambda row: row.errors, "Status 500 and above, fatal errors, died", lambda row: words.count(row.errors)
)
_MAX = Measure("Max", lambda row: row.max_ms)
_CALLS = Measure(
    "Calls",
    lambda row: row.executions or 0,
    "Executions; not every profiler counts them",
    lambda row: words.count(row.executions),
)


def _sessions_ms(row: TopRow) -> float:
    return load_ms(row) + row.waiting_s * 1000


SAMPLED = {
    "process": [_LOAD, _CPU, _QUEUE, _BLOCKED],
    "wait": [
        Measure("Session time", _sessions_ms, "Database sessions added up over the time they were in it"),
        Measure("Running", lambda row: row.cpu_ms, "Active and waiting for nothing"),
        Measure("Disk", lambda row: row.blocked_s * 1000, "Waiting for a disk"),
        Measure(
            "Waiting", lambda row: row.waiting_s * 1000, "Waiting for anything else: locks, clients, other sessions"
        ),
    ],
    "blocker": [Measure("Held up", _sessions_ms, "The time of all sessions behind it, added up")],
}
"""Dimensions that only looks know: nobody counts requests of them."""


def _columns(top: Top) -> list[Measure]:
    """What is said of the values of a dimension; the first is what they are ranked by."""
    dimension, rows = top.dimension, top.rows
    if dimension in SAMPLED:
        return SAMPLED[dimension]
    each = dimension in EACH
    own = Measure("Self time" if dimension == "function" else "Total time", lambda row: row.wall_ms)
    columns = [_LOAD, own] if any(load_ms(row) for row in rows) else [own]
    if dimension != "endpoint":
        columns.append(_CALLS)
    mean = Measure("Mean", lambda row: row.wall_ms / _times(row, each), "Per execution" if each else "Per request")
    columns += [_REQUESTS, attrs.evolve(mean, said=lambda row: words.milliseconds(mean.value(row)))]
    if dimension in ("endpoint", "statement"):
        kind = "executions" if each else "requests"
        columns += [_percentile(name, kind) for name in ("p50", "p95", "p99")]
    columns += [_MAX, _CPU]
    if any(row.blocked_s for row in rows):
        columns.append(_BLOCKED)
    if dimension == "statement" and any(row.waiting_s for row in rows):
        columns.append(_WAITING)
    return [*columns, _ERRORS]


def _percentile(name: str, kind: str) -> Measure:
    def of(row: TopRow) -> float | None:
        found: float | None = getattr(row, f"{name}_ms")
        return found

    hint = f"{name[1:]} of 100 {kind} took no longer"
    return Measure(name, lambda row: of(row) or 0.0, hint, lambda row: words.milliseconds(of(row)))


def _times(row: TopRow, each: bool) -> int:
    return max(1, row.executions if each and row.executions else row.requests)
