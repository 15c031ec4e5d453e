"""One request: where its time went, its functions, its statements, and what it carried."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.requests import External, StatementUse
from bitville_apm.web import words
from bitville_apm.web.detail import Detail, FunctionUse
from bitville_apm.web.elements import Column, bar, details, filled, folded, number, panel, stack, status, table, time
from bitville_apm.web.fields import Rows, connections_of, fatal_of, is_cut, sections_of
from bitville_apm.web.scope import Scope, request_url
from bitville_apm.web.seen import Seen
from bitville_apm.web.sessions import sessions_panel
from bitville_apm.web.timelines import timeline_panel

PARTS = {
    "cpu": "CPU",
    "queue": "Waiting for a CPU",
    "sql": "Waiting for SQL",
    "external": "Waiting for others",
    "rest": "Other waiting",
    "php": "PHP and what was not measured",
}
"""What a request's time is made of, in the order of its bar."""

STATES = {"R": "running", "S": "sleeping", "D": "waiting for the disk (uninterruptible)", "T": "stopped", "Z": "dead"}
"""What the letters of /proc/PID/stat mean."""

_AROUND_S = 1800


def parts_of(detail: Detail) -> list[tuple[str, float]]:
    """What is known of where the wall time went, ms; the rest is what nobody measured.

    On a CPU, waiting for one, or waiting for somebody: the process is in one of these at any time, and the first two
    are exact. Statements and calls are waited for as far as that leaves room: SQLite's run on the process's own CPU.
    """
    request = detail.request
    if request is None:
        return []
    wanted = (
        ("cpu", (request.cpu_us or 0) / 1000),
        ("queue", (request.queue_us or 0) / 1000),
        ("sql", request.sql_ms),
        ("external", sum(call.ms for call in detail.externals)),
    )
    left, parts = request.ms, []
    for name, ms in wanted:
        taken = min(ms, left)
        left -= taken
        if taken > 0:
            parts.append((name, taken))
    rest = "php" if request.cpu_us is None else "rest"
    return [*parts, (rest, left)] if left > 0 else parts


def request_body(detail: Detail, flame: Flattenable, seen: Seen) -> Tag:
    """The page of one request, with its flame graph where it has one, and what its database was seen doing."""
    found = detail.found
    fatal = fatal_of(detail)
    scope = Scope(project=found.project)
    around = attrs.evolve(scope, last=None, start=found.at - _AROUND_S, end=found.at + _AROUND_S)
    return filled(
        "request",
        back=scope.url("/"),
        title=words.cut(f"{found.method} {found.url}".strip() or found.endpoint),
        status=status(found.status, found.died, fatal is not None),
        endpoint=tags.a(
            found.endpoint,
            href=around.url("/", endpoint=found.endpoint or None),
            title="Requests of this endpoint in the same hour",
        ),
        when=time(found.at, "ago"),
        alarm=_alarm(detail, fatal),
        facts=_facts(detail),
        composition=_composition(detail),
        flame=panel("Flame graph", "as wide as the time on the stack", flame) if flame else "",
        functions=_functions(detail),
        timeline=timeline_panel(detail),
        statements=statements_panel(detail),
        sessions=sessions_panel(found, seen, connections_of(detail)),
        external=_external(detail.externals, found.duration_ms or 0.0),
        sections=[
            details([title, _counted(rows)], _pairs(rows), len(rows) <= limits.FIELDS_OPEN)
            for title, rows in sections_of(detail)
        ],
        raw=request_url(found.id, ".json"),
    )


def _counted(rows: Rows) -> Tag:
    return tags.span(f" {len(rows)}", class_="faint")


def _pairs(rows: Rows) -> Tag:
    lines = [tags.tr(tags.th(name, scope="row"), tags.td(tags.code(value))) for name, value in rows]
    return tags.div(tags.table(tags.tbody(lines), class_="pairs"), class_="scroll")


def _alarm(detail: Detail, fatal: tuple[str, str] | None) -> Flattenable:
    if fatal is not None:
        message, place = fatal
        return tags.div(
            tags.strong("Fatal error"), tags.p(message), tags.p(tags.code(place)), class_="alarm", role="note"
        )
    if detail.found.died:
        message = "The process ended before the request did: killed, crashed, or out of its time limit."
        state = detail.record.get("state")
        if isinstance(state, str):
            message += f" When last seen it was {STATES.get(state, words.cut(state))}."
        return tags.div(tags.strong("This request died"), tags.p(message), class_="alarm", role="note")
    return ""


def _facts(detail: Detail) -> list[Tag]:
    found, request = detail.found, detail.request
    whole = found.duration_ms
    ran = f"{words.count(found.sql_count)} statements · {words.share(found.sql_ms, whole)}"
    facts = [("Duration", words.milliseconds(whole), "")]
    if not found.died:
        facts.append(("SQL", words.milliseconds(found.sql_ms), ran))
    facts.append(("CPU", words.milliseconds(found.cpu_ms), words.share(found.cpu_ms, whole)))
    if request is not None and request.queue_us is not None:
        waited = request.queue_us / 1000
        facts.append(("Waited for a CPU", words.milliseconds(waited), words.share(waited, whole)))
    facts += [
        ("Memory, peak", words.bytes_(found.memory_peak_bytes), ""),
        ("Host", found.host, ""),
        ("Project", found.project, ""),
    ]
    if found.release:
        facts.append(("Release", words.cut(found.release), ""))
    if request is not None and request.client:
        facts.append(("Client", words.cut(request.client), words.cut(request.agent or "")))
    return [
        tags.div(tags.dt(name), tags.dd(value, tags.small(note) if note and note != words.NOTHING else ""))
        for name, value, note in facts
    ]


def _composition(detail: Detail) -> Flattenable:
    parts, whole = parts_of(detail), detail.found.duration_ms or 0.0
    if len(parts) < 2 or whole <= 0:
        return ""
    legend = [
        tags.li(
            Tag("svg")(Tag("rect")(width="100%", height="100%", class_=f"of-{name}"), class_="swatch")(
                **{"aria-hidden": "true"}
            ),
            PARTS[name],
            " ",
            tags.b(words.milliseconds(ms)),
            " ",
            tags.span(words.share(ms, whole), class_="faint"),
        )
        for name, ms in parts
    ]
    return tags.div(stack(parts, whole), tags.ul(legend, class_="legend"), class_="composition")


def _functions(detail: Detail) -> Flattenable:
    if detail.found.died:
        text = "What it ran is not known: a request says that at its end."
        return panel("Functions and statements", "", tags.div(tags.p(text), class_="empty"))
    if not detail.functions:
        text = "This record has no profile: it was faster than the threshold, or no profiler is installed."
        return panel("Functions", "", tags.div(tags.p(text), class_="empty"))
    worth = [f for f in detail.functions if max(f.self_ms or 0.0, f.inclusive_ms or 0.0) >= limits.FUNCTION_SHOWN_MS]
    shown = worth[: limits.FUNCTIONS_SHOWN]
    whole = detail.profile_ms or detail.found.duration_ms or 0.0
    memory = any(f.memory_bytes for f in shown)
    columns = [
        Column("Function"),
        Column("Self", number=True, hint="Time in the function itself, without what it called", beside=("bars", "num")),
        Column("Inclusive", number=True, hint="Time from its call to its return", beside=("num",)),
        Column("Calls", number=True, hint="A sampling profiler does not count calls"),
    ]
    if memory:
        columns.append(Column("Memory", number=True, hint="Allocated and not freed from its call to its return"))
    heaviest = max((f.self_ms or 0.0 for f in shown), default=0.0)
    rows = [_function(f, whole, heaviest, memory) for f in shown]
    said = f"{len(shown):,} of {len(detail.functions):,}, by self time"
    if len(shown) < len(detail.functions):
        said += "; the others are under 1 ms or beyond the first 100, the JSON has them all"
    return panel("Functions", said, _long_table("Functions", columns, rows) if rows else "")


def _function(use: FunctionUse, whole: float, heaviest: float, memory: bool) -> Tag:
    own = use.self_ms or 0.0
    hot = whole > 0 and own / whole >= limits.FUNCTION_HOT
    mark = tags.span("hot", class_="pill hot", title="5 % of the request or more is spent in itself") if hot else ""
    row = tags.tr(
        tags.td(tags.code(words.cut(use.name)), " ", mark, class_="name"),
        tags.td(words.milliseconds(use.self_ms), class_="num strong"),
        tags.td(bar(own, heaviest, "hot" if hot else ""), class_="bars"),
        number(words.share(use.self_ms, whole)),
        number(words.milliseconds(use.inclusive_ms)),
        number(words.share(use.inclusive_ms, whole)),
        number(words.count(use.calls)),
    )
    return row(number(words.bytes_(use.memory_bytes))) if memory else row


def statements_panel(detail: Detail) -> Flattenable:
    """Its statements, what they took and where they came from; nothing of a request that died before it told."""
    uses, found = detail.statements, detail.found
    if found.died:
        return ""
    if not uses:
        text = "None was captured." if found.sql_count else "This request ran none."
        return panel("Statements", "", tags.div(tags.p(text), class_="empty"))
    columns = (
        Column("Statement"),
        Column("Total", number=True, hint="All its executions together", beside=("bars", "num")),
        Column("Count", number=True),
        Column("Mean", number=True),
        Column("Max", number=True),
    )
    slowest, most = max(use.max_ms for use in uses), max(use.n for use in uses)
    heaviest, whole = max(use.ms for use in uses), found.duration_ms or 0.0
    rows = [
        _statement(use, detail.stacks.get(use.fingerprint, ()), whole, heaviest, slowest, most)
        for use in uses[: limits.FUNCTIONS_SHOWN]
    ]
    said = f"{words.count(found.sql_count)} executed, {words.count(len(uses))} different"
    if len(rows) < len(uses):
        said += f", the first {len(rows)} shown"
    if is_cut(detail):
        said += ", the rest counted but not sent"
    places = connections_of(detail)
    if places:
        said += f"; on {', '.join(places[:3])}"
    return panel("Statements", said, _long_table("Statements", columns, rows))


def _statement(
    use: StatementUse, frames: Sequence[str], whole: float, heaviest: float, slowest: float, most: int
) -> Tag:
    marks: list[Flattenable] = []
    if use.n >= limits.STATEMENT_REPEATED:
        hint = "Run once for each row of a list, as it seems; one statement could fetch them together"
        marks.append(tags.span(f"repeated {use.n:,}\u00d7", class_="pill warn", title=hint))
    elif use.n == most > 1:
        marks.append(tags.span("most executed", class_="pill mark"))
    if use.max_ms == slowest:
        marks.append(tags.span("longest", class_="pill mark", title="The longest single execution"))
    if use.failed:
        marks.append(tags.span(f"failed {use.failed:,}\u00d7", class_="pill bad"))
    return tags.tr(
        tags.td(folded(use.statement), [[" ", mark] for mark in marks], _origin(frames), class_="name"),
        tags.td(words.milliseconds(use.ms), class_="num strong"),
        tags.td(bar(use.ms, heaviest, "sql"), class_="bars"),
        number(words.share(use.ms, whole)),
        number(words.count(use.n)),
        number(words.milliseconds(use.ms / max(1, use.n))),
        number(words.milliseconds(use.max_ms)),
    )


def _origin(frames: Sequence[str]) -> Flattenable:
    """Where in the application a statement comes from: the place itself, and who called it, folded away."""
    if not frames:
        return ""
    place, *callers = (tags.code(words.cut(frame)) for frame in frames)
    if not callers:
        return tags.div("from ", place, class_="aside")
    called = tags.ol([tags.li(caller) for caller in callers])
    return tags.details(tags.summary("from ", place), called, class_="aside origin")


def _external(calls: Sequence[External], whole: float) -> Flattenable:
    if not calls:
        return ""
    columns = (Column("Called"), Column("Total", number=True, beside=("bars", "num")), Column("Count", number=True))
    heaviest = max(call.ms for call in calls)
    rows = [
        tags.tr(
            tags.td(tags.code(words.cut(call.target)), class_="name"),
            tags.td(words.milliseconds(call.ms), class_="num strong"),
            tags.td(bar(call.ms, heaviest, "external"), class_="bars"),
            number(words.share(call.ms, whole)),
            number(words.count(call.n)),
        )
        for call in sorted(calls, key=lambda call: -call.ms)[: limits.FUNCTIONS_SHOWN]
    ]
    return panel("External calls", f"{sum(call.n for call in calls):,}", table("External calls", columns, rows))


def _long_table(caption: str, columns: Sequence[Column], rows: list[Tag]) -> list[Tag]:
    """A table whose end is folded away, so that what comes after it is in sight."""
    first, rest = rows[: limits.ROWS_OPEN], rows[limits.ROWS_OPEN :]
    shown = [table(caption, columns, first)]
    if rest:
        shown.append(details(f"{len(rest)} more", table(f"More {caption.lower()}", columns, rest)))
    return shown
