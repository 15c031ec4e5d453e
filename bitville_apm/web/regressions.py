"""The page of slow drifts: what costs more than it did, before and now, since when. Data in, elements out."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.store.interface import Drifts
from bitville_apm.web import words
from bitville_apm.web.dimensions import singular
from bitville_apm.web.drifted import DAYS_WANTED, Drifted
from bitville_apm.web.elements import Column, number, panel, table, time
from bitville_apm.web.scope import Scope
from bitville_apm.web.tops import trend_link

_DAY_S = 86_400.0
_MEASURES = {"cpu": "on a CPU", "wall": "in all"}


@attrs.frozen
class Regressed:
    """What the page shows. `projects`: those its reader may see, and that sent anything."""

    drifted: Drifted
    scope: Scope
    projects: Sequence[str]


def regressions_link(scope: Scope) -> Tag:
    """To this page, from others."""
    return tags.a("slow drifts", href=Scope(project=scope.project).url("/regressions"))


def regressions_body(shown: Regressed) -> Tag:
    """The page."""
    drifted = shown.drifted
    body: list[Flattenable] = [
        tags.p(
            "What costs more a call than it did, without any spike: each night the day before is compared with up to "
            f"{limits.DRIFT_WINDOW_DAYS - 1} days before it.",
            class_="note",
        )
    ]
    if drifted.items:
        body.append(_table(shown))
    else:
        body.append(tags.div([tags.p(line) for line in _why_empty(shown)], class_="empty"))
    if drifted.items and (waiting := _waiting(shown)):
        body.append(tags.p("; ".join(waiting), ".", class_="note"))
    if drifted.more:
        body.append(tags.p(f"{words.count(drifted.more)} more are not shown.", class_="note"))
    return tags.div(
        tags.p(tags.a("Spikes", href=Scope(project=shown.scope.project).url("/spikes")), class_="crumb"),
        tags.div(tags.h1("Slow drifts"), class_="head"),
        panel("Dearer than before", _compared(drifted.nights), body),
        class_="page",
    )


def _table(shown: Regressed) -> Tag:
    several = shown.scope.project is None and len(shown.projects) > 1
    columns = [
        Column("What"),
        Column("Kind"),
        Column("Before", number=True, hint="Median of its days before"),
        Column("Now", number=True, hint="Median of its days since"),
        Column("Times", number=True),
        Column("Each", hint="On a CPU, or in all with waiting, for each request or execution"),
        Column("Since", hint="The first day (UTC) that was dearer"),
        Column("Adds a day", number=True, hint="What the newest day cost more than it would have before"),
        Column("Share", number=True, hint="Its part of the load of all of its kind on the newest day"),
    ]
    if several:
        columns.append(Column("Project"))
    ends = {night.project: night.day + _DAY_S for night in shown.drifted.nights}
    rows = [_row(project, one, ends[project], several) for project, one in shown.drifted.items]
    return table("Slow drifts", columns, rows, "drifts")


def _row(project: str, one: Regression, end: float, several: bool) -> Tag:
    around = Scope(project=project, last=None, start=max(0.0, one.since - 7 * _DAY_S), end=end)
    row = tags.tr(
        tags.td(trend_link(one.dimension, one.value, around), class_="name"),
        tags.td(singular(one.dimension)),
        number(_cost(one.before_ms)),
        tags.td(_cost(one.now_ms), class_="num strong"),
        number(words.times(one.factor), title=f"Confidence {words.share(one.confidence, 1.0)}"),
        tags.td(f"{one.per}, {_MEASURES.get(one.measure, one.measure)}"),
        tags.td(_date(one.since), class_="when"),
        number(words.milliseconds(1000 * one.lost_s)),
        number(words.share(one.share, 1.0)),
    )
    return row(tags.td(words.cut(project, 80))) if several else row


def _compared(nights: Sequence[Drifts]) -> Flattenable:
    """When that was."""
    if not nights:
        return ""
    newest = max(nights, key=lambda night: night.made)
    return ["Up to ", _date(newest.day), ", compared ", time(newest.made, "full")]


def _waiting(shown: Regressed) -> list[str]:
    """Of which projects there are too few days, and of how many."""
    days = {night.project: night.days for night in shown.drifted.nights}
    wanted = [shown.scope.project] if shown.scope.project is not None else sorted({*shown.projects, *days})
    few = [(name, days.get(name, 0)) for name in wanted if days.get(name, 0) < DAYS_WANTED]
    alone = len(wanted) == 1
    return [
        f"{'' if alone else words.cut(name, 80) + ': '}not enough days yet: {n} of {DAYS_WANTED}" for name, n in few
    ]


def _why_empty(shown: Regressed) -> list[str]:
    waiting = _waiting(shown)
    lines = [f"{line[:1].upper() if len(waiting) == 1 else line[:1]}{line[1:]}." for line in waiting]
    if not waiting:
        lines.append("Nothing got dearer that still is.")
    lines.append(
        f"Told is what costs at least {words.level(limits.DRIFT_FACTOR)} times as much a request or execution, beyond "
        f"what its days differ by; of days with {limits.DRIFT_REQUESTS} calls or more."
    )
    return lines


def _cost(ms: float) -> str:
    """A duration that may be microseconds."""
    return words.milliseconds(ms) if ms >= 0.1 else f"{words.level(1000 * ms)}\u202fµs"


def _date(at: float) -> str:
    return words.iso(at)[:10]
