"""`bitville tail`: requests that are kept whole, as they arrive."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.cli import asking, keyring
from bitville_apm.cli.asking import Collector, Declined
from bitville_apm.cli.requests import HEAD, KEPT, add_filters, filters, row

_WIDTHS = (8, 8, 8, 6, 8, 6, 12)
"""Of the columns of `HEAD` before the project's, which is left out; the endpoint has what remains beside the id."""


def add_to(commands: Any) -> None:
    """The command."""
    tail = commands.add_parser(
        "tail",
        help="requests as they arrive, until Ctrl-C",
        description=f"Requests as the collector gets them, until Ctrl-C: {KEPT}. A line each; the first are the newest "
        "there are.",
    )
    add_filters(tail)
    tail.add_argument("--json", action="store_true", help="print JSON, a line each, as in the items of /api/search")
    asking.add_options(tail)
    tail.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    following = Following(filters(given))
    width = shutil.get_terminal_size((120, 24)).columns
    failing = False
    try:
        if not given.json:
            print(tail_line(HEAD, width), flush=True)
        while True:
            try:
                # A session of the collector's own machine ends; it is made anew before that.
                with asking.collector(given) as collector:
                    until = time.monotonic() + limits.ASK_SESSION_S / 2
                    while time.monotonic() < until:
                        for one in following.look(collector, keyring.now()):
                            print(json.dumps(one) if given.json else tail_line(row(one, False), width), flush=True)
                        failing = False
                        time.sleep(limits.TAIL_S)
            except Declined as error:
                if not following.looked or error.status in (400, 401, 403):
                    raise
                if not failing:
                    print(f"bitville: {error}; still trying", file=sys.stderr)
                failing = True
                time.sleep(limits.TAIL_S)
    except KeyboardInterrupt:
        return 0


@attrs.define
class Following:
    """What was told already; `looked`: whether there was an answer yet.

    A request is found by when it began, and arrives when it has ended. So a look is at the newest page by page, as long
    as they bring something, and at the slowest: what arrives late took long.
    """

    parameters: Mapping[str, object]
    looked: bool = False
    _told: dict[str, float] = attrs.Factory(dict)

    def look(self, collector: Collector, now: float) -> Sequence[Mapping[str, Any]]:
        """What is new, the oldest first. Raises `Declined`."""
        start = now - limits.TAIL_BACK_S
        here = {**self._pages(collector, "time", start), **self._pages(collector, "duration", start)}
        found = here
        if not self.looked:
            found = self._new(collector.json("search", sort="time", limit=limits.TAIL_FIRST, **self.parameters))
        self.looked = True
        self._told = {id: at for id, at in self._told.items() if at >= start}
        self._told.update((id, one["at"]) for id, one in {**here, **found}.items())
        return sorted(found.values(), key=lambda one: float(one["at"]))

    def _pages(self, collector: Collector, sort: str, start: float) -> dict[str, Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        after = None
        for _ in range(limits.TAIL_PAGES):
            page = collector.json(
                "search", sort=sort, timestamp_start=start, limit=limits.SEARCH_LIMIT, after=after, **self.parameters
            )
            new = self._new(page)
            found.update(new)
            after = page["cursor"]
            if after is None or not new:
                break
        return found

    def _new(self, page: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return {one["id"]: one for one in page["items"] if one["id"] not in self._told}


def tail_line(cells: Sequence[str], width: int) -> str:
    """One line of fixed columns; names are cut, the id is whole."""
    return "  ".join(_fixed(cells, width)).rstrip()


def _fixed(cells: Sequence[str], width: int) -> Iterator[str]:
    for place, size in enumerate(_WIDTHS):
        text = cells[place].removesuffix(" (UTC)") if place == 0 else cells[place]
        yield text.rjust(size) if 0 < place < 5 else _cut(text, size)
    endpoint, id = cells[-2:]
    yield _cut(endpoint, max(12, width - sum(_WIDTHS) - 2 * (len(_WIDTHS) + 1) - len(id.ljust(36))))
    yield id


def _cut(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1] + "…"
