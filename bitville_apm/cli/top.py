"""`bitville top --live`: what PHP on this machine is doing right now, request by request, from the running agent."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitville_apm import limits
from bitville_apm.agent.control import CONTROL
from bitville_apm.cli import inis
from bitville_apm.cli.agent import Declined, NoAnswer, ask

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


def add_to(commands: Any) -> None:
    """The command."""
    top = commands.add_parser("top", help="the requests that run right now, the oldest first")
    top.add_argument("--live", action="store_true", required=True, help="ask the agent of this machine")
    inis.add_options(top, "agent.ini")
    top.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    try:
        told = ask(inis.agent(given).agent.state / CONTROL, "live", limits.CONTROL_S)
    except (NoAnswer, Declined) as error:
        print(f"bitville: agent: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(live_lines(told["requests"], shutil.get_terminal_size((120, 24)).columns)))
    return 0


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
