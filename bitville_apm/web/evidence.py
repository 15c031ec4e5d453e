"""What a report rests on: who ran, what waited, requests to look at, what changed, how good the data is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.analysis.report import Before, Blocking, Change, Example, Flying, Part, Quality, Report, Split, Waits
from bitville_apm.web import words
from bitville_apm.web.charts import swatch
from bitville_apm.web.dimensions import singular
from bitville_apm.web.elements import Column, bar, fact, folded, number, panel, status, table, time
from bitville_apm.web.scope import Scope, request_url, spike_url
from bitville_apm.web.tops import value_link

WHY = {
    "slowest": ("slowest", "hot", "The longest of the first cause"),
    "median": ("typical", "mark", "As long as half of them"),
    "died": ("died", "bad", "Its process ended before it did"),
}


def split_panel(report: Report, scope: Scope) -> Flattenable:
    """Who ran on each host, running and blocked, against before."""
    if not report.split:
        return ""
    whole = max(max(s.running + s.blocked, s.baseline_running + s.baseline_blocked) for s in report.split)
    hosts = [_host(split, whole, scope) for split in report.split]
    return panel("Who ran", "task-seconds a second: what a load average counts", tags.div(hosts, class_="splits"))


def _host(split: Split, whole: float, scope: Scope) -> Tag:
    now, before = split.running + split.blocked, split.baseline_running + split.baseline_blocked
    pieces = [piece for part in split.parts for piece in ((part, part.running, ""), (part, part.blocked, " waits"))]
    rects, at = [], 0.0
    for part, value, state in pieces:
        width = 100 * min(1.0, max(0.0, value / whole)) if whole > 0 else 0.0
        title = Tag("title")(f"{part.name}, {'blocked' if state else 'running'}: {words.level(value)}")
        rects.append(
            Tag("rect")(title, x=f"{at:.2f}%", width=f"{width:.2f}%", height="100%", class_=f"ran-{part.kind}{state}")
        )
        at += width
    if split.cores and whole > 0 and split.cores < whole:
        rects.append(
            Tag("rect")(
                Tag("title")(f"{split.cores} cores"), x=f"{100 * split.cores / whole:.2f}%", width="2", height="100%",
                class_="edge",
            )
        )  # fmt: skip
    facts = [
        fact("During", words.level(now), f"before {words.level(before)}"),
        fact("Coverage", words.share(split.coverage, 1), "of it explained"),
    ]
    if split.load1 is not None:
        facts.append(fact("Load average", words.level(split.load1), "the kernel's"))
    if split.cores is not None:
        facts.append(fact("Cores", words.count(split.cores)))
    if split.pressure:
        facts.append(fact("Pressure", _pressure(split.pressure), "of the time somebody waited"))
    return tags.div(
        tags.h3(tags.a(split.host, href=attrs.evolve(scope, host=split.host).url("/"))),
        tags.dl(facts, class_="facts small"),
        tags.div(
            _line("before", bar(before, whole, "rest"), words.level(before)),
            _line(
                "during", Tag("svg")(rects, class_="bar")(role="img", **{"aria-label": _told(split)}), words.level(now)
            ),
            class_="bands",
        ),
        _parts(split.parts, now) if split.parts else "",
        class_="split",
    )


def _line(name: str, drawn: Tag, said: str) -> Tag:
    return tags.div(tags.span(name, class_="faint"), drawn, tags.b(said), class_="band")


def _told(split: Split) -> str:
    return ", ".join(f"{part.name} {words.level(part.running + part.blocked)}" for part in split.parts)


def _pressure(pressure: Mapping[str, float]) -> str:
    return ", ".join(
        f"{words.cut(name, 40).replace('_', ' ')} {words.share(value, 100)}" for name, value in sorted(pressure.items())
    )


def _who(part: Part) -> Tag:
    if part.kind == "unknown":
        return tags.span("no look could tell", class_="faint")
    return tags.code(words.cut(part.name or part.kind, 200))


def _parts(parts: Sequence[Part], whole: float) -> Tag:
    ranked = sorted(parts, key=lambda part: (part.kind == "unknown", -(part.running + part.blocked)))
    rows = [
        tags.tr(
            tags.td(swatch(f"ran-{part.kind}"), _who(part), class_="name"),
            number(words.level(part.running)),
            number(words.level(part.blocked)),
            tags.td(words.level(part.running + part.blocked), class_="num strong"),
            number(words.share(part.running + part.blocked, whole)),
        )
        for part in ranked
    ]
    columns = (
        Column("Who"),
        Column("Running", number=True, hint="On a CPU, or waiting for one"),
        Column("Blocked", number=True, hint="In uninterruptible sleep: mostly the disk; paler in the band"),
        Column("Together", number=True, beside=("num",)),
    )
    return table("Who ran", columns, rows, "parts")


def examples_panel(examples: Sequence[Example]) -> Flattenable:
    """Requests to open."""
    if not examples:
        return ""
    rows = []
    for one in examples:
        label, kind, hint = WHY[one.why]
        rows.append(
            tags.tr(
                tags.td(tags.span(label, class_=f"pill {kind}", title=hint)),
                tags.td(time(one.at), class_="when"),
                tags.td(words.milliseconds(one.duration_ms), class_="num strong"),
                tags.td(
                    tags.a(one.endpoint or "(no name)", href=request_url(one.id)),
                    tags.span(f"{one.method} {one.url}", class_="url", title=f"{one.method} {one.url}"),
                    class_="name",
                ),
                tags.td(status(one.status, one.status is None and one.why == "died")),
                tags.td(one.host, class_="host"),
            )
        )
    columns = (
        Column("Which"), Column("Began"), Column("Took", number=True), Column("Request"), Column("Status"),
        Column("Host"),
    )  # fmt: skip
    return panel("Requests to look at", "", table("Requests to look at", columns, rows, "requests"))


def flying_panel(flying: Sequence[Flying], at: float) -> Flattenable:
    """What ran at the worst second."""
    if not flying:
        return ""
    oldest = max(one.age_ms for one in flying)
    rows = [
        tags.tr(
            tags.td(tags.a(one.endpoint or "(no name)", href=request_url(one.id)), class_="name"),
            tags.td(words.milliseconds(one.age_ms), class_="num strong"),
            tags.td(bar(one.age_ms, oldest), class_="bars"),
            tags.td(one.host, class_="host"),
        )
        for one in flying
    ]
    columns = (
        Column("Request"), Column("Running for", number=True, hint="At that second", beside=("bars",)), Column("Host")
    )  # fmt: skip
    return panel("In flight at the worst second", time(at, "time"), table("In flight", columns, rows, "requests"))


def waits_panel(waits: Sequence[Waits]) -> Flattenable:
    """Database sessions by what they waited for."""
    if not waits:
        return ""
    most = max(one.level for one in waits)
    rows = [
        tags.tr(
            tags.td(tags.code(words.cut(one.wait)), class_="name"),
            number(words.level(one.baseline)),
            tags.td(words.level(one.level), class_="num strong"),
            tags.td(bar(one.level, most, "sql"), class_="bars"),
        )
        for one in waits
    ]
    columns = (Column("Waiting for"), Column("Before", number=True), Column("During", number=True, beside=("bars",)))
    return panel("Database sessions", "sessions at a time", table("Database sessions", columns, rows))


def locks_panel(locks: Sequence[Blocking]) -> Flattenable:
    """Who waited for whose lock at the worst second."""
    if not locks:
        return ""
    rows = [
        tags.tr(
            tags.td(_indent(one.depth), tags.code(words.cut(one.session)), class_=f"tree depth-{min(one.depth, 6)}"),
            tags.td(one.state),
            number(words.count(one.blocked)),
            tags.td(folded(one.statement), class_="name"),
        )
        for one in locks
    ]
    columns = (
        Column("Session"), Column("State"), Column("Behind it", number=True, hint="Sessions that waited for it"),
        Column("Statement"),
    )  # fmt: skip
    return panel("Locks", "who waited for whom, at the worst second", table("Locks", columns, rows))


def _indent(depth: int) -> Flattenable:
    return tags.span("└ ", class_="faint") if depth else ""


def changes_panel(changes: Sequence[Change], scope: Scope) -> Flattenable:
    """What was not there before."""
    if not changes:
        return ""
    rows = [
        tags.tr(
            tags.td(value_link(one.dimension, one.value, scope), class_="name"),
            tags.td(singular(one.dimension), class_="faint"),
            number(words.level(one.level)),
        )
        for one in changes
    ]
    columns = (Column("New"), Column(""), Column("Load", number=True))
    return panel("What changed", "new since it began", table("What changed", columns, rows))


def ruled_out_panel(ruled_out: Sequence[str]) -> Flattenable:
    """What it was not."""
    return panel("Ruled out", "", _said(ruled_out)) if ruled_out else ""


def _said(lines: Sequence[Flattenable]) -> Tag:
    return tags.ul([tags.li(line) for line in lines], class_="said")


def quality_panel(quality: Quality) -> Tag:
    """How far the data can be trusted."""
    lines: list[Flattenable] = [
        f"{words.count(quality.frames)} frames of it, {words.count(quality.baseline_frames)} of the time before."
        + (" With nothing before, only levels can be compared." if not quality.baseline_frames else "")
    ]
    if quality.lost_looks:
        lines.append(f"{words.count(quality.lost_looks)} seconds without a look at the processes.")
    if quality.silent:
        lines.append(f"Said nothing for a while: {words.cut(', '.join(quality.silent))}.")
    for host, ahead in sorted(quality.clock_skew_s.items()):
        lines.append(f"The clock of {host} is {abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}.")
    lines += [words.cut(note) for note in quality.notes]
    return panel("How good the data is", "", _said(lines))


def before_panel(seen: Sequence[Before]) -> Flattenable:
    """Earlier spikes of the same cause."""
    if not seen:
        return ""
    lines = [[tags.a(time(one.onset, "full"), href=spike_url(one.id)), " ", words.cut(one.verdict)] for one in seen]
    return panel("Seen before", "the same signature", _said(lines))
