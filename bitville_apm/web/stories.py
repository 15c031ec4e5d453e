"""Who did it and who suffered: the causes of a report as chains with their numbers, and its victims. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.analysis.report import Cause, Factor, Report, Step, Victim
from bitville_apm.web import words
from bitville_apm.web.charts import swatch
from bitville_apm.web.dimensions import singular
from bitville_apm.web.elements import Column, bar, fact, number, panel, stack, table
from bitville_apm.web.scope import Scope
from bitville_apm.web.tops import value_link

MECHANISMS = {
    "traffic": ("More requests", "It was asked for more often; each request cost what it did before"),
    "n+1": ("N+1", "Each request ran it many times more than before"),
    "regression": ("Costs more", "Each execution costs more than before"),
    "killer request": ("One request", "A single request did more than half of it"),
    "crawler": ("Crawler", "One client asked for many different things"),
    "stampede": ("Stampede", "The same work was done again by many at once, as when a cache runs empty"),
    "deploy": ("New release", "It began with a release that was not there before"),
    "not php": ("Not PHP", "A process, or a statement, that no request asked for"),
    "memory pressure": ("Memory pressure", "The machine was short of memory, so that everything got slower"),
    "lock": ("Lock", "Others waited for what it held"),
    "external": ("External call", "It waited for another machine"),
    "pool": ("Pool is full", "All children of the PHP pool were busy"),
    "unclear": ("Mechanism unclear", "None of number, executions and cost stands out"),
}
"""What made a cause one: a label, and what it means."""

LEVELS = {"load": "On CPU or blocked", "waiting": "In flight", "none": "Load"}
"""What a cause's level counts: what was consumed, not what was waited for; where all wait, who was there."""

FACTORS = {
    "n": ("Requests a second", "n: how often it was asked for"),
    "q": ("Executions a request", "q: how often each request ran it"),
    "c": ("Load an execution", "c: task-seconds that one execution takes"),
}


def causes_panel(report: Report, scope: Scope) -> Flattenable:
    """The ranked stories, with what each explains."""
    if not report.causes:
        return ""
    said = f"{words.share(report.coverage, 1)} of the rise explained"
    stories = [_story(rank, cause, report.kind, scope) for rank, cause in enumerate(report.causes, 1)]
    return panel("What caused it", said, tags.ol(stories, class_="stories"))


def rise_bar(report: Report) -> Flattenable:
    """Which part of the rise each cause explains, side by side, with what nothing explains."""
    if not report.causes:
        return ""
    parts = [(f"cause-{min(rank, 3)}", cause.share) for rank, cause in enumerate(report.causes, 1)]
    whole = max(1.0, sum(share for _, share in parts))
    names = [
        tags.li(swatch(kind), tags.span(words.cut(cause.value, 90), class_="cause"), " ", tags.b(words.share(share, 1)))
        for cause, (kind, share) in zip(report.causes, parts, strict=True)
    ]
    rest = 1 - sum(share for _, share in parts)
    if rest >= 0.005:
        names.append(tags.li(swatch("nobody"), "unexplained ", tags.b(words.share(rest, 1))))
    return tags.div(stack(parts, whole), tags.ul(names, class_="legend"), class_="rise")


def _story(rank: int, cause: Cause, kind: str, scope: Scope) -> Tag:
    label, meaning = MECHANISMS[cause.mechanism]
    new = cause.lift is None
    facts = [
        fact(LEVELS[kind], words.level(cause.level), f"before {words.level(cause.baseline)}"),
        fact("Explains", words.share(cause.share, 1), "of the rise"),
        fact(
            "Lift",
            "new" if new else words.times(cause.lift),
            "not there before" if new else "its share, against before",
        ),
        fact("Confidence", words.share(cause.confidence, 1)),
    ]
    if cause.hosts:
        facts.append(fact("Host" if len(cause.hosts) == 1 else "Hosts", words.cut(", ".join(cause.hosts), 80)))
    return tags.li(
        tags.div(str(rank), class_="rank", title=f"Score {words.level(cause.score)}"),
        tags.div(
            _chain(cause, scope),
            tags.p(tags.span(label, class_="pill hot"), " ", meaning, ".", class_="meaning"),
            tags.dl(facts, class_="facts small"),
            _factors(cause.factors),
        ),
        class_="story",
    )


def _chain(cause: Cause, scope: Scope) -> Tag:
    own = Step(dimension=cause.dimension, value=cause.value)
    steps = list(cause.story) or [own]
    if own not in steps:
        steps.append(own)
    items = [
        tags.li(
            tags.small(singular(step.dimension)),
            tags.span(value_link(step.dimension, step.value, scope)),
            class_="own" if step == own else "",
        )
        for step in steps
    ]
    return tags.ol(items, class_="chain")


def _factors(factors: dict[str, Factor]) -> Flattenable:
    """n · q · c: what each factor was, is, and adds to the load."""
    if not factors:
        return ""
    names = [name for name in FACTORS if name in factors] + [name for name in factors if name not in FACTORS]
    most = max(abs(factors[name].part) for name in names) or 1.0
    rows = []
    for name in names:
        factor = factors[name]
        label, hint = FACTORS.get(name, (words.cut(name), ""))
        if name == "c" and "q" not in factors:
            label = "Load a request"
        more = words.times(factor.after / factor.before) if factor.before > 0 else "new"
        hot = factor.part >= most / 2
        rows.append(
            tags.tr(
                tags.th(label, scope="row", title=hint),
                number(_figure(name, factor.before)),
                number(_figure(name, factor.after)),
                number(more),
                tags.td(words.change(factor.part), class_="num strong" if hot else "num"),
                tags.td(bar(max(0.0, factor.part), most, "hot" if hot else ""), class_="bars"),
            )
        )
    columns = (
        Column(""),
        Column("Before", number=True),
        Column("During", number=True),
        Column("", number=True),
        Column(
            "Adds",
            number=True,
            hint="Load units that its change contributed; together they are the rise",
            beside=("bars",),
        ),
    )
    return table("What the load is made of", columns, rows, "factors")


def _figure(name: str, value: float) -> str:
    return words.milliseconds(value * 1000) if name == "c" else words.level(value)


def victims_panel(victims: Sequence[Victim], scope: Scope) -> Flattenable:
    """Who was slower without having done anything."""
    if not victims:
        return ""
    longest = max(victim.wall_ms for victim in victims)
    rows = [
        tags.tr(
            tags.td(value_link(victim.dimension, victim.value, scope), class_="name"),
            tags.td(singular(victim.dimension), class_="faint"),
            number(words.milliseconds(victim.wall_ms_before)),
            tags.td(words.milliseconds(victim.wall_ms), class_="num strong"),
            tags.td(bar(victim.wall_ms, longest, "rest"), class_="bars"),
            number(words.times(victim.wall_ms / victim.wall_ms_before) if victim.wall_ms_before else words.NOTHING),
            number(words.count(victim.requests)),
        )
        for victim in victims
    ]
    columns = (
        Column("Who"),
        Column(""),
        Column("Before", number=True, hint="A request, on average"),
        Column("During", number=True, hint="A request, on average", beside=("bars",)),
        Column("", number=True),
        Column("Requests", number=True),
    )
    return panel("Victims", "slower, but not the cause", table("Victims", columns, rows))
