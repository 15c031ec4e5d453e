"""`bitville regressions`: what costs more than it did, as the collector's nights found it."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from bitville_apm.analysis.telling import duration, figure, moment, percent, shown
from bitville_apm.cli import asking, terminal


def add_to(commands: Any) -> None:
    """The command."""
    regressions = commands.add_parser(
        "regressions",
        help="what costs more a request than it did days ago, the dearest first",
        description="Slow drifts: endpoints, functions and statements that cost more a call than they did, without any "
        "spike. Each night the day before is compared with the four weeks before it.",
    )
    regressions.add_argument("--project", help="of this project only")
    regressions.add_argument(
        "--limit", type=int, default=20, metavar="N", help="at most so many, up to 200 (default: 20)"
    )
    regressions.add_argument("--json", action="store_true", help="print JSON, as /api/regressions has it")
    asking.add_options(regressions)
    regressions.set_defaults(run=_listed)


def _listed(given: argparse.Namespace) -> int:
    with asking.collector(given) as collector:
        found = collector.json("regressions", project=given.project, limit=given.limit)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(regression_lines(found, shutil.get_terminal_size((120, 24)).columns)))
    return 0


def regression_lines(found: Mapping[str, Any], width: int) -> Iterator[str]:
    """A line for each, then what could not be compared; days are UTC."""
    if found["items"]:
        rows: list[tuple[str, ...]] = [
            ("SINCE", "BEFORE", "NOW", "TIMES", "PER", "A DAY", "SHARE", "KIND", "PROJECT", "WHAT")
        ]
        rows += map(_row, found["items"])
        yield from terminal.columns(rows, width, frozenset({1, 2, 3, 5, 6}), frozenset({0, 4}))
    if found["more"]:
        yield f"{found['more']:,} more are not shown"
    ready = []
    for one in found["projects"]:
        if one["days"] < one["days_wanted"]:
            yield f"{shown(one['project'])}: not enough days yet: {one['days']} of {one['days_wanted']}"
        else:
            ready.append(one["day"])
    if not found["projects"]:
        yield "no night was compared yet; the first is the one after next midnight (UTC)"
    elif ready and not found["items"]:
        yield f"nothing got dearer that still is, up to {moment(max(ready))[:10]}"


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    per = f"{one['per']}, {one['measure']}"
    return (
        moment(one["since"])[:10],
        _cost(one["before_ms"]),
        _cost(one["now_ms"]),
        f"{figure(one['factor'])}\u00d7",
        per,
        f"+{duration(1000 * one['lost_s'])}",
        percent(one["share"]),
        one["dimension"],
        shown(one["project"]),
        shown(one["value"]),
    )


def _cost(ms: float) -> str:
    """A duration that may be microseconds."""
    return duration(ms) if ms >= 0.1 else f"{figure(1000 * ms)} µs"
