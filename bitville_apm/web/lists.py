"""The two lists: requests found, and the heaviest values of a dimension. Data in, elements out."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import msgspec
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.store.interface import Found, Page, Search, Spike
from bitville_apm.web import loads, words
from bitville_apm.web.elements import Column, Frame, current, filled, number, ranges, stack, status, table, time, window
from bitville_apm.web.forms import hosts_choice, local
from bitville_apm.web.loads import Loads
from bitville_apm.web.questions import Top
from bitville_apm.web.scope import Scope, request_url
from bitville_apm.web.spikes import newest_panel
from bitville_apm.web.tops import endpoints_panel

FILTERS = ("url", "endpoint", "status", "release", "duration_min", "duration_max", "correlation_id")
"""Of a search, what a reader types; project, host and time are the scope's."""


@attrs.frozen
class Head:
    """What stands above the requests where nobody asked for any in particular: hosts' load, and the spikes in it."""

    loads: Loads
    spikes: Sequence[Spike]


@attrs.frozen
class Requests:
    """What the page of requests shows: the search that was made, its page, and what helps to make the next."""

    scope: Scope
    search: Search
    page: Page
    endpoints: Top | None
    hosts: Sequence[str]
    now: float
    head: Head | None = None

    def filters(self) -> dict[str, object]:
        """The filters as they stand in the address."""
        given = msgspec.structs.asdict(self.search)
        return {name: _plain(given[name]) for name in FILTERS}

    @property
    def filtered(self) -> bool:
        """Whether a reader asked for something in particular."""
        return any(value is not None for value in self.filters().values())

    def url(self, scope: Scope | None = None, path: str = "/", **more: object) -> str:
        """This search again, with something changed; a cursor never travels with it."""
        sort = None if self.search.sort == "duration" else self.search.sort
        limit = None if self.search.limit == limits.SEARCH_DEFAULT else self.search.limit
        return (scope or self.scope).url(path, **{**self.filters(), "sort": sort, "limit": limit, **more})


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def requests_body(shown: Requests, frame: Frame) -> Tag:
    """The page of requests."""
    search, slowest = shown.search, shown.search.sort == "duration"
    more = filled(
        "more",
        from_=local(shown.scope.start),
        to=local(shown.scope.end),
        duration_max=_text(_plain(search.duration_max)),
        release=_text(search.release),
        correlation_id=_text(search.correlation_id),
    )
    times = shown.scope.start, shown.scope.end
    if any(value is not None for value in (*times, search.duration_max, search.release, search.correlation_id)):
        more(open="open")
    hidden = {"project": shown.scope.project, "last": shown.scope.last, "sort": None if slowest else search.sort}
    clear = attrs.evolve(shown.scope, host=None)
    endpoints = shown.endpoints
    return filled(
        "requests",
        heading=_heading(shown, slowest),
        ranges=ranges(frame, shown.now),
        head=_head(shown) if shown.head is not None else "",
        summary=endpoints_panel(endpoints, shown.scope) if endpoints is not None and endpoints.rows else "",
        hidden=[tags.input(type="hidden", name=name, value=value) for name, value in hidden.items() if value],
        url=_text(search.url),
        endpoint=_text(search.endpoint),
        status=_text(search.status),
        duration_min=_text(_plain(search.duration_min)),
        hosts=hosts_choice(shown.hosts, shown.scope.host),
        clear=tags.a("Clear", href=clear.url("/")) if shown.filtered or shown.scope.host else "",
        more=more,
        found=_found(shown),
        sorts=tags.div(
            current(tags.a("Slowest first", href=shown.url(sort=None)), slowest),
            current(tags.a("Newest first", href=shown.url(sort="time")), not slowest),
            class_="choice",
        ),
        table=_table(shown) if shown.page.items else _nothing(shown),
        paging=_paging(shown),
        suggestions=[tags.option(value=row.value) for row in endpoints.rows] if endpoints else "",
    )


def _heading(shown: Requests, slowest: bool) -> str:
    return "Load and requests" if shown.head is not None else "Slowest requests" if slowest else "Newest requests"


def _head(shown: Requests) -> Flattenable:
    head, scope, now = shown.head, shown.scope, shown.now
    if head is None or not (head.loads.rows or head.spikes or shown.hosts):
        return ""
    if head.loads.rows:
        marks = loads.marks_of(head.spikes, now)
        body: Flattenable = [loads.figure(head.loads, marks), loads.hosts_table(head.loads, scope)]
    else:
        text = "No agent told of its host's load in this time: see [host] in agent.ini."
        body = tags.div(tags.p(text), class_="empty")
    return [
        tags.section(
            tags.div(
                tags.h2("Load ", window(scope, scope.start, scope.end), f" on {scope.host}" if scope.host else ""),
                loads.zoom(scope, now),
                class_="line",
            ),
            body,
            class_="panel",
        ),
        newest_panel(head.spikes, scope, now),
    ]


def _found(shown: Requests) -> Flattenable:
    if shown.search.correlation_id is not None:
        return f"Request {shown.search.correlation_id}"
    what = "Requests that match" if shown.filtered else "Requests"
    return [f"{what} ", window(shown.scope, shown.scope.start, shown.scope.end)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _table(shown: Requests) -> Tag:
    longest = max((found.duration_ms or 0.0 for found in shown.page.items), default=0.0)
    many = shown.scope.project is None and len({found.project for found in shown.page.items}) > 1
    columns = [
        Column("Time"),
        Column("Duration", number=True, hint="The green part of the bar is SQL", beside=("bars",)),
        Column("Request"),
        Column("Status"),
        Column("Statements", number=True, hint="SQL statements executed"),
        Column("SQL", number=True, hint="Time of all its statements together"),
        Column("CPU", number=True, hint="Time on a CPU"),
        Column("Memory", number=True, hint="Peak of the PHP process"),
        Column("Host"),
    ]
    if many:
        columns.append(Column("Project"))
    rows = [_row(found, longest, many) for found in shown.page.items]
    return table("Requests found", columns, rows, "requests")


def _row(found: Found, longest: float, many: bool) -> Tag:
    address = f"{found.method} {found.url}".strip()
    duration = found.duration_ms or 0.0
    sql = min(found.sql_ms, duration)
    parts = [("sql", sql), ("bar", duration - sql)]
    same = address == found.endpoint
    row = tags.tr(
        tags.td(time(found.at), class_="when"),
        tags.td(words.milliseconds(found.duration_ms), class_="num strong"),
        tags.td(stack(parts, longest, "bar"), class_="bars"),
        tags.td(
            tags.a(found.endpoint or "(no name)", href=request_url(found.id)),
            "" if same else tags.span(address, class_="url", title=address),
            class_="name",
        ),
        tags.td(status(found.status, found.died)),
        number(words.NOTHING if found.died else words.count(found.sql_count)),
        number(words.milliseconds(found.sql_ms) if found.sql_count else words.NOTHING),
        number(words.milliseconds(found.cpu_ms)),
        number(words.bytes_(found.memory_peak_bytes)),
        tags.td(found.host, class_="host"),
    )
    return row(tags.td(found.project)) if many else row


def _paging(shown: Requests) -> Flattenable:
    links: list[Flattenable] = []
    if shown.search.after is not None:
        links.append(tags.a("First page", href=shown.url()))
    if shown.page.cursor is not None:
        fixed = shown.scope.fixed(shown.now)
        links.append(tags.a("Next page", href=shown.url(fixed, after=shown.page.cursor), rel="next", class_="next"))
    return tags.nav(links, class_="paging")(**{"aria-label": "Pages"}) if links else ""


def _nothing(shown: Requests) -> Tag:
    if shown.search.after is not None:
        return tags.div(tags.p("No more requests."), class_="empty")
    if shown.search.correlation_id is not None:
        return tags.div(tags.p("No request has this id, or its record is no longer kept."), class_="empty")
    if shown.filtered or shown.hosts:
        wider = [
            tags.a(text, href=shown.url(attrs.evolve(shown.scope, last=last, start=None, end=None)))
            for last, text in (("24h", "Look at 24 hours"), ("7d", "Look at 7 days"))
            if shown.scope.last != last
        ]
        return tags.div(tags.p("No request matches in this time."), tags.p(*_joined(wider), "."), class_="empty")
    return filled("first")


def _joined(links: Sequence[Tag]) -> list[Flattenable]:
    return [part for i, link in enumerate(links) for part in ((" or " if i else ""), link)]
