"""Lines and areas over time, as SVG that needs no script. Where there is one, uPlot draws the same data instead.

Geometry is in attributes and colours in the style sheet, because the policy allows no `style` in a page. The plot
stretches with the window; labels do not, since they stand outside of it at shares of the width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import attrs
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm.web import words

_TICKS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800)
_TICKS = 8
_LABELS_PX = 18
_HEAD_PX = 14
_HIGH = 1000


@attrs.frozen
class Line:
    """One series: a number a step, None where nothing is known. `kind` is what the style sheet colours it by."""

    kind: str
    label: str
    values: Sequence[float | None]
    area: bool = False


@attrs.frozen
class Mark:
    """A stretch of time that is shaded; with an address it leads there."""

    start: float
    end: float
    label: str
    href: str | None = None


@attrs.frozen
class Time:
    """The steps of a chart: the first begins at `start`, unix seconds, each is `step` seconds long."""

    start: float
    step: int
    steps: int

    @property
    def end(self) -> float:
        """The end of the last step."""
        return self.start + self.step * self.steps

    def share(self, at: float) -> float:
        """Where a moment is, percent of the width."""
        return min(100.0, max(0.0, 100 * (at - self.start) / (self.end - self.start)))

    def ticks(self) -> list[int]:
        """Round moments to be named, few enough not to touch each other."""
        every = next((s for s in _TICKS_S if (self.end - self.start) / s <= _TICKS), _TICKS_S[-1])
        first = math.ceil(self.start / every) * every
        return list(range(first, math.ceil(self.end), every))

    def label(self, at: int) -> str:
        """A tick's name: the time of day, or the day where midnight is."""
        text = words.iso(at)
        return text[5:10] if at % 86_400 == 0 else text[11:16] if at % 60 == 0 else text[11:19]


def ceiling(lines: Sequence[Line], least: float) -> float:
    """A round number above everything, and not below `least`."""
    most = max([least, *(value for line in lines for value in line.values if value is not None)])
    if not 0 < most < math.inf:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(most))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= most)


def chart(
    title: str,
    time: Time,
    lines: Sequence[Line],
    marks: Sequence[Mark],
    height: int,
    least: float,
    labels: bool,
) -> Tag:
    """One plot with its scale at the left and, where `labels`, its times below."""
    top = ceiling(lines, least)
    plot = height - _HEAD_PX - (_LABELS_PX if labels else 4)
    parts: list[Tag] = []
    for mark in marks:
        parts.append(_mark(mark, time, height))
    for part in (1.0, 0.5, 0.0):
        y = _HEAD_PX + plot * (1 - part)
        parts.append(Tag("rect")(width="100%", height="1", y=f"{y:.1f}", class_="grid"))
    inside = [Tag("path")(d=path(line.values, top, line.area), class_=f"{_shape(line)} {line.kind}") for line in lines]
    parts.append(
        Tag("svg")(inside, y=str(_HEAD_PX), width="100%", height=str(plot), preserveAspectRatio="none")(
            viewBox=f"0 0 {time.steps} {_HIGH}"
        )
    )
    for part in (1.0, 0.5):
        y = _HEAD_PX + plot * (1 - part) - 3
        parts.append(Tag("text")(f"{top * part:,.6g}", y=f"{y:.1f}", class_="scale"))
    if labels:
        for at in time.ticks():
            share = time.share(at)
            if 2 < share < 98:
                parts.append(Tag("text")(time.label(at), x=f"{share:.2f}%", y=str(height - 4), class_="tick"))
    return Tag("svg")(parts, class_="plot", height=str(height), role="img")(**{"aria-label": title})


def _shape(line: Line) -> str:
    return "area" if line.area else "stroke"


def _mark(mark: Mark, time: Time, height: int) -> Tag:
    start, end = time.share(mark.start), time.share(mark.end)
    rect = Tag("rect")(Tag("title")(mark.label), x=f"{start:.2f}%", width=f"{max(0.4, end - start):.2f}%")(
        height=str(height), class_="mark", **{"data-from": f"{mark.start:.0f}", "data-to": f"{mark.end:.0f}"}
    )
    return rect if mark.href is None else Tag("a")(rect, href=mark.href, tabindex="-1")


def path(values: Sequence[float | None], top: float, area: bool) -> str:
    """A series as the data of a path, each value in the middle of its step; gaps stay gaps."""
    said: list[str] = []
    run: list[tuple[float, float]] = []
    for i, value in enumerate([*values, None]):
        if value is not None:
            run.append((i + 0.5, _HIGH * (1 - min(1.0, max(0.0, value / top)))))
        elif run:
            said.append(_run(run, area))
            run = []
    return "".join(said)


def _run(run: Sequence[tuple[float, float]], area: bool) -> str:
    if len(run) == 1:  # a lone step is as wide as it was
        (x, y), *_ = run
        run = [(x - 0.5, y), (x + 0.5, y)]
    points = "L".join(f"{x:g} {y:.0f}" for x, y in run)
    return f"M{run[0][0]:g} {_HIGH}L{points}L{run[-1][0]:g} {_HIGH}Z" if area else f"M{points}"


def legend(lines: Sequence[Line]) -> Tag:
    """What is what."""
    return tags.ul([tags.li(swatch(line.kind), line.label) for line in lines], class_="legend")


def swatch(kind: str) -> Tag:
    """A little square of a colour."""
    square = Tag("rect")(width="100%", height="100%", class_=f"area {kind}")
    return Tag("svg")(square, class_="swatch")(**{"aria-hidden": "true", "focusable": "false"})


def spark(values: Sequence[float | None], top: float, kind: str) -> Tag:
    """A line as small as a word."""
    inside = Tag("path")(d=path(values, top, True), class_=f"area {kind}")
    return Tag("svg")(inside, class_="spark", preserveAspectRatio="none", viewBox=f"0 0 {max(1, len(values))} {_HIGH}")(
        **{"aria-hidden": "true", "focusable": "false"}
    )


def figure(
    time: Time,
    plots: Sequence[tuple[str, Sequence[Line], int]],
    marks: Sequence[Mark] = (),
    go: Flattenable = "",
    least: float = 0.0,
) -> Tag:
    """Plots (title, lines, pixels) below each other over the same time, and their data for uPlot.

    `least`: no scale ends below it, so that what is next to nothing looks like that. `go` is a link whose address gets
    `from` and `to` of a stretch that a reader marks; without one that of the page.
    """
    data = {
        "start": time.start,
        "step": time.step,
        "least": least,
        "plots": [
            {
                "height": height,
                "lines": [
                    [line.kind, line.label, int(line.area), [_short(value) for value in line.values]] for line in lines
                ],
            }
            for _, lines, height in plots
        ],
    }
    drawn = [
        [
            legend(lines),
            chart(title, time, lines, marks, height, least, labels=number == len(plots) - 1),
        ]
        for number, (title, lines, height) in enumerate(plots)
    ]
    return tags.figure(drawn, go, class_="chart")(**{"data-chart": json.dumps(data, separators=(",", ":"))})


def _short(value: float | None) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    short = round(value, 2)
    return int(short) if short == int(short) else short
