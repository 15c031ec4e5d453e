"""What hosts ran over time: the chart at the head of the first page and around a spike. Data in, elements out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
from twisted.web.template import Flattenable, Tag, tags

from bitville_apm import limits
from bitville_apm.store.interface import Load, Spike
from bitville_apm.web import charts, words
from bitville_apm.web.charts import Line, Mark, Time
from bitville_apm.web.elements import Column, number, table
from bitville_apm.web.scope import Scope, spike_url

_STEPS = (1, 10, 60, 300, 1800, 3600)


def step_of(seconds: float) -> int:
    """The shortest step that makes no more points than a chart has room for."""
    return next((step for step in _STEPS if seconds / step <= limits.CHART_POINTS), _STEPS[-1])


@attrs.frozen
class Loads:
    """What some hosts ran, step by step."""

    time: Time
    rows: Sequence[Load]

    @classmethod
    def of(cls, rows: Sequence[Load], start: float, end: float, step: int) -> Loads:
        """The answer of `IStore.load` between two times."""
        first, behind = math.floor(start / step) * step, math.ceil(end / step) * step
        return cls(Time(first, step, max(1, (behind - first) // step)), rows)

    @property
    def hosts(self) -> list[str]:
        """Those that told anything, the one with the highest load first."""
        most: dict[str, float] = {}
        for row in self.rows:
            most[row.host] = max(most.get(row.host, 0.0), row.tasks_most or 0.0)
        return sorted(most, key=lambda host: (-most[host], host))

    @property
    def cores(self) -> int | None:
        """Of all of them together; None where one does not tell."""
        by_host = {row.host: row.cores for row in self.rows}
        return None if not by_host or None in by_host.values() else sum(cores or 0 for cores in by_host.values())

    def series(self, of: Callable[[Load], float | None], host: str | None = None) -> list[float | None]:
        """One of their numbers, added up over hosts, a value a step."""
        values: list[float | None] = [None] * self.time.steps
        for row in self.rows:
            place = int((row.at - self.time.start) // self.time.step)
            value = of(row)
            if value is not None and 0 <= place < len(values) and host in (None, row.host):
                values[place] = (values[place] or 0.0) + value
        return values

    def json(self) -> dict[str, Any]:
        """For programs: the rows as the store told them."""
        items = [msgspec.structs.asdict(row) for row in self.rows]
        return {"from": self.time.start, "to": self.time.end, "step_s": self.time.step, "items": items}


def figure(loads: Loads, marks: Sequence[Mark], go: Flattenable = "") -> Tag:
    """The chart: tasks with their blocked part and the load average above, requests and sessions below."""
    load1 = loads.series(lambda load: load.load1)
    upper = [
        Line("tasks", "Running and blocked", loads.series(lambda load: load.tasks), area=True),
    ]
    blocked = loads.series(lambda load: load.blocked)
    if any(value is not None for value in blocked):
        upper.append(Line("blocked", "Blocked", blocked, area=True))
    if any(value is not None for value in load1):
        upper.append(Line("load1", "Load average", load1))
    if loads.cores:
        upper.append(Line("cores", f"{loads.cores} cores", [float(loads.cores)] * loads.time.steps))
    lower = [Line("flight", "Requests in flight", loads.series(lambda load: load.in_flight))]
    db = loads.series(lambda load: load.db)
    if any(db):
        lower.append(Line("db", "Active database sessions", db))
    return charts.figure(
        loads.time,
        [("Tasks running and blocked", upper, 150), ("Requests in flight", lower, 96)],
        marks,
        go,
        least=1.0,
    )


def marks_of(spikes: Sequence[Spike], now: float) -> list[Mark]:
    """Spikes as stretches of a chart."""
    return [
        Mark(spike.onset, spike.end if spike.end is not None else now, spike.verdict, spike_url(spike.id))
        for spike in spikes
    ]


def hosts_table(loads: Loads, scope: Scope) -> Flattenable:
    """Each host by itself, where there are several: its load as a little chart, and how high it was."""
    hosts = loads.hosts
    if len(hosts) < 2:
        return ""
    shown = hosts[: limits.HOSTS_SHOWN]
    series = {host: loads.series(lambda load: load.tasks, host) for host in shown}
    top = max((value for values in series.values() for value in values if value is not None), default=1.0) or 1.0
    rows = []
    for host in shown:
        known = [value for value in series[host] if value is not None]
        most = max((row.tasks_most or 0.0 for row in loads.rows if row.host == host), default=0.0)
        cores = next((row.cores for row in loads.rows if row.host == host and row.cores), None)
        rows.append(
            tags.tr(
                tags.td(tags.a(host, href=attrs.evolve(scope, host=host).url("/")), class_="name"),
                tags.td(charts.spark(series[host], top, "tasks"), class_="sparks"),
                number(words.level(sum(known) / len(known)) if known else words.NOTHING),
                number(words.level(most)),
                number(words.count(cores)),
            )
        )
    columns = (
        Column("Host", beside=("sparks",)),
        Column("Mean", number=True, hint="Tasks running and blocked, on average"),
        Column("Most", number=True, hint="In its worst second"),
        Column("Cores", number=True),
    )
    more = f"{len(hosts) - len(shown)} more hosts were quieter." if len(hosts) > len(shown) else ""
    return [table("Hosts by load", columns, rows, "hosts"), tags.p(more, class_="note") if more else ""]


def zoom(scope: Scope, now: float, path: str = "/") -> Tag:
    """Earlier, later, wider: the chart's range without a mouse or a script."""
    start, end = scope.window(now)
    end = now if end is None else end
    start = end - 3600 if start is None else start
    width = end - start
    links = [tags.a("← Earlier", href=_moved(scope, start - width / 2, end - width / 2).url(path))]
    if end < now - 1:
        links.append(tags.a("Later →", href=_moved(scope, start + width / 2, min(now, end + width / 2)).url(path)))
    links.append(tags.a("Wider", href=_moved(scope, start - width / 2, min(now, end + width / 2)).url(path)))
    links.append(tags.a("Closer", href=_moved(scope, start + width / 4, end - width / 4).url(path)))
    return tags.div(links, class_="choice", role="group")(**{"aria-label": "Move in time"})


def _moved(scope: Scope, start: float, end: float) -> Scope:
    return attrs.evolve(scope, last=None, start=max(0.0, float(round(start))), end=max(1.0, float(round(end))))
