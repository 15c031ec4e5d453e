"""Reports for pages of spikes: a full one, one in which nothing rose, markup in every text; and hosts' load."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import fields

from bitville_apm.analysis.report import (
    Before,
    Blocking,
    Cause,
    Change,
    Example,
    Factor,
    Flying,
    Part,
    Quality,
    Report,
    Split,
    Step,
    Victim,
    Waits,
)
from bitville_apm.store.interface import Load, Spike
from tests.web.made import NOW

PARTS = [
    "What caused it", "Victims", "Who ran", "Requests to look at", "In flight at the worst second",
    "Database sessions", "Locks", "What changed", "Ruled out", "How good the data is", "Seen before",
]  # fmt: skip
"""Headings of a page on which every part of a report has something to say."""


def quiet(onset: float) -> Report:
    """Nothing rose, and nothing that can be left out is there."""
    return Report(
        verdict="Nothing rose.", kind="none", provisional=False, coverage=0.0, unexplained=0.0, measure="tasks",
        onset=onset, peak=onset, end=onset + 600, level=1.0, baseline=1.1, causes=[],
        quality=Quality(frames=60, baseline_frames=0),
    )  # fmt: skip


def loads(start: float, seconds: int, step: int = 10, hosts: tuple[str, ...] = ("web1",)) -> list[Load]:
    """What hosts ran: quiet, with a hump in the middle."""
    found = []
    for host in hosts:
        for i, at in enumerate(range(int(start) // step * step, int(start) + seconds, step)):
            hump = max(0.0, 1 - abs(i - seconds / step / 2) / (seconds / step / 9))
            tasks = 1.0 + (i % 5) / 4 + 18 * hump
            found.append(
                Load(
                    at=at, host=host, cores=4, tasks=tasks, tasks_most=tasks + 2, blocked=tasks / 5, db=1 + 4 * hump,
                    db_most=2 + 4 * hump, in_flight=3 + 30 * hump, in_flight_most=4 + 30 * hump, load1=1 + 9 * hump,
                )
            )  # fmt: skip
    return found


def marked(kind: Any, text: str) -> Any:
    """A value of a type with `text` in every text it has; words of a fixed choice stay."""
    origin, inside = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{field.name: marked(hints[field.name], text) for field in fields(kind)})
    if kind is str:
        return text
    if kind is bytes:
        return text.encode()
    if kind in (int, float):
        return kind(3)
    if kind is bool:
        return True
    if origin is list:
        return [marked(inside[0], text)] * 2
    if origin is dict:
        return {marked(inside[0], text): marked(inside[1], text)}
    if inside and type(None) in inside:
        return marked(inside[0], text)
    return inside[0]


def full_report(**changes: Any) -> Report:
    """A report in which every part has something to say, with names that a page must escape."""
    made = Report(
        verdict="GET /search: 3 times the requests, on web1 and web2 <b>",
        kind="load",
        provisional=False,
        coverage=0.87,
        unexplained=0.13,
        measure="tasks",
        onset=NOW - 600,
        opened=NOW - 593,
        peak=NOW - 570,
        end=NOW - 420,
        level=31.4,
        baseline=2.1,
        causes=[
            Cause(
                dimension="endpoint", value="GET /search|`<i>", score=0.8, share=0.83, lift=4.2, confidence=0.97,
                level=25.0, baseline=1.5, mechanism="traffic", hosts=["web1", "web2"],
                factors={
                    "n": Factor(before=12, after=36, part=22.0), "q": Factor(before=4, after=4.2, part=1.0),
                    "c": Factor(before=0.03, after=0.031, part=0.5),
                },
                story=[
                    Step(dimension="client", value="203.0.113.0/24"),
                    Step(dimension="endpoint", value="GET /search|`<i>"),
                    Step(dimension="function", value="Shop\\Search::run"),
                ],
            ),
            Cause(
                dimension="process", value="backup", score=0.12, share=0.12, lift=None, confidence=0.8, level=3.5,
                baseline=0.0, mechanism="not php", hosts=["web1"],
            ),
        ],
        victims=[Victim(dimension="endpoint", value="GET /cart", requests=120, wall_ms_before=80.0, wall_ms=950.0)],
        split=[
            Split(
                host="web1", running=24.0, blocked=3.0, baseline_running=2.0, baseline_blocked=0.1, cores=4, load1=18.2,
                coverage=0.9, pressure={"cpu": 88.0, "io": 12.0},
                parts=[
                    Part(kind="php", name="php", running=20.0, blocked=0.5),
                    Part(kind="process", name="backup", running=1.0, blocked=2.5),
                    Part(kind="unknown", name="unknown", running=3.0, blocked=0.0),
                ],
            )
        ],
        waits=[Waits(wait="Lock:transactionid", level=6.0, baseline=0.1)],
        changes=[Change(dimension="release", value="2026-11-28", level=2.0)],
        ruled_out=["memory: nothing was swapped"],
        quality=Quality(
            frames=18, baseline_frames=360, lost_looks=4.0, silent=["web3"], clock_skew_s={"web2": -5.0},
            notes=["no look inside the database"],
        ),
        signature="c0ffee",
        examples=[
            Example(
                why="slowest", id="11111111-1111-4111-8111-111111111111", at=NOW - 570, host="web1",
                endpoint="GET /search|`<i>", method="GET", url="/search?q=<script>", status=200, duration_ms=9500.0,
            )
        ],
        in_flight=[
            Flying(
                id="11111111-1111-4111-8111-111111111111", endpoint="GET /search|`<i>", host="web1", age_ms=4200.0
            )
        ],
        locks=[
            Blocking(
                depth=0, session="shop@shop 4711", state="idle in transaction", statement="UPDATE stock", blocked=2
            ),
            Blocking(depth=1, session="shop@shop 4712", state="active", statement="SELECT 1", blocked=0),
        ],
        seen_before=[Before(id="5b0c", onset=NOW - 86_400, verdict="GET /search: the same yesterday")],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def kept_spike(id: str = "77777777-7777-4777-8777-777777777777", project: str = "shop", **changes: Any) -> Spike:
    """A spike as it is kept; `changes` are the report's."""
    report = full_report(**changes)
    return Spike(
        id=id, project=project, hosts=["web1", "web2"], opened=report.opened or report.onset, onset=report.onset,
        peak=report.peak, end=report.end, measure=report.measure, level=report.level, baseline=report.baseline,
        kind=report.kind, verdict=report.verdict, provisional=report.provisional, signature=report.signature,
        revision=3, report=msgspec.json.encode(report),
    )  # fmt: skip
