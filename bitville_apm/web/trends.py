"""One value of a dimension over time: its load, how often it came, how long it took (VIZ-03). Data in, elements out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.store.interface import Point, TopRow
from bitville_apm.web import charts, words
from bitville_apm.web.charts import Line, Time
from bitville_apm.web.dimensions import DIMENSIONS, singular
from bitville_apm.web.elements import Frame, fact, folded, ranges, time
from bitville_apm.web.ranges import Range
from bitville_apm.web.tops import LOAD_HINT, SAMPLED, load_ms


@attrs.frozen
class Trend:
    """The rolls of one value, a point a minute or an hour; those in which it did nothing are left out.

    `known_s`: how many seconds of the range are known, over which means are taken.
    """

    dimension: str
    value: str
    range: Range
    points: Sequence[Point]
    known_s: float

    def json(self) -> dict[str, Any]:
        """As `/api/series` has it."""
        items = [{"at": point.at, **msgspec.structs.asdict(point.row)} for point in self.points]
        told = {"dimension": self.dimension, "name": self.value, "from": self.range.start, "to": self.range.end}
        return {**told, "step_s": self.range.step_s, "items": items}

    @property
    def time(self) -> Time:
        """The steps of its chart."""
        step = self.range.step_s
        return Time(self.range.start, step, max(1, round((self.range.end - self.range.start) / step)))

    def series(self, of: Callable[[TopRow], float | None], nothing: float | None) -> list[float | None]:
        """A number a step, `nothing` where there was nothing."""
        steps = self.time
        values = [nothing] * steps.steps
        for point in self.points:
            place = int((point.at - steps.start) // steps.step)
            if 0 <= place < len(values):
                values[place] = of(point.row)
        return values


def trend_body(trend: Trend, frame: Frame, now: float) -> Tag:
    """The page."""
    scope, dimension = frame.scope, trend.dimension
    links: list[Tag] = []
    if dimension in ("endpoint", "release"):
        links.append(tags.a("Its requests", href=scope.url("/", **{dimension: trend.value})))
    note: list[Flattenable] = [time(trend.range.start, "full"), " to ", time(trend.range.end, "full")]
    if trend.range.widened:
        note.append("; so long a time is kept by whole hours, so it was widened to them")
    if scope.host:
        note += [" on host ", tags.b(scope.host)]
    body: Flattenable = tags.div(tags.p("Nothing was counted of it in this time."), class_="empty")
    if trend.points:
        body = [tags.dl(_facts(trend), class_="facts"), charts.figure(trend.time, _plots(trend))]
    return tags.div(
        tags.p(tags.a(DIMENSIONS[dimension], href=scope.url("/top", dimension=dimension)), class_="crumb"),
        tags.div(tags.h1(singular(dimension), " over time"), ranges(frame, now), class_="head"),
        tags.section(
            tags.div(folded(trend.value), tags.span(links, class_="aside"), class_="line value"),
            tags.p(note, ".", class_="note"),
            body,
            class_="panel",
        )(**{"aria-label": "Over time"}),
        class_="page",
    )


def _facts(trend: Trend) -> list[Tag]:
    rows = [point.row for point in trend.points]
    seconds = trend.known_s
    load = sum(map(load_ms, rows)) / 1000
    facts = [tags.div(title=LOAD_HINT)(*fact("Load", words.level(load / seconds), "on average").children)]
    if trend.dimension in SAMPLED:
        waited = sum(row.waiting_s for row in rows)
        if waited:
            facts.append(fact("Waiting", words.level(waited / seconds), "at a time, on average"))
        return facts
    requests, wall = sum(row.requests for row in rows), sum(row.wall_ms for row in rows)
    facts += [
        fact("Requests", words.count(requests), f"{words.level(requests / seconds)} a second"),
        fact("Mean", words.milliseconds(wall / max(1, requests)), "a request"),
        fact("Longest", words.milliseconds(max(row.max_ms for row in rows))),
    ]
    errors = sum(row.errors for row in rows)
    return [*facts, fact("Errors", words.count(errors))] if errors else facts


def _plots(trend: Trend) -> list[tuple[str, Sequence[Line], int]]:
    step = trend.range.step_s
    load = trend.series(lambda row: load_ms(row) / 1000 / step, 0.0)
    upper = [Line("tasks", "Load", load, area=True)]
    if trend.dimension in SAMPLED:
        waiting = trend.series(lambda row: row.waiting_s / step, 0.0)
        if any(waiting):
            upper.append(Line("flight", "Waiting", waiting))
        return [("Load", upper, 190)]
    plots: list[tuple[str, Sequence[Line], int]] = [("Load", upper, 140)]
    took = [Line("mean", "Mean, ms", trend.series(lambda row: row.wall_ms / max(1, row.requests), None))]
    p95 = trend.series(lambda row: row.p95_ms, None)
    if any(value is not None for value in p95):
        took.append(Line("p95", "p95, ms", p95))
    plots.append(("How long it took, ms", took, 110))
    plots.append(
        ("Requests a second", [Line("flight", "Requests a second", trend.series(lambda r: r.requests / step, 0.0))], 96)
    )
    return plots
