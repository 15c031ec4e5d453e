"""`bitville requests`: the slowest or the newest requests of some time, of those that were kept whole."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitville_apm.analysis.telling import clock, duration, moment, shown
from bitville_apm.cli import asking, keyring, terminal, times

KEPT = "only slow and died requests and a few examples of each endpoint are kept whole, all others are counted"


def add_to(commands: Any) -> None:
    """The command."""
    requests = commands.add_parser(
        "requests",
        help="the slowest requests of some time, or the newest",
        description=f"Requests of the last hour or of another time, the slowest first: {KEPT} (bitville top).",
    )
    times.add_options(requests, "1h")
    requests.add_argument("--newest", action="store_true", help="the newest first instead of the slowest")
    add_filters(requests)
    requests.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many, up to 100 (default: 20)")
    requests.add_argument("--json", action="store_true", help="print JSON, as /api/search has it")
    asking.add_options(requests)
    requests.set_defaults(run=_listed)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Which requests are meant."""
    parser.add_argument("--path", metavar="TEXT", help="found anywhere in path and query; %% stands for anything")
    parser.add_argument("--endpoint", metavar="NAME", help="of this endpoint, named as bitville top does")
    parser.add_argument("--status", type=int, metavar="CODE", help="answered with this status")
    parser.add_argument("--min-ms", type=float, metavar="MS", help="that took at least so long")
    parser.add_argument("--release", help="of this release only")
    parser.add_argument("--host", help="of this host only")
    parser.add_argument("--project", help="of this project only")


def filters(given: argparse.Namespace) -> dict[str, object]:
    """The same as parameters of `/api/search`."""
    return {
        "source": "php_agent",
        "url": given.path,
        "endpoint": given.endpoint,
        "status": given.status,
        "duration_min": given.min_ms,
        "release": given.release,
        "host": given.host,
        "project": given.project,
    }


def _listed(given: argparse.Namespace) -> int:
    sort = "time" if given.newest else "duration"
    start, end = times.window(given, keyring.now(), 3600.0)
    window = {"timestamp_start": start, "timestamp_end": end}
    with asking.collector(given) as collector:
        found = collector.json("search", sort=sort, limit=given.limit, **window, **filters(given))
    if given.json:
        print(json.dumps(found, indent=2))
    elif not found["items"]:
        print(f"no such request was kept from {moment(start)} to {moment(end)}; {KEPT}")
    else:
        print(f"{moment(start)} to {moment(end)}, the {'newest' if given.newest else 'slowest'} first")
        print("\n".join(request_lines(found["items"], shutil.get_terminal_size((120, 24)).columns)))
        if found["hasMore"]:
            print(f"there are more than these {len(found['items'])}")
    return 0


def request_lines(found: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A table; ids are whole, for `bitville request`. Days, hosts and projects are named where they differ."""
    days = {moment(one["at"])[:10] for one in found}
    rows = [HEAD, *(row(one, len(days) > 1) for one in found)]
    same = {place for place, name in ((6, "host"), (7, "project")) if len({one[name] for one in found}) == 1}
    rows = [tuple("" if place in same else cell for place, cell in enumerate(cells)) for cells in rows]
    yield from terminal.columns(rows, width, NUMBERS, frozenset({0, 5, 9}))


HEAD = ("BEGAN (UTC)", "TOOK", "CPU", "SQL", "IN SQL", "STATUS", "HOST", "PROJECT", "ENDPOINT", "ID")
NUMBERS = frozenset(range(1, 5))


def row(one: Mapping[str, Any], day: bool) -> tuple[str, ...]:
    """One request under `HEAD`: how long it took, how many statements, how long those; `-` for what is not known."""
    status = "died" if one["died"] else "-" if one["status"] is None else str(one["status"])
    sql = ("-", "-") if one["died"] else (f"{one['sql_count']:,}", duration(one["sql_ms"]))
    return (
        moment(one["at"]).removesuffix(" UTC") if day else clock(one["at"]),
        *map(_took, (one["duration_ms"], one["cpu_ms"])),
        *sql,
        status,
        *(shown(one[name]) for name in ("host", "project", "endpoint")),
        one["id"],
    )


def _took(ms: float | None) -> str:
    return "-" if ms is None else duration(ms)
