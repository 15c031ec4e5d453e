"""`bitville spikes` and `bitville explain`: what the collector found, and what caused it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.telling import lasted, load, moment, shown
from bitville_apm.cli import asking, keyring, terminal, times
from bitville_apm.cli.asking import Collector
from bitville_apm.cli.errors import NotDone

LAST = "last"


def add_to(commands: Any) -> None:
    """Both commands."""
    spikes = commands.add_parser("spikes", help="the load spikes that were found, the newest first")
    times.add_options(spikes, "7d")
    _place(spikes)
    spikes.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many, up to 100 (default: 20)")
    spikes.add_argument("--json", action="store_true", help="print JSON, as /api/spikes has it")
    asking.add_options(spikes)
    spikes.set_defaults(run=_listed)

    explain = commands.add_parser(
        "explain",
        help="what caused a load spike",
        description="Explains a spike, or any time of up to two hours against the hour before it: which endpoints, "
        "functions, statements, clients or processes, how, on which hosts, who suffered, and how good the data is.",
    )
    explain.add_argument(
        "spike", nargs="?", metavar="ID", help=f"a spike by the beginning of its id, or {LAST} (the default)"
    )
    times.add_options(explain, f"the {LAST} spike")
    _place(explain)
    form = explain.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, as /api/spikes/<id> has it")
    form.add_argument("--md", action="store_true", help="print Markdown, for a ticket")
    asking.add_options(explain)
    explain.set_defaults(run=_explained)


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="of this host only")
    parser.add_argument("--project", help="of this project only")


# --- spikes -----------------------------------------------------------------------------------------------


def _listed(given: argparse.Namespace) -> int:
    start, end = times.window(given, keyring.now(), limits.SPIKES_TOLD_S)
    with asking.collector(given) as collector:
        found = collector.json(
            "spikes", from_=start, to=end, host=given.host, project=given.project, limit=given.limit
        )["items"]
    if given.json:
        print(json.dumps({"items": found}, indent=2))
    elif not found:
        print(f"no spike from {moment(start)} to {moment(end)}")
    else:
        print("\n".join(spike_lines(found, shutil.get_terminal_size((100, 24)).columns)))
    return 0


def spike_lines(found: Sequence[Mapping[str, Any]], width: int) -> Sequence[str]:
    """The list, each spike's verdict below its figures; `ID` is the beginning of its id, as long as tells it apart."""
    ids = _short([one["id"] for one in found])
    rows: list[tuple[str, ...]] = [("BEGAN (UTC)", "LASTED", "LOAD", "HOSTS", "PROJECT", "ID")]
    for one, id in zip(found, ids, strict=True):
        over = "lasts" if one["end"] is None else lasted(one["end"] - one["onset"])
        level = f"{load(one['baseline'])} → {load(one['level'])}"
        where = (",".join(one["hosts"]), one["project"])
        rows.append((moment(one["onset"]).removesuffix(" UTC"), over, level, *map(shown, where), id))
    lines = list(terminal.columns(rows, width, frozenset({1}), frozenset({0, 2, 5})))
    told = lines[:1]
    for line, one in zip(lines[1:], found, strict=True):
        verdict = ("provisional: " if one["provisional"] else "") + shown(one["verdict"])
        told += [line, *textwrap.wrap(verdict, width, initial_indent="    ", subsequent_indent="    ")]
    return told


def _short(ids: Sequence[str]) -> list[str]:
    """Beginnings of ids, as long as it takes."""
    for length in range(limits.SHORT_ID, 40):
        if len({id[:length] for id in ids}) == len(set(ids)):
            return [id[:length] for id in ids]
    return list(ids)


# --- explain ----------------------------------------------------------------------------------------------


def _explained(given: argparse.Namespace) -> int:
    by_time = given.from_ is not None or given.to is not None
    if by_time and given.spike is not None:
        print("bitville: either a spike or --from and --to", file=sys.stderr)
        return 2
    if by_time and given.from_ is None:
        print("bitville: --to is given without --from", file=sys.stderr)
        return 2
    with asking.collector(given) as collector:
        if by_time:
            start, end = times.window(given, keyring.now(), 0.0)
            place = {"host": given.host, "project": given.project}
            body, link = _answer(collector, given, "explain", from_=start, to=end, **place), None
        else:
            id = _id(collector, given)
            body, link = _answer(collector, given, f"spikes/{id}"), f"{collector.url}/spikes/{id}"
    if given.md:
        print(body.decode(), end="")
    elif given.json:
        print(json.dumps(json.loads(body), indent=2))
    else:
        try:
            report = msgspec.json.decode(body, type=Report)
        except msgspec.MsgspecError:
            raise NotDone("the collector's report cannot be read; is it of another version?") from None
        print("\n".join(terminal.told(report, shutil.get_terminal_size((100, 24)).columns, link)))
    return 0


def _answer(collector: Collector, given: argparse.Namespace, path: str, **parameters: object) -> bytes:
    return collector.get(path, format="md" if given.md else None, **parameters)


def _id(collector: Collector, given: argparse.Namespace) -> str:
    """The whole id of the spike that was meant. Raises `NotDone`."""
    wanted = given.spike or LAST
    found = collector.json("spikes", from_=0, host=given.host, project=given.project, limit=limits.SEARCH_LIMIT)[
        "items"
    ]
    if wanted == LAST:
        if not found:
            raise NotDone("no spike was found yet; --from and --to explain any time")
        return str(found[0]["id"])
    alike = [one["id"] for one in found if one["id"].startswith(wanted.lower())]
    if len(alike) > 1:
        raise NotDone(f"{len(alike)} spikes begin with {wanted}; give more of the id")
    return str(alike[0]) if alike else str(wanted)
