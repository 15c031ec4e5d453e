"""A report as a page: the verdict first, so that ten seconds at three in the morning are enough. Data in, elements
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.store.interface import Spike
from bitville_apm.web import evidence, loads, stories, words
from bitville_apm.web.charts import Mark
from bitville_apm.web.elements import fact, filled, time
from bitville_apm.web.forms import hosts_choice, local, projects_choice
from bitville_apm.web.loads import Loads
from bitville_apm.web.scope import Scope

MEASURES = {
    "tasks": ("Load", "tasks running or blocked at a time"),
    "db": ("Database sessions", "active at a time"),
    "in_flight": ("Requests in flight", "at a time"),
}
KINDS = {
    "load": ("Load", "hot", "The machine had more to do than before"),
    "waiting": ("Waiting, not load", "warn", "Requests piled up, but the machine had no more to do than before"),
    "none": ("Nothing rose", "mark", "No series rose above what is usual"),
}


@attrs.frozen
class Explained:
    """A report, and what is shown around it: the spike it belongs to (None: a window picked by hand), hosts' load."""

    report: Report
    scope: Scope
    spike: Spike | None = None
    loads: Loads | None = None

    @property
    def window(self) -> tuple[float, float]:
        """From when to when it was; what still lasts, to its worst second."""
        report = self.report
        return report.onset, max(report.onset + 1, report.peak + 1 if report.end is None else report.end)


def explain_form(scope: Scope, hosts: Sequence[str], projects: Sequence[str] = ()) -> Tag:
    """To pick a window by hand, with the one of the scope filled in, and its project out of several."""
    project: Flattenable = ""
    if len(projects) > 1:
        project = tags.label("Project", projects_choice(projects, scope.project))
    elif scope.project is not None:
        project = tags.input(type="hidden", name="project", value=scope.project)
    return filled(
        "explain",
        project=project,
        from_=local(scope.start),
        to=local(scope.end),
        hosts=hosts_choice(hosts, scope.host),
    )


def explain_body(scope: Scope, hosts: Sequence[str], projects: Sequence[str], problem: str | None) -> Tag:
    """The page on which a window is picked; `problem` says what was wrong with the last one."""
    note = (
        "What was different from the hour before: which endpoints, functions, statements, clients or processes rose, "
        "and which were only slower because of them."
    )
    return tags.div(
        tags.p(tags.a("Spikes", href=Scope(project=scope.project).url("/spikes")), class_="crumb"),
        tags.div(tags.h1("Explain any time"), class_="head"),
        tags.div(tags.strong("This cannot be explained"), tags.p(problem), class_="alarm", role="alert")
        if problem
        else "",
        tags.section(
            explain_form(scope, hosts, projects),
            tags.p(note, class_="note"),
            class_="panel",
        )(**{"aria-label": "A window of time"}),
        class_="page",
    )


def around(start: float, end: float) -> tuple[float, float]:
    """What is shown of the time before and after."""
    return start - limits.AROUND_SPIKE_S, end + limits.AROUND_SPIKE_S / 2


def explained_body(shown: Explained) -> Tag:
    """The page."""
    report = shown.report
    start, end = shown.window
    scope = Scope(project=shown.scope.project, host=shown.scope.host, last=None, start=start, end=end)
    everywhere = attrs.evolve(scope, host=None)
    return tags.div(
        tags.p(tags.a("Spikes", href=Scope(project=shown.scope.project).url("/spikes")), class_="crumb"),
        _verdict(shown),
        _chart(shown, scope),
        stories.causes_panel(report, everywhere),
        stories.victims_panel(report.victims, everywhere),
        evidence.split_panel(report, everywhere),
        evidence.examples_panel(report.examples),
        evidence.flying_panel(report.in_flight, report.peak),
        _beside(evidence.waits_panel(report.waits), evidence.locks_panel(report.locks)),
        _beside(evidence.changes_panel(report.changes, everywhere), evidence.ruled_out_panel(report.ruled_out)),
        _beside(evidence.quality_panel(report.quality), evidence.before_panel(report.seen_before)),
        class_="page report",
    )


def _beside(*panels: Flattenable) -> Flattenable:
    there = [panel for panel in panels if panel]
    return tags.div(there, class_="beside") if len(there) > 1 else there


def _verdict(shown: Explained) -> Tag:
    report = shown.report
    label, kind, hint = KINDS[report.kind]
    pills: list[Flattenable] = [tags.span(label, class_=f"pill {kind}", title=hint)]
    if report.end is None:
        pills.append(tags.span("still going on", class_="pill bad"))
    if report.provisional:
        pills.append(tags.span("provisional", class_="pill mark", title="It is made anew when late records have come"))
    what = f"Spike on {', '.join(shown.spike.hosts)}" if shown.spike is not None else "Explained by hand"
    late = (
        tags.p(
            "Provisional: requests that ran long tell of their functions when they end. This page is made anew then.",
            class_="provisional",
        )
        if report.provisional
        else ""
    )
    return tags.section(
        tags.p([[pill, " "] for pill in pills], tags.span(words.cut(what, 200), class_="what"), class_="over"),
        tags.h1(words.cut(report.verdict), class_="sentence"),
        late,
        stories.rise_bar(report),
        tags.dl(_facts(shown), class_="facts"),
        _links(shown),
        class_="panel verdict",
    )(**{"aria-label": "Verdict"})


def _facts(shown: Explained) -> list[Tag]:
    report = shown.report
    name, hint = MEASURES[report.measure]
    if report.end is None:
        ended: Flattenable = "not yet"
        lasted = ""
    else:
        ended, lasted = time(report.end, "time"), f"lasted {_seconds(report.end - report.onset)}"
    if shown.spike is None and report.kind == "none":
        facts = [fact("From", time(report.onset, "full")), fact("To", ended, lasted)]
    else:
        facts = [
            fact("Began", time(report.onset, "full")),
            fact("Worst", time(report.peak, "time"), f"after {_seconds(report.peak - report.onset)}"),
            fact("Ended", ended, lasted),
        ]
    if report.opened is not None:
        facts.append(fact("Detected", time(report.opened, "time"), f"after {_seconds(report.opened - report.onset)}"))
    more = f"{words.times(report.level / report.baseline)} the usual" if report.baseline > 0 else "none before"
    facts += [
        tags.div(title=hint)(*fact(f"{name}, worst", words.level(report.level), more).children),
        fact("Before", words.level(report.baseline)),
    ]
    if report.kind != "none":
        facts.append(fact("Explained", words.share(report.coverage, 1)))
    if shown.spike is not None and shown.spike.project:
        facts.append(fact("Project", words.cut(shown.spike.project, 60)))
    return facts


def _seconds(value: float) -> str:
    """A stretch of time whose parts of a second nobody knows."""
    return f"{max(0.0, value):.0f}\u202fs" if value < 59.5 else words.milliseconds(round(value) * 1000)


def _links(shown: Explained) -> Tag:
    start, end = shown.window
    scope = attrs.evolve(shown.scope, last=None, start=start, end=end)
    links: list[Tag] = [
        tags.a("Requests of this time", href=scope.url("/")),
        tags.a("Endpoints", href=scope.url("/top", dimension="endpoint")),
        tags.a("Statements", href=scope.url("/top", dimension="statement")),
        tags.a("Processes", href=scope.url("/top", dimension="process")),
    ]
    return tags.p([[link, " "] for link in links], class_="links")


def _chart(shown: Explained, scope: Scope) -> Flattenable:
    if shown.loads is None or not shown.loads.rows:
        return ""
    report = shown.report
    start, end = shown.window
    label = "The spike" if shown.spike is not None else "What is explained"
    marks = [Mark(start, shown.loads.time.end if report.end is None else end, label)]
    go = [
        tags.a("Explain it by itself", href=scope.url("/explain"), class_="go", hidden="hidden"),
        tags.details(
            tags.summary("Explain another time"),
            tags.p("Mark a part of the chart, or choose:", class_="note"),
            explain_form(scope, shown.loads.hosts),
            class_="choose",
        ),
    ]
    return tags.section(loads.figure(shown.loads, marks, go), class_="panel")(**{"aria-label": "Load around it"})
