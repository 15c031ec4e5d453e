"""A report in words: what there is to say, part by part, as texts and tables without a format. Pure.

Markdown, terminal and mail say the same things from here. The order is that of a person who was woken up: what it was,
how sure that is, who did it, who suffered, what to look at, and how far the data can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

from msgspec import Struct

from bitville_apm.analysis.report import Cause, Factor, Report, Split

MEASURES = {
    "tasks": "running and blocked tasks",
    "db": "active database sessions",
    "in_flight": "requests in flight",
}
"""What a report's `measure` counts."""
FACTORS = {"n": "requests a second", "q": "executions a request", "c": "seconds an execution"}
EXAMPLES = {"slowest": "slowest", "median": "typical", "died": "died"}
NOTHING = "\u2013"
_UNSHOWN = dict.fromkeys((*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A)), " ")
"""Line ends, control characters, and those by which a text could show itself in another order than it has."""


class Text(Struct, frozen=True):
    """Some words; `code`: they are a name out of a record, to be shown as it is."""

    text: str
    code: bool = False


Line = Sequence[Text]


class Table(Struct, frozen=True):
    """Rows under a head; the cells of columns in `numbers` are aligned right."""

    head: tuple[str, ...]
    rows: Sequence[tuple[Text, ...]]
    numbers: frozenset[int] = frozenset()


class Part(Struct, frozen=True):
    """A heading, lines, and perhaps a table below them."""

    title: str
    lines: Sequence[Line] = ()
    table: Table | None = None


def parts(report: Report) -> list[Part]:
    """Everything a report says, but its verdict. Parts that have nothing to say are left out."""
    made = [
        Part("What happened", list(_facts(report))),
        *_causes(report.causes),
        _split(report),
        _victims(report),
        _examples(report),
        _in_flight(report),
        _waits(report),
        _locks(report),
        _changes(report),
        Part("Ruled out", [[Text(shown(line))] for line in report.ruled_out]),
        Part("How good the data is", list(_quality(report))),
        _before(report),
    ]
    return [part for part in made if part is not None and (part.lines or (part.table and part.table.rows))]


def _facts(report: Report) -> Iterator[Line]:
    measure = MEASURES[report.measure]
    yield [
        Text(f"{measure[0].upper()}{measure[1:]}: {load(report.level)} at the worst, {load(report.baseline)} before")
    ]
    end = "it is not over" if report.end is None else f"over {clock(report.end)} ({lasted(report.end - report.onset)})"
    found = "" if report.opened is None else f", found {lasted(max(0.0, report.opened - report.onset))} later"
    yield [Text(f"Began {moment(report.onset)}{found}; worst {clock(report.peak)}; {end}")]
    if report.kind != "none":
        state = "; provisional, what long requests did is still coming in" if report.provisional else ""
        yield [Text(f"Explained {percent(report.coverage)}, unexplained {percent(report.unexplained)}{state}")]
    elif report.provisional:
        yield [Text("Provisional: what long requests did is still coming in")]


def _causes(causes: Sequence[Cause]) -> Iterator[Part]:
    for rank, cause in enumerate(causes, 1):
        lines: list[Line] = [
            [Text(f"{cause.dimension} "), Text(shown(cause.value), code=True)],
            [
                Text(
                    f"{load(cause.baseline)} → {load(cause.level)} load units, {percent(cause.share)} of the rise; "
                    f"{_lift(cause.lift)}; confidence {percent(cause.confidence)}"
                )
            ],
        ]
        if cause.story and (len(cause.story) > 1 or cause.story[0].value != cause.value):
            chain: list[Text] = []
            for step in cause.story:
                chain += [Text(f"{' → ' if chain else ''}{step.dimension} "), Text(shown(step.value), code=True)]
            lines.append(chain)
        lines += [[Text(factor(name, held))] for name, held in cause.factors.items()]
        if cause.hosts:
            lines.append([Text("on "), *_listed(cause.hosts)])
        yield Part(f"Cause {rank}: {cause.mechanism}" if len(causes) > 1 else f"Cause: {cause.mechanism}", lines)


def factor(name: str, held: Factor) -> str:
    """One factor of a level: `requests a second 12 → 36 (+8.2 load units)`."""
    return f"{FACTORS.get(name, name)} {figure(held.before)} → {figure(held.after)} ({held.part:+.2f} load units)"


def _lift(lift: float | None) -> str:
    return "it was not there before" if lift is None else f"{figure(lift)} times its share before"


def _split(report: Report) -> Part:
    head = ("Host", "Running", "Blocked", "Before", "Cores", "Load average", "Explained", "Who ran", "Pressure")
    rows = [
        (
            Text(shown(split.host), code=True),
            Text(load(split.running)),
            Text(load(split.blocked)),
            Text(load(split.baseline_running + split.baseline_blocked)),
            Text(NOTHING if split.cores is None else str(split.cores)),
            Text(NOTHING if split.load1 is None else load(split.load1)),
            Text(percent(split.coverage)),
            Text(who_ran(split)),
            Text(_pressure(split.pressure)),
        )
        for split in report.split
    ]
    return Part("Load by host", table=Table(head, rows, frozenset(range(1, 7))))


def who_ran(split: Split, most: int = 5) -> str:
    """The parts of one host's load, the largest first."""
    ranked = sorted(split.parts, key=lambda part: (-(part.running + part.blocked), part.name))
    told = [f"{shown(part.name or part.kind)} {load(part.running + part.blocked)}" for part in ranked[:most]]
    if len(ranked) > most:
        rest = sum(part.running + part.blocked for part in ranked[most:])
        told.append(f"{len(ranked) - most} more {load(rest)}")
    return ", ".join(told)


def _pressure(pressure: Mapping[str, float]) -> str:
    return ", ".join(f"{shown(name)} {value:.0f} %" for name, value in sorted(pressure.items()) if value >= 0.5)


def _victims(report: Report) -> Part:
    rows = [
        (
            Text(shown(f"{victim.dimension} {victim.value}"), code=True),
            Text(f"{victim.requests:,}"),
            Text(NOTHING if victim.wall_ms_before is None else duration(victim.wall_ms_before)),
            Text(duration(victim.wall_ms)),
        )
        for victim in report.victims
    ]
    return Part(
        "Victims: slower, but not the cause", table=Table(("Who", "Requests", "Before", "During"), rows, _NUMBERS)
    )


_NUMBERS = frozenset({1, 2, 3})


def _examples(report: Report) -> Part:
    rows = [
        (
            Text(EXAMPLES[one.why]),
            Text(clock(one.at)),
            Text(duration(one.duration_ms)),
            Text(NOTHING if one.status is None else str(one.status)),
            Text(shown(f"{one.method} {one.url}"), code=True),
            Text(shown(one.host), code=True),
            Text(one.id, code=True),
        )
        for one in report.examples
    ]
    head = ("Which", "Began", "Took", "Status", "Request", "Host", "Id")
    return Part("Requests to look at", table=Table(head, rows, frozenset({2, 3})))


def _in_flight(report: Report) -> Part:
    rows = [
        (Text(duration(one.age_ms)), Text(shown(one.endpoint), code=True), Text(shown(one.host), code=True),
         Text(one.id, code=True))
        for one in report.in_flight
    ]  # fmt: skip
    title = f"In flight at the worst second, {clock(report.peak)}"
    return Part(title, table=Table(("Running for", "Endpoint", "Host", "Id"), rows, frozenset({0})))


def _waits(report: Report) -> Part:
    rows = [(Text(shown(one.wait), code=True), Text(load(one.level)), Text(load(one.baseline))) for one in report.waits]
    head = ("Database sessions", "During", "Before")
    return Part("What database sessions did", table=Table(head, rows, frozenset({1, 2})))


def _locks(report: Report) -> Part:
    lines: list[Line] = []
    for one in report.locks:
        behind = f", {one.blocked} behind it" if one.blocked else ""
        lines.append(
            [
                Text("  " * one.depth + ("└ " if one.depth else "")),
                Text(shown(one.session), code=True),
                Text(f" {shown(one.state)}{behind}: "),
                Text(shown(one.statement), code=True),
            ]
        )
    return Part("Who waited for whose lock", lines)


def _changes(report: Report) -> Part:
    lines: list[Line] = [
        [Text(f"new {one.dimension} "), Text(shown(one.value), code=True), Text(f", {load(one.level)} load units")]
        for one in report.changes
    ]
    return Part("What changed", lines)


def _quality(report: Report) -> Iterator[Line]:
    quality = report.quality
    yield [Text(f"{quality.frames} frames of the spike, {quality.baseline_frames} before it")]
    if quality.lost_looks:
        yield [Text(f"{figure(quality.lost_looks)} seconds without a look")]
    if quality.silent:
        yield [Text("said nothing for a while: "), *_listed(quality.silent)]
    for host, ahead in sorted(quality.clock_skew_s.items()):
        yield [Text("the clock of "), Text(shown(host), code=True), Text(f" is {_ahead(ahead)}")]
    yield from ([Text(shown(note))] for note in quality.notes)


def _ahead(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _before(report: Report) -> Part:
    lines: list[Line] = [
        [Text(f"{moment(one.onset)}: {shown(one.verdict)} ("), Text(one.id, code=True), Text(")")]
        for one in report.seen_before
    ]
    return Part("Seen before", lines)


def _listed(names: Sequence[str]) -> list[Text]:
    told: list[Text] = []
    for name in names:
        told += [Text(", ")] if told else []
        told.append(Text(shown(name), code=True))
    return told


# --- Figures ----------------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """Text from a record on one line, without what a terminal would obey."""
    return text.translate(_UNSHOWN)


def load(value: float) -> str:
    """Load units: 0.04, 1.25, 31.4, 187."""
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def figure(value: float) -> str:
    """Any number, three figures."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"


def percent(share: float) -> str:
    """A share: 42 %, < 1 %."""
    return "< 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def duration(ms: float) -> str:
    """Milliseconds: 412 ms, 4.21 s, 3 m 12 s."""
    return f"{figure(ms)} ms" if ms < 999.5 else f"{figure(ms / 1000)} s" if ms < 59_950 else lasted(ms / 1000)


def lasted(seconds: float) -> str:
    """Seconds: 7 s, 2 m 45 s, 1 h 05 m."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} m {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} m"


def clock(at: float) -> str:
    """The time of day, UTC."""
    return f"{_utc(at):%H:%M:%S}"


def moment(at: float) -> str:
    """Day and time, UTC."""
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), 253402300799.0), timezone.utc)
