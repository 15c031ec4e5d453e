"""Reports as an explanation makes them, with everything a page can show; and one with markup in every text."""

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
from tests.web.world import NOW

ONSET = NOW - 600.0
SPIKE_ID = "5ca1ab1e-0000-4000-8000-00000000c0de"
EARLIER_ID = "5ca1ab1e-0000-4000-8000-00000000beef"
REQUEST_ID = "11111111-1111-4111-8111-111111111111"

CRAWLED = Cause(
    dimension="endpoint",
    value="GET /list/{}",
    score=0.74,
    share=0.71,
    lift=9.4,
    confidence=0.97,
    level=14.2,
    baseline=0.61,
    mechanism="n+1",
    factors={
        "n": Factor(before=1.2, after=3.1, part=3.9),
        "q": Factor(before=4.0, after=42.0, part=8.8),
        "c": Factor(before=0.0105, after=0.0109, part=0.89),
    },
    story=[
        Step(dimension="client", value="203.0.113.0/24"),
        Step(dimension="endpoint", value="GET /list/{}"),
        Step(dimension="function", value="Shop\\Brand::load"),
        Step(dimension="statement", value="SELECT name, logo FROM brand WHERE id = ?"),
    ],
    hosts=["web1", "web2"],
)
BACKUP = Cause(
    dimension="process",
    value="pg_dump",
    score=0.21,
    share=0.19,
    lift=None,
    confidence=0.9,
    level=3.6,
    baseline=0.0,
    mechanism="not php",
    hosts=["web1"],
)


def report(**changes: Any) -> Report:
    """A crawler that meets an N+1, while a backup runs beside it."""
    told: dict[str, Any] = {
        "verdict": "GET /list/{} ran 42 instead of 4 statements a request (N+1), asked for by 203.0.113.0/24",
        "kind": "load",
        "provisional": False,
        "coverage": 0.9,
        "unexplained": 2.2,
        "measure": "tasks",
        "onset": ONSET,
        "opened": ONSET + 7.0,
        "peak": ONSET + 41.0,
        "end": ONSET + 95.0,
        "level": 24.0,
        "baseline": 1.9,
        "causes": [CRAWLED, BACKUP],
        "victims": [
            Victim(dimension="endpoint", value="POST /checkout", requests=31, wall_ms_before=180.0, wall_ms=2210.0),
            Victim(dimension="endpoint", value="GET /new", requests=3, wall_ms_before=None, wall_ms=410.0),
        ],
        "split": [
            Split(
                host="web1",
                running=15.2,
                blocked=4.4,
                baseline_running=1.1,
                baseline_blocked=0.1,
                cores=4,
                load1=18.7,
                coverage=0.93,
                pressure={"cpu": 81.0, "io": 22.5, "memory": 0.4},
                parts=[
                    Part(kind="php", name="php", running=12.1, blocked=0.2),
                    Part(kind="postgres", name="postgres", running=2.0, blocked=0.6),
                    Part(kind="process", name="pg_dump", running=0.4, blocked=3.2),
                    Part(kind="unknown", name="unknown", running=0.7, blocked=0.4),
                ],
            ),
            Split(
                host="web2",
                running=4.2,
                blocked=0.2,
                baseline_running=0.6,
                baseline_blocked=0.1,
                cores=None,
                load1=None,
                coverage=0.8,
                parts=[Part(kind="php", name="php", running=3.9, blocked=0.1)],
            ),
        ],
        "waits": [
            Waits(wait="CPU", level=2.0, baseline=0.2),
            Waits(wait="Lock:transactionid", level=6.5, baseline=0.0),
        ],
        "changes": [
            Change(dimension="release", value="2026-11-02", level=13.9),
            Change(dimension="client", value="203.0.113.0/24", level=13.1),
        ],
        "ruled_out": ["memory pressure: 0.4 % full", "the database's own maintenance: 0.1 of the rise"],
        "quality": Quality(
            frames=12,
            baseline_frames=360,
            lost_looks=4.0,
            silent=["web3"],
            clock_skew_s={"web2": 3.4},
            notes=["The same hour of yesterday was not kept."],
        ),
        "signature": "n+1 endpoint GET /list/{}",
        "examples": [
            Example(
                why="slowest",
                id=REQUEST_ID,
                at=ONSET + 20.0,
                host="web1",
                endpoint="GET /list/{}",
                method="GET",
                url="/list/shoes?page=2",
                status=200,
                duration_ms=2310.5,
            ),
            Example(
                why="died",
                id="b" * 32,
                at=ONSET + 30.0,
                host="web2",
                endpoint="GET /list/{}",
                method="GET",
                url="/list/hats",
                status=None,
                duration_ms=30_000.0,
            ),
        ],
        "in_flight": [
            Flying(id=REQUEST_ID, endpoint="GET /list/{}", host="web1", age_ms=2100.0),
            Flying(id="c" * 32, endpoint="POST /checkout", host="web1", age_ms=350.0),
        ],
        "locks": [
            Blocking(depth=0, session="shop 4711", state="idle in transaction", statement="UPDATE stock", blocked=2),
            Blocking(depth=1, session="shop 4712", state="active", statement="UPDATE stock SET n = ?", blocked=1),
            Blocking(depth=2, session="shop 4713", state="active", statement="UPDATE stock SET n = ?", blocked=0),
        ],
        "seen_before": [Before(id=EARLIER_ID, onset=ONSET - 86_400.0, verdict="GET /list/{} ran 40 statements")],
    }  # fmt: skip
    return Report(**{**told, **changes})


def quiet() -> Report:
    """A window in which nothing rose, with nothing that could be left out."""
    return Report(
        verdict="Nothing rose between 14:00 and 14:10.",
        kind="none",
        provisional=False,
        coverage=0.0,
        unexplained=0.0,
        measure="tasks",
        onset=ONSET,
        peak=ONSET,
        end=ONSET + 600,
        level=1.0,
        baseline=1.1,
        causes=[],
        quality=Quality(frames=60, baseline_frames=0),
    )


def spike(told: Report | None = None, **changes: Any) -> Spike:
    """As a store keeps it."""
    told = told or report()
    kept: dict[str, Any] = {
        "id": SPIKE_ID,
        "project": "shop",
        "hosts": ["web1", "web2"],
        "opened": told.opened or told.onset,
        "onset": told.onset,
        "peak": told.peak,
        "end": told.end,
        "measure": told.measure,
        "level": told.level,
        "baseline": told.baseline,
        "kind": told.kind,
        "verdict": told.verdict,
        "provisional": told.provisional,
        "signature": told.signature,
        "revision": 3,
        "report": msgspec.json.encode(told),
    }
    return Spike(**{**kept, **changes})


def loads(start: float, seconds: int, step: int = 1, hosts: tuple[str, ...] = ("web1",)) -> list[Load]:
    """What hosts ran: quiet, with a hump a third of the way in."""
    found = []
    for host in hosts:
        for i, at in enumerate(range(int(start) // step * step, int(start) + seconds, step)):
            hump = max(0.0, 1 - abs(i - seconds / step / 3) / (seconds / step / 9))
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
