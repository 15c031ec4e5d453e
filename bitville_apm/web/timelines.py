"""When in a request its statements and calls were made: a line each on the request's own time (VIZ-02). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.records import End
from bitville_apm.requests import dialect
from bitville_apm.sqltext import statement
from bitville_apm.web import words
from bitville_apm.web.detail import Detail
from bitville_apm.web.elements import Column, folded, number, panel, table


@attrs.frozen
class Event:
    """Something that a request waited for: from when, ms after its start, for how long, and how many are told as one.

    `what` of a statement is its text as it came, `spoken` its dialect.
    """

    kind: str
    what: str
    spoken: str
    at: float
    ms: float
    n: int

    @property
    def text(self) -> str:
        """What it is called; a statement without its values."""
        return statement(self.what, self.spoken) if self.kind == "sql" else self.what


def events_of(detail: Detail) -> list[Event]:
    """What a record tells a time of, by when it began."""
    message = detail.message
    if not isinstance(message, End):
        return []
    events = []
    if message.sql is not None:
        drivers = [connection.driver for connection in message.sql.connections]
        for query in message.sql.queries:
            if query.at is not None:
                driver = drivers[query.c] if query.c is not None and 0 <= query.c < len(drivers) else None
                events.append(Event("sql", query.sql, dialect(driver), query.at, query.ms, query.n))
    for call in message.calls or ():
        if call.at is not None:
            events.append(Event("external", f"{call.kind} {call.target}", "", call.at, call.ms, call.n))
    return sorted(events, key=lambda event: event.at)


def timeline_panel(detail: Detail) -> Flattenable:
    """All of them in one strip, and the longest in a table, by when they began."""
    events, whole = events_of(detail), detail.found.duration_ms or 0.0
    if len(events) < 2 or whole <= 0:
        return ""
    longest = sorted(events, key=lambda event: -event.ms)[: limits.TIMELINE_SHOWN]
    shown = sorted(longest, key=lambda event: event.at)
    said = f"{words.count(len(events))} told when they began"
    if len(shown) < len(events):
        said = f"the {len(shown)} longest of {words.count(len(events))}"
    columns = (
        Column("Began", number=True, hint="After the request's start"),
        Column("When"),
        Column("Took", number=True),
        Column("What"),
    )
    texts = [event.text for event in shown]
    rows = [
        _row(event, text, text == above, whole) for event, text, above in zip(shown, texts, ["", *texts], strict=False)
    ]
    return panel("Timeline", said, [_strip(events, whole), table("Timeline", columns, rows, "timeline")])


def _strip(events: Sequence[Event], whole: float) -> Tag:
    rects = [_rect(event, whole) for event in events[: limits.TIMELINE_STRIP]]
    label = "When statements and calls ran; the table below has the longest"
    svg = Tag("svg")(rects, class_="strip", role="img")(**{"aria-label": label})
    return tags.div(svg, tags.span("0"), tags.span(words.milliseconds(whole)), class_="whole")


def _row(event: Event, text: str, repeated: bool, whole: float) -> Tag:
    """A line of the table; what the line above has already is not said once more."""
    bar = Tag("svg")(_rect(event, whole), class_="strip thin")(**{"aria-hidden": "true", "focusable": "false"})
    many = tags.span(f"{event.n:,}\u00d7", class_="pill mark", title="Together; the first began then")
    return tags.tr(
        number(words.milliseconds(event.at)),
        tags.td(bar, class_="strips"),
        tags.td(words.milliseconds(event.ms), class_="num strong"),
        tags.td(
            tags.span("the same", class_="faint") if repeated else folded(text),
            [" ", many] if event.n > 1 else "",
            class_="name",
        ),
    )


def _rect(event: Event, whole: float) -> Tag:
    left = 100 * min(1.0, max(0.0, event.at / whole))
    width = min(100 - left, max(0.15, 100 * event.ms / whole))
    kind = f"of-{event.kind}" + (" waits" if event.n > 1 else "")
    return Tag("rect")(x=f"{left:.2f}%", width=f"{max(0.0, width):.2f}%", height="100%", class_=kind)
