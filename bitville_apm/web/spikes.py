"""Spikes in a list, a line each: on the first page the newest, on a page of their own all of a range. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.store.interface import Spike
from bitville_apm.web import words
from bitville_apm.web.elements import Column, Frame, filled, number, panel, ranges, table, time, window
from bitville_apm.web.explained import KINDS
from bitville_apm.web.forms import hosts_choice, local
from bitville_apm.web.regressions import regressions_link
from bitville_apm.web.scope import Scope, spike_url


@attrs.frozen
class Spikes:
    """What the page of spikes shows. `more`: there are older ones in the range than these."""

    scope: Scope
    spikes: Sequence[Spike]
    hosts: Sequence[str]
    now: float
    more: bool = False


def state(spike: Spike) -> Tag:
    """Whether it goes on."""
    if spike.end is None:
        return tags.span("open", class_="pill bad", title="It still goes on")
    return tags.span("closed", class_="pill mark", title="It is over")


def spikes_table(spikes: Sequence[Spike], now: float) -> Tag:
    """A line for each, the newest first."""
    several = len({spike.project for spike in spikes}) > 1
    columns = [
        Column("Began"),
        Column("Lasted", number=True),
        Column("Verdict"),
        Column("Worst", number=True, hint="Load units, at its worst; in brackets before"),
        Column("State"),
        Column("Host"),
    ]
    if several:
        columns.append(Column("Project"))
    return table("Spikes", columns, [_row(spike, several, now) for spike in spikes], "spikes")


def _row(spike: Spike, several: bool, now: float) -> Tag:
    label, kind, hint = KINDS.get(spike.kind, KINDS["load"])
    marks: list[Flattenable] = [state(spike)]
    if spike.provisional:
        marks += [" ", tags.span("provisional", class_="pill mark")]
    if spike.kind != "load":
        marks += [" ", tags.span(label, class_=f"pill {kind}", title=hint)]
    lasted = (spike.end if spike.end is not None else now) - spike.onset
    row = tags.tr(
        tags.td(time(spike.onset), class_="when"),
        number(words.milliseconds(max(0.0, lasted) * 1000)),
        tags.td(tags.a(words.cut(spike.verdict or "Spike", 300), href=spike_url(spike.id)), class_="told"),
        tags.td(tags.b(words.level(spike.level)), tags.span(f" ({words.level(spike.baseline)})", class_="faint"))(
            class_="num"
        ),
        tags.td(marks, class_="marks"),
        tags.td(words.cut(", ".join(spike.hosts), 80), class_="host"),
    )
    return row(tags.td(spike.project)) if several else row


def newest_panel(spikes: Sequence[Spike], scope: Scope, now: float) -> Tag:
    """The newest of a range, for the head of another page."""
    title = [tags.a("All spikes", href=scope.url("/spikes")), ", ", regressions_link(scope), ", "]
    title.append(explain_link(scope, now))
    if not spikes:
        return panel("Spikes", title, tags.div(tags.p("None in this time."), class_="empty"))
    shown = spikes[: limits.SPIKES_SHOWN]
    more = f"{words.count(len(spikes))} in this time" if len(spikes) > len(shown) else ""
    note = tags.p("Only the newest are shown; ", more, ".", class_="note") if more else ""
    return panel("Spikes", title, [spikes_table(shown, now), note])


def explain_link(scope: Scope, now: float, text: str = "explain this time") -> Tag:
    """To have the shown time explained, whether there was a spike or not; of a longer one, a part is to be chosen."""
    fixed = scope.fixed(now)
    if (fixed.end or now) - (fixed.start or 0.0) > limits.EXPLAIN_WINDOW_S:
        fixed = Scope(project=scope.project, host=scope.host)
        return tags.a(text.replace("this time", "any time"), href=fixed.url("/explain"))
    return tags.a(text, href=fixed.url("/explain"))


def spikes_body(shown: Spikes, frame: Frame) -> Tag:
    """The page of spikes."""
    scope = shown.scope
    hidden = {"project": scope.project, "last": scope.last}
    table_: Flattenable = spikes_table(shown.spikes, shown.now) if shown.spikes else _none(shown)
    note = f"Only the newest {len(shown.spikes)} are shown; choose a shorter time for the others."
    return filled(
        "spikes",
        ranges=ranges(frame, shown.now),
        hidden=[tags.input(type="hidden", name=name, value=value) for name, value in hidden.items() if value],
        from_=local(scope.start),
        to=local(scope.end),
        hosts=hosts_choice(shown.hosts, scope.host),
        clear=tags.a("Clear", href=Scope(project=scope.project).url("/spikes"))
        if scope.host or scope.last is None
        else "",
        found=["Spikes ", window(scope, scope.start, scope.end)],
        explain=[regressions_link(scope), ", ", explain_link(scope, shown.now)],
        table=table_,
        note=tags.p(note, class_="note") if shown.more else "",
    )


def _none(shown: Spikes) -> Tag:
    wider = [
        tags.a(text, href=attrs.evolve(shown.scope, last=last, start=None, end=None).url("/spikes", last=last))
        for last, text in (("24h", "24 hours"), ("7d", "7 days"))
        if shown.scope.last != last
    ]
    links = [part for i, link in enumerate(wider) for part in (" or " if i else "", link)]
    return tags.div(
        tags.p("No spike in this time."),
        tags.p("Look at ", links, ", or have ", explain_link(shown.scope, shown.now, "this time explained"), "."),
        tags.p(
            "A spike is noticed when a host's running and blocked tasks, its active database sessions or its requests "
            "in flight rise above what the hour before was used to."
        ),
        class_="empty",
    )
