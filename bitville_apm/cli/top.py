"""`bitville top`: what was heaviest in some time, from the collector; with `--live`: what PHP on this machine is doing
right now, request by request, from the running agent.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitville_apm import limits
from bitville_apm.agent.control import CONTROL
from bitville_apm.analysis.telling import duration, lasted, load, moment, shown
from bitville_apm.cli import asking, inis, keyring, terminal, times
from bitville_apm.cli.agent import ask

_STATES = {
    "R": "running",
    "S": "waiting",
    "D": "blocked",
    "T": "stopped",
    "t": "stopped",
    "I": "waiting",
}
"""What the state of a process (as in /proc) means for its request."""
_HEAD = ("AGE", "CPU", "QUEUED", "BLOCKED", "STATE", "PID", "ENDPOINT", "ID")


DIMENSIONS = ("endpoint", "function", "statement", "process")
"""What is shown when no dimension is asked for: who can be the cause of load."""


def add_to(commands: Any) -> None:
    """The command."""
    top = commands.add_parser(
        "top",
        help="what was heaviest: endpoints, functions, statements, processes",
        description="The heaviest values of the last hour, or of another time, from the collector; --live: the "
        "requests that run right now on this machine, from its agent.",
    )
    top.add_argument("--live", action="store_true", help="ask the agent of this machine (--config is its agent.ini)")
    top.add_argument("--dimension", choices=sorted(limits.DIMENSION_CAPS), help="only this (default: the four above)")
    times.add_options(top, "1h")
    top.add_argument("--host", help="of this host only")
    top.add_argument("--project", help="of this project only")
    top.add_argument("--limit", type=int, metavar="N", help="rows of each (default: 5, of one dimension 20)")
    top.add_argument("--json", action="store_true", help="print JSON, for programs; times in seconds")
    asking.add_options(top)
    top.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    return _live(given) if given.live else _heaviest(given)


def _live(given: argparse.Namespace) -> int:
    told = ask(inis.agent(given).agent.state / CONTROL, "live", limits.CONTROL_S)
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(live_lines(told["requests"], shutil.get_terminal_size((120, 24)).columns)))
    return 0


# --- From the collector -----------------------------------------------------------------------------------


def _heaviest(given: argparse.Namespace) -> int:
    dimensions = (given.dimension,) if given.dimension else DIMENSIONS
    limit = given.limit or (20 if given.dimension else 5)
    start, end = times.window(given, keyring.now(), 3600.0)
    with asking.collector(given) as collector:
        place = {"from_": start, "to": end, "host": given.host, "project": given.project, "limit": limit}
        tops = [collector.json("top", dimension=dimension, **place) for dimension in dimensions]
    if given.json:
        print(json.dumps(tops[0] if given.dimension else {top["dimension"]: top for top in tops}, indent=2))
    else:
        print("\n".join(top_lines(tops, shutil.get_terminal_size((120, 24)).columns)))
    return 0


def top_lines(tops: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A table for each dimension that has anything; loads are task-seconds a second, of the seconds that are known."""
    start, end = tops[0]["from"], tops[0]["to"]
    known = tops[0].get("known_s") or end - start
    widened = ", widened to whole hours" if tops[0]["widened"] else ""
    partly = f", of which {lasted(known)} are known" if known < limits.MOSTLY_KNOWN * (end - start) else ""
    yield f"{moment(start)} to {moment(end)}{widened}{partly}; LOAD is running and blocked task-seconds a second"
    shown_any = False
    for top in tops:
        if not top["items"]:
            continue
        shown_any = True
        yield ""
        rows: list[tuple[str, ...]] = [("LOAD", "BLOCKED", "REQUESTS", "P95", "ERRORS", top["dimension"].upper())]
        rows += [_heavy(row, known) for row in top["items"]]
        yield from terminal.columns(rows, width, frozenset(range(5)))
    if not shown_any:
        yield "nothing was seen in that time"


def _heavy(row: Mapping[str, Any], seconds: float) -> tuple[str, ...]:
    return (
        load((row["running_s"] + row["blocked_s"]) / seconds),
        load(row["blocked_s"] / seconds),
        f"{row['requests']:,}",
        "-" if row["p95_ms"] is None else duration(row["p95_ms"]),
        f"{row['errors']:,}",
        shown(row["value"]),
    )


# --- Live -------------------------------------------------------------------------------------------------


def live_lines(requests: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A table as wide as the terminal; on a narrow one endpoints are cut, never ids."""
    if not requests:
        yield "no request is in flight"
        return
    rows = [_HEAD, *map(_row, requests)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    endpoint = _HEAD.index("ENDPOINT")
    others = sum(widths) - widths[endpoint] + 2 * (len(_HEAD) - 1)
    widths[endpoint] = max(len("ENDPOINT"), min(widths[endpoint], width - others))
    for row in rows:
        cells = [
            text.ljust(size) if column in ("STATE", "ENDPOINT", "ID") else text.rjust(size)
            for column, text, size in zip(_HEAD, row, widths, strict=True)
        ]
        cells[endpoint] = _cut(cells[endpoint], widths[endpoint])
        yield "  ".join(cells).rstrip()
    yield f"{len(requests)} in flight"


def _row(request: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _seconds(request["age_s"]),
        _seconds(request["cpu_s"]),
        _seconds(request["queue_s"]),
        _seconds(request["blocked_s"]),
        _STATES.get(request["state"] or "", "?"),
        str(request["pid"] or "?"),
        "".join(c if c.isprintable() else "\ufffd" for c in request["endpoint"]),
        request["id"],
    )


def _seconds(value: float | None) -> str:
    """Not seen yet is a dash: a request younger than a second has not been looked at."""
    return "-" if value is None else f"{value:.1f} s"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
