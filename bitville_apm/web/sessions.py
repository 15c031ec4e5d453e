"""What Postgres was seen doing for one request: its sessions, who held them up, what the server's log says (LIST-05).

Data in, elements out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.web.template import Flattenable, tags

from bitville_apm import limits
from bitville_apm.store.interface import Found
from bitville_apm.web import words
from bitville_apm.web.elements import Column, bar, folded, panel, table, time
from bitville_apm.web.scope import request_url
from bitville_apm.web.seen import Event, Holder, Ran, Seen


def sessions_panel(found: Found, seen: Seen, connections: Sequence[str]) -> Flattenable:
    """The panel; of a request that cannot have asked a Postgres, nothing. `connections`: of `connections_of`."""
    if not (seen.ran or seen.holders or seen.held_up or seen.events):
        elsewhere = connections and not any("pg" in name.partition(" ")[0] for name in connections)
        if elsewhere or not (found.died or found.sql_count):
            return ""
        return panel("In the database", "", tags.div(tags.p(_WHY_EMPTY), class_="empty"))
    raw = tags.a("as JSON", href=f"/api/correlation/{request_url(found.id).rpartition('/')[2]}")
    held = f"{words.count(seen.held_up)} sessions waited for it at a time. " if seen.held_up else ""
    return panel(
        "In the database",
        [held, "looked at once a second; ", raw],
        [_ran(seen.ran), _holders(seen.holders), _events(seen.events)],
    )


_WHY_EMPTY = (
    "No session of this request was seen. A server that an agent watches is looked at once a second, so that most "
    "statements of less than a second are not seen; and a session has to bear the id of the request."
)


def _ran(ran: Sequence[Ran]) -> Flattenable:
    if not ran:
        return ""
    heaviest = max(one.seconds for one in ran)
    rows = [
        tags.tr(
            tags.td(folded(words.cut(one.statement)), class_="name"),
            tags.td(words.milliseconds(one.seconds * 1000), class_="num strong"),
            tags.td(bar(one.seconds, heaviest, "sql"), class_="bars"),
            tags.td(_waits(one.waits)),
            tags.td(words.cut(one.session, 80), tags.small(" ", words.cut(one.server, 80), class_="faint")),
        )
        for one in ran[: limits.FUNCTIONS_SHOWN]
    ]
    columns = (
        Column("Statement"),
        Column("Seen for", number=True, hint="Looks at it, added up", beside=("bars",)),
        Column("Waited for", hint="What the server says; CPU: it ran, or waited for a CPU"),
        Column("Session"),
    )
    return table("Sessions of this request", columns, rows)


def _waits(waits: dict[str, float]) -> str:
    ranked = sorted(waits.items(), key=lambda wait: -wait[1])
    return ", ".join(f"{words.cut(name, 80)} {words.milliseconds(seconds * 1000)}" for name, seconds in ranked[:6])


def _holders(holders: Sequence[Holder]) -> Flattenable:
    if not holders:
        return ""
    rows = [
        tags.tr(
            tags.td(folded(words.cut(one.statement)), class_="name"),
            tags.td(words.cut(one.state, 80)),
            tags.td(words.cut(one.session, 80), tags.small(" ", words.cut(one.server, 80), class_="faint")),
            tags.td(tags.a("its request", href=request_url(one.request)) if one.request else ""),
        )
        for one in holders[: limits.FUNCTIONS_SHOWN]
    ]
    columns = (Column("Held up by"), Column("State"), Column("Session"), Column("Whose"))
    return table("Who held it up", columns, rows)


def _events(events: Sequence[tuple[float, str, Event]]) -> Flattenable:
    if not events:
        return ""
    rows = [
        tags.tr(
            tags.td(time(at), class_="when"),
            tags.td(words.cut(what_of(event), 300), tags.small(" ", words.cut(place, 80), class_="faint")),
            tags.td(folded(words.cut(event.statement)), _plan(event.plan), class_="name"),
        )
        for at, place, event in events[: limits.FUNCTIONS_SHOWN]
    ]
    return table("What the log says", (Column("In the log"), Column("What"), Column("Statement")), rows)


def what_of(event: Event) -> str:
    """A line of the log in words."""
    if event.event == "lock_wait":
        held = f", held by {', '.join(map(str, event.holders))}" if event.holders else ""
        waited = words.milliseconds(event.waited_ms)
        return f"{event.what or 'waiting'} {event.mode or 'a lock'} on {event.on or '?'} after {waited}{held}"
    if event.event == "error":
        return " ".join(part for part in (event.severity, event.what, event.sqlstate) if part)
    took = f", {words.milliseconds(event.duration_ms)}" if event.duration_ms is not None else ""
    return f"{event.event.replace('_', ' ')}{took}"


def _plan(plan: Any) -> Flattenable:
    if not plan:
        return ""
    text = plan if isinstance(plan, str) else json.dumps(plan, indent=1, ensure_ascii=False)
    return tags.details(tags.summary("its plan"), tags.pre(words.cut(text, limits.PG_PLAN_CHARACTERS)), class_="code")
