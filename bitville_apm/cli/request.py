"""`bitville request`: one request whole. What the collector tells is read as its own pages read it."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.analysis.telling import shown
from bitville_apm.cli import asking, request_lines
from bitville_apm.cli.asking import Collector, Declined
from bitville_apm.cli.errors import NotDone
from bitville_apm.cli.requests import KEPT
from bitville_apm.store.interface import Found, Stored
from bitville_apm.web.detail import detail_of
from bitville_apm.web.seen import Seen


def add_to(commands: Any) -> None:
    """The command."""
    request = commands.add_parser(
        "request",
        help="one request whole: its times, functions, statements, calls, and what Postgres did for it",
        description=f"One request by its id, as bitville requests, explain and top --live print it: {KEPT}.",
    )
    request.add_argument("id", metavar="ID", help="its id, whole")
    request.add_argument("--limit", type=_rows, default=15, metavar="N", help="rows of each table (default: 15)")
    request.add_argument("--json", action="store_true", help="print JSON, as /api/correlation/<id> has it")
    asking.add_options(request)
    request.set_defaults(run=_told)


def _rows(text: str) -> int:
    if not text.isdecimal() or not 1 <= len(text) <= 6 or not int(text):
        raise argparse.ArgumentTypeError("a number of rows is wanted, 1 or more")
    return int(text)


def _told(given: argparse.Namespace) -> int:
    place = quote(given.id, safe="")
    try:
        with asking.collector(given) as collector:
            body = collector.get(f"correlation/{place}")
            known = msgspec.json.decode(body, type=_Known)
            if known.trace.php_request is None and not known.trace.other_records:
                what = f"{shown(given.id)} is no request but a record of Postgres"
                raise Declined(f"{what}: /api/requests/{place} has it")
            trees = [] if given.json else _trees(collector, known.trace.php_request)
    except Declined as error:
        if error.status != 404:
            raise
        raise NotDone(_missing(given.id)) from None
    except msgspec.MsgspecError:
        raise NotDone("the collector's answer cannot be read; is it of another version?") from None
    if given.json:
        print(json.dumps(json.loads(body), indent=2))
        return 0
    width = shutil.get_terminal_size((120, 24)).columns
    whole, id = known.trace.php_request, known.correlation_id
    seen = Seen.of(id, [one.stored("pg") for one in known.trace.other_records], trees)
    if whole is None:
        print(f"{id} is not kept, or still runs (bitville top --live on its host); its database was seen")
        print("\n".join(request_lines.seen_lines(seen, width, given.limit)))
    else:
        link = f"{collector.url}/requests/{id}"
        print("\n".join(request_lines.told(detail_of(whole.stored(whole.kind)), seen, width, given.limit, link)))
    return 0


def _missing(id: str) -> str:
    return (
        f"no request {shown(id)} is kept. Does it still run (bitville top --live on its host)? Is it older than what "
        f"is kept, or of a project you may not see? Else it was fast: {KEPT}"
    )


class _Row(Found, frozen=True, kw_only=True):
    """A record as `/api/requests/<id>` and the list of `/api/correlation/<id>` have it."""

    kind: str = "pg"
    received: float = 0.0
    client_id: str | None = None
    record: msgspec.Raw = msgspec.Raw(b"{}")
    data: msgspec.Raw = msgspec.Raw(b"")

    def stored(self, kind: str) -> Stored:
        """As the store had it."""
        found = Found(**{name: getattr(self, name) for name in Found.__struct_fields__})
        body = bytes(self.data) or bytes(self.record)
        return Stored(found=found, kind=kind, recv_ms=round(self.received * 1000), client_id=self.client_id, body=body)


class _Trace(Struct):
    php_request: _Row | None
    other_records: list[_Row]


class _Known(Struct):
    correlation_id: str
    trace: _Trace


def _trees(collector: Collector, request: _Row | None) -> Sequence[Stored]:
    """The lock trees of a request's time, as its page looks at them for who held it up."""
    if request is None:
        return []
    trees: Mapping[str, Any] = collector.json(
        "search",
        source="postgres_agent",
        endpoint="pg_locks",
        project=request.project,
        timestamp_start=request.at,
        timestamp_end=request.at + (request.duration_ms or 0.0) / 1000 + limits.WINDOW_S,
        sort="time",
        limit=limits.LOCK_TREES,
    )
    bodies = (collector.get(f"requests/{quote(tree['id'], safe='')}") for tree in trees["items"])
    return [msgspec.json.decode(body, type=_Row).stored("pg") for body in bodies]
