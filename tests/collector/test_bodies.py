"""Reading bodies: every row of "Refused on arrival", and how records are told apart."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.collector.bodies import Body, Sender, read
from bitville_apm.http import HttpProblem
from tests.store.contract import Open
from tests.store.make import NOON, end_body, new_id
from tests.store.opened import sqlite_in

WIRE = Path(__file__).parent.parent / "wire"
GOOD = end_body(new_id(1))
ITEM = {"k": "end", "id": new_id(1), "seq": [1, 1], "recv": int(NOON * 1000), "host": "web1", "body": GOOD}
LINE = json.dumps(ITEM).encode()


def sender(**more: Any) -> Sender:
    return Sender(project="shop", now=NOON, **more)


def body_of(*lines: bytes, **more: Any) -> Body:
    return read(b"\n".join(lines), sender(batch=True, **more))


def item(body: Any = GOOD, **more: Any) -> bytes:
    return json.dumps({**ITEM, "body": body, **more}).encode()


def frame(**cells: Any) -> bytes:
    table = {"values": ["GET /a"], "columns": cells}
    body = {"id": new_id(), "at": NOON, "secs": 10, "v": 2, "cells": {"endpoint": table}}
    return item(body, k="frame")


NUMBERS = "cells.endpoint.columns"
BAD: dict[str, tuple[bytes, str, str]] = {
    "broken JSON": (b'{"k":"end",', "invalid", ""),
    "no JSON at all": (b"\x00\xff\xfe", "invalid", ""),
    "a list": (b"[1]", "invalid", ""),
    "a number": (b"17", "invalid", ""),
    "null": (b"null", "invalid", ""),
    "a string that does not end": (b'{"k":"end', "invalid", ""),
    "nested deeper than 64": (b'{"k":"end","body":' + b"[" * 65 + b"]" * 65 + b"}", "invalid", ""),
    "nested 100,000 deep": (b'{"k":"end","body":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid", ""),
    "a record nested too deep": (item({**GOOD, "context": json.loads("[" * 64 + "]" * 64)}), "invalid", "body"),
    "an integer beyond 64 bits": (item({**GOOD, "context": {"n": 2**63}}), "invalid", "body.context.n"),
    "a float beyond": (item().replace(b'"ms": 100.0', b'"ms": 1e999'), "invalid", "body.ms"),
    "NaN": (item({**GOOD, "ms": float("nan")}), "invalid", ""),
    "Infinity": (item({**GOOD, "ms": float("inf")}), "invalid", ""),
    "a line over 8 MiB": (item({**GOOD, "context": "x" * (8 * limits.MIB)}), "oversize", "body"),
    "a line far over 8 MiB": (b"{" * (9 * limits.MIB), "oversize", ""),
    "a field that is missing": (item({"t": "end", "v": 2, "id": "x"}), "invalid", "body.ms"),
    "a field of the wrong kind": (item({**GOOD, "ms": "slow"}), "invalid", "body.ms"),
    "a negative duration": (item({**GOOD, "ms": -1}), "invalid", "body.ms"),
    "an unknown kind": (item(k="later"), "invalid", "k"),
    "a kind that is no text": (item(k=7), "invalid", "k"),
    "an envelope without its recv": (json.dumps({**ITEM, "recv": None}).encode(), "invalid", "recv"),
    "a version 1 record without time": (item({"correlation_id": "x"}, k="v1"), "invalid", "body.timestamp"),
    "a recv an hour ahead": (item(recv=int((NOON + 3601) * 1000)), "clock", "recv"),
    "a start an hour ahead": (item({**GOOD, "at": NOON + 3601}), "clock", "body.at"),
    "a frame an hour ahead": (frame().replace(b"1800014400.0", b"1800018001.0"), "clock", "body.at"),
    "a frame with a text in a sum": (frame(wall_us=["1"]), "invalid", f"body.{NUMBERS}.wall_us[0]"),
    "a frame with a negative sum": (frame(requests=[-1]), "invalid", f"body.{NUMBERS}.requests[0]"),
    "a frame with a sum too large": (frame(wall_us=[2**60]), "invalid", f"body.{NUMBERS}.wall_us[0]"),
    "a frame with a true": (frame(requests=[True]), "invalid", f"body.{NUMBERS}.requests[0]"),
    "a frame with a wild bucket": (frame(histogram=[[[70_000, 1]]]), "invalid", f"body.{NUMBERS}.histogram[0]"),
    "a frame with half a bucket": (frame(histogram=[[[7]]]), "invalid", f"body.{NUMBERS}.histogram[0]"),
    "a frame with columns too long": (frame(requests=[1, 2]), "invalid", f"body.{NUMBERS}.requests"),
    "a begin line": (b'{"t":"begin","id":"x","at":1}', "invalid", "t"),
    "a bare end without its id": (b'{"t":"end","v":2,"at":1,"ms":1,"request":{"method":"G"}}', "invalid", "id"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_beside_good(name: str) -> None:
    """LIST-04, Refused on arrival: a bad line is refused with its line, field and reason; its neighbours are taken."""
    bad, reason, field = BAD[name]
    body = body_of(LINE, b"", bad, item({**GOOD, "id": new_id(2)}, id=new_id(2)))
    assert [(line, arrival.id) for line, arrival in body.arrivals] == [(1, new_id(1)), (4, new_id(2))]
    (refusal,) = body.refused
    assert (refusal.line, refusal.reason) == (3, reason)
    assert field in [problem.field for problem in refusal.problems]
    assert all(problem.problem for problem in refusal.problems)


def test_all_wrong_fields_are_named() -> None:
    """LIST-04: errors field by field, not only the first."""
    (refusal,) = body_of(item({**GOOD, "ms": "x", "at": None, "request": {"uri": 7}})).refused
    assert {p.field for p in refusal.problems} == {
        "body.ms", "body.at", "body.request.method", "body.request.uri",
    }  # fmt: skip
    assert refusal.id == new_id(1)


def test_repaired_rather_than_refused() -> None:
    """Refused on arrival: lone surrogates become U+FFFD, PHP's `[]` an empty object, unknown fields are kept."""
    line = item({**GOOD, "sql": [], "later": {"x": 1}}).replace(b"/cart", b"/c\\ud800")
    ((_, arrival),) = body_of(line).arrivals
    assert arrival.request is not None
    assert arrival.request.uri == "/c\ufffd"
    kept = json.loads(arrival.body)
    assert (kept["later"], kept["sql"]) == ({"x": 1}, {})


@pytest.mark.parametrize("field", ["context", "uri"])
def test_bytes_that_are_no_utf8(field: str) -> None:
    """Refused on arrival: bytes that are no UTF-8 become U+FFFD wherever they stand; what is stored is readable."""
    body = {**GOOD, "context": "@"} if field == "context" else {**GOOD, "request": {"method": "GET", "uri": "@"}}
    ((_, arrival),) = body_of(item(body).replace(b"@", b"\xff")).arrivals
    assert "\ufffd" in arrival.body.decode()


def test_identity_is_canonical() -> None:
    """wire.md 5: ids are lower-cased UUIDs; another id becomes a UUID and is kept as the client's."""
    upper = item({**GOOD, "id": new_id(255).upper()}, id=new_id(255).upper())
    other = item({**GOOD, "id": "order-7"}, id="order-7")
    (_, first), (_, second) = body_of(upper, other).arrivals
    assert first.id == new_id(255)
    assert second.client_id == "order-7"
    assert second.id != "order-7"


def test_only_what_no_frame_counts_has_cells() -> None:
    """wire.md 5: framed records are not rolled up by the collector, bare and unframed ones are."""
    framed, unframed, bare = body_of(item(framed=True), item(), json.dumps(GOOD).encode()).arrivals
    assert framed[1].cells == {}
    assert ("endpoint", "GET /cart") in unframed[1].cells
    assert ("endpoint", "GET /cart") in bare[1].cells
    assert (bare[1].recv_ms, bare[1].seq) == (int(NOON * 1000), None)


def test_the_key_decides_the_project() -> None:
    """LIST-03: what a record claims about its project is ignored."""
    ((_, arrival),) = body_of(json.dumps({**GOOD, "project": "blog"}).encode()).arrivals
    assert arrival.project == "shop"


@pytest.mark.parametrize("framed", [True, False])
def test_every_kind_of_item(framed: bool) -> None:
    """wire.md 5: end, died, v1, frame and pg are taken, each as what it is."""
    died = {"id": new_id(3), "at": NOON, "ms": 5, "state": "D"}
    v1 = {"correlation_id": "abc", "timestamp": NOON, "elapsed_ms": 12, "request": {"uri": "/x"}}
    pg = {"source": "pg_locks", "data": [], "at": NOON}
    kinds = {"end": GOOD, "died": died, "v1": v1, "pg": pg}
    body = body_of(*(item(b, k=k, framed=framed, id=new_id(9)) for k, b in kinds.items()), frame(requests=[1]))
    assert [arrival.kind for _, arrival in body.arrivals] == [*kinds, "frame"]
    assert body.refused == []


@pytest.mark.parametrize("path_says", [True, False])
def test_bare_postgres_records(path_says: bool) -> None:
    """LIST-02: an observation comes in both versions' shapes, with and without its kind."""
    first = {"correlation_id": "abc", "project": "x", "timestamp": "2027-01-15T12:00:00Z", "source": "s", "data": {}}
    second = {"k": "pg", "id": new_id(5), "host": "db1", "server": "main", "at": NOON, "source": "s", "data": []}
    body = body_of(json.dumps(first).encode(), json.dumps(second).encode(), postgres=path_says)
    assert [(a.kind, a.host) for _, a in body.arrivals] == [("pg", ""), ("pg", "db1")]


def test_forms_of_a_body() -> None:
    """wire.md 5: a list, lines, a bare object, one spread over lines; blank lines count but are nothing."""
    one, two = json.dumps(GOOD).encode(), json.dumps({**GOOD, "id": new_id(2), "context": 'a]},{["\\"'}).encode()
    pretty = json.dumps(GOOD, indent=2).encode()
    for plain, single, lines in (
        (one, True, [1]),
        (b"\n\n" + one + b"\n", True, [1]),
        (pretty, True, [1]),
        (one + b"\n" + two, False, [1, 2]),
        (one + b"\n\n" + two, False, [1, 3]),
        (b"[" + one + b",\n " + two + b"]", False, [1, 2]),
        (b" [ ] ", False, []),
        (LINE, False, [1]),
        (b"[" + LINE + b"]", False, [1]),
    ):
        body = read(plain, sender())
        assert (body.single, [line for line, _ in body.arrivals], body.refused) == (single, lines, []), plain
    assert read(one, sender(batch=True)).single is False


def test_a_bad_element_of_a_list_harms_no_other() -> None:
    """LIST-04: the same for a JSON list, though as a whole it is not JSON."""
    one = json.dumps(GOOD).encode()
    body = read(b'[{"ms":NaN},' + one + b",,7]", sender())
    assert [line for line, _ in body.arrivals] == [2]
    assert [refusal.line for refusal in body.refused] == [1, 3, 4]


def test_a_broken_line_among_lines() -> None:
    """LIST-04: a first line that is cut does not swallow those behind it."""
    body = read(b'{"t":"end",\n' + json.dumps(GOOD).encode(), sender())
    assert (len(body.arrivals), [r.line for r in body.refused], body.single) == (1, [1], False)


@pytest.mark.parametrize("plain", [b"", b" \n\t", b"[", b"[{}", b"[1] 2", b'["', b"[}"])
def test_a_body_that_cannot_be_read(plain: bytes) -> None:
    """wire.md 5: a body that cannot be read at all is 400."""
    if plain == b"[}":
        assert read(plain, sender()).arrivals == []
        return
    with pytest.raises(HttpProblem) as caught:
        read(plain, sender())
    assert caught.value.status == 400


def test_too_many_records() -> None:
    """A body of countless tiny records is refused whole, before its answer grows larger than it."""
    with pytest.raises(HttpProblem) as caught:
        body_of(*[b"1"] * (limits.BODY_RECORDS + 1))
    assert caught.value.status == 413
    assert len(body_of(*[b"1"] * limits.BODY_RECORDS).refused) == limits.BODY_RECORDS


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.booleans())
@example(b'[{"a":"\\', False, False)
@example(b"]", False, False)
def test_any_bytes_are_read_or_refused(plain: bytes, batch: bool, postgres: bool) -> None:
    """Bad input: whatever comes, the answer is a body read or a 400; never another error."""
    try:
        body = read(plain, sender(batch=batch, postgres=postgres))
    except HttpProblem as problem:
        assert problem.status == 400
    else:
        assert not body.arrivals


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with sqlite_in(tmp_path_factory.mktemp("store")) as opened:
        yield opened


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_in_any_field(opened: Open, data: st.DataObject) -> None:
    """Bad input: any JSON in place of any field of any kind is refused with a reason, or taken and then stored."""
    kind, whole = data.draw(st.sampled_from(ALL_KINDS))
    changed = json.loads(json.dumps(whole))
    place, key = changed, data.draw(st.sampled_from(sorted(changed)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(_json)
    line = item(changed, k=kind, id=new_id())
    body = body_of(line, LINE)
    assert body.arrivals[-1][0] == 2
    assert len(body.arrivals) + len(body.refused) == 2
    assert all("log says more" not in problem.problem for refusal in body.refused for problem in refusal.problems)
    assert set(opened.write(*(arrival for _, arrival in body.arrivals))) <= {"stored", "duplicate", "expired"}


def _kinds() -> list[tuple[str, dict[str, Any]]]:
    whole_end = {
        **GOOD,
        "ss": [1, 2],
        "cpu": {"user_us": 1, "system_us": 2},
        "memory": {"peak_bytes": 1},
        "sql": {"n": 1, "ms": 1.5, "connections": [{"driver": "pgsql"}], "queries": [{"sql": "S", "ms": 1, "c": 0}]},
        "calls": [{"kind": "http", "target": "x", "n": 1, "ms": 1}],
        "profile": {"kind": "xhprof", "edges": {"main()==>a": {"ct": 1, "wt": 5}}},
        "fatal": {"type": 1},
        "response": {"status": 200},
        "server": {"hostname": "h"},
    }
    excimer = {**GOOD, "profile": {"kind": "excimer", "period_us": 10, "stacks": "a;b 2"}}
    with gzip.open(WIRE / "version1-real.ndjson.gz") as file:
        v1 = json.loads(file.readline())
    v1["xhprof"] = dict(list((v1.get("xhprof") or {}).items())[:3])
    cells = {"endpoint": {"values": ["a"], "columns": {"requests": [1], "histogram": [[[1, 1]]]}}}
    seen = {"id": new_id(6), "at": NOON, "secs": 10, "v": 2, "cells": cells, "links": [], "load": {"running": [1]}}
    pg = {"source": "s", "data": {}, "at": NOON, "timestamp": "x", "correlation_id": "c", "host": "h"}
    died = {"id": new_id(7), "at": NOON, "ms": 1, "route": "/x", "client": "10.0.0.1"}
    return [("end", whole_end), ("end", excimer), ("v1", v1), ("frame", seen), ("pg", pg), ("died", died)]


ALL_KINDS = _kinds()
