"""Requests of a small shop, one of them slow, and a spike of it; and one of each with markup in every text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from bitville_apm.analysis.report import Report
from bitville_apm.store.interface import Drifts, Spike
from tests.web.made import night, regression
from tests.web.reports import full_report, marked

SLOW = "5b0c6f0e-9a53-4c6e-8c52-0d6c4b1f2a10"
EVIL = "5b0c6f0e-9a53-4c6e-8c52-0d6c4b1f2aee"
SPIKE = "5b0c6f0e-9a53-4c6e-8c52-0d6c4b1f2a11"
EVIL_SPIKE = "5b0c6f0e-9a53-4c6e-8c52-0d6c4b1f2aef"
WITHIN_SPIKE = -1100.0
"""Seconds from when the records were told to the middle of both spikes."""
MARKUP = "\"'><script>window.hacked=1</script><img src=x onerror=window.hacked=2><svg onload=window.hacked=3>${7*7}"


def record(at: float, ms: float, uri: str, route: str, id: str | None = None, **more: Any) -> dict[str, Any]:
    """An end line (wire.md 2)."""
    return {
        "t": "end",
        "v": 2,
        "id": id or str(uuid.uuid4()),
        "at": at,
        "ms": ms,
        "request": {"method": "GET", "uri": uri, "route": route, "headers": {"Accept": "text/html"}},
        "response": {"status": 200},
        "ss": [int(ms * 150_000), int(ms * 20_000)],
        "memory": {"peak_bytes": 12_582_912},
        **more,
    }


def records(now: float) -> dict[str, list[dict[str, Any]]]:
    """By project."""
    quick = [record(now - 30 * n - 5, 20.0 + n, f"/product/{n}", "GET /product/{}") for n in range(1, 60)]
    slow = record(
        now - 60,
        4812.0,
        "/list/shoes?page=2",
        "GET /list/{}",
        SLOW,
        sql={
            "n": 121,
            "ms": 3900.0,
            "connections": [{"driver": "pgsql", "host": "db1", "port": 5432, "database": "shop", "user": "shop"}],
            "queries": [
                {"sql": "SELECT id, name FROM product WHERE category = ? ORDER BY name", "ms": 300.0, "n": 1, "c": 0},
                {"sql": "SELECT pg_sleep(?), name FROM brand WHERE id = ?", "ms": 3600.0, "n": 120, "c": 0},
            ],
        },
        profile={
            "kind": "excimer",
            "period_us": 10_000,
            "stacks": (
                "/srv/index.php;Shop\\Listing::show;Shop\\Brand::load 370\n"
                "/srv/index.php;Shop\\Listing::show;Shop\\Template::render 90\n/srv/index.php;Shop\\Listing::show 20\n"
            ),
        },
    )
    pairs = {MARKUP: MARKUP, "list": [{MARKUP: MARKUP}]}
    evil = record(
        now - 90,
        900.0,
        MARKUP,
        MARKUP,
        EVIL,
        sql={"n": 1, "ms": 5.0, "queries": [{"sql": f'SELECT "{MARKUP}"', "ms": 5.0}]},
        calls=[{"kind": "http", "target": MARKUP, "ms": 1.0}],
        profile={"kind": "excimer", "period_us": 10_000, "stacks": f"{MARKUP};{MARKUP} 90\n"},
        fatal={"type": 1, "message": MARKUP, "file": MARKUP, "line": 1},
        context=pairs,
        release=MARKUP,
        client=MARKUP,
        agent=MARKUP,
        server={"hostname": MARKUP},
        trace=pairs,
    )
    evil["request"] = {**evil["request"], "method": MARKUP, "query": pairs, "headers": pairs, "post": pairs}
    return {"shop": [*quick, slow], "blog": [evil]}


def frames(project: str, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a host ran in the last hour, by its name: steadily, so that nothing is detected."""
    host = "web1" if project == "shop" else MARKUP
    for at in range(int(now) // 10 * 10 - 3600, int(now) // 10 * 10 - 10, 10):
        load = {"running": 2.0, "blocked": 0.5, "load1": 2.2, "cores": 4}
        seconds = {"tasks": [2.0, 3.0] * 5, "db": [1.0] * 10, "in_flight": [4.0] * 10}
        yield host, {"id": str(uuid.uuid4()), "at": at, "secs": 10, "v": 2, "seconds": seconds, "load": load}


def spikes(now: float) -> Iterator[Spike]:
    """One with all parts of a report, and one with markup in every text."""
    for id, project, told in (
        (SPIKE, "shop", full_report()),
        (EVIL_SPIKE, "blog", marked(Report, MARKUP)),
    ):
        report = msgspec.structs.replace(told, onset=now - 1200, opened=now - 1193, peak=now - 1160, end=now - 1000)
        kept = {
            name: getattr(report, name) for name in ("onset", "peak", "end", "measure", "level", "baseline", "kind")
        }
        yield Spike(
            id=id, project=project, hosts=["web1" if project == "shop" else MARKUP], opened=now - 1193,
            verdict=report.verdict, provisional=report.provisional, signature=report.signature, revision=1,
            report=msgspec.json.encode(report), **kept,
        )  # fmt: skip


def nights(now: float) -> Iterator[Drifts]:
    """What the last night found: one drift of each project, one of them with markup for a name."""
    day = (now // 86_400 - 1) * 86_400
    for project, value, lost_s in (("shop", "GET /list/{}", 900.0), ("blog", MARKUP, 9.0)):
        one = regression(value, since=day - 2 * 86_400, lost_s=lost_s)
        yield night(project, one, day=day, made=day + 87_300)
