"""Reading what travels: every golden line, and everything that is refused."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import checks, limits, records
from bitville_apm.checks import Refused
from bitville_apm.reading import read_item, read_line
from bitville_apm.records import canonical_id
from tests import wire

RECV = 1_795_231_262_600


def refused(line: bytes) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        read_line(line, RECV)
    return [(p.field, p.problem) for p in caught.value.problems]


@pytest.mark.parametrize("kind", ["begin", "route", "end", "spooled", "count"])
def test_golden_lines_are_read_and_kept_as_they_came(kind: str) -> None:
    """Every golden line of a client is read as its kind, and its bytes travel on unchanged."""
    for line in wire.lines(f"{kind}.ndjson"):
        read = read_line(line, RECV)
        assert read.kind == kind
        assert read.body == line


def test_all_74_real_records_are_read() -> None:
    """Version 1 is accepted for ever: the real records are read by the fast path, bytes unchanged."""
    lines = wire.real_version1()
    assert len(lines) == 74
    for line in lines:
        read = read_line(line, RECV)
        assert (read.kind, read.body) == ("v1", line)
        assert read.id == json.loads(line)["correlation_id"]


def test_second_spelling_of_version_1_is_read() -> None:
    """The other spelling found in the field is the same kind of record; PHP's [] stands for an empty object."""
    first, second = (read_line(line, RECV) for line in wire.lines("version1-second-spelling.ndjson"))
    assert first.id == "7d444840-9dc0-11d1-b245-5ffdce74fad2"
    assert first.message.response["headers"] in ([], {})
    assert second.id == str(uuid.uuid5(records.ID_NAMESPACE, "order-778"))


def test_items_of_every_kind_are_read() -> None:
    """Every golden item of an agent is read, its body as its own kind."""
    kinds = []
    for line in wire.lines("items.ndjson"):
        item, read = read_item(line)
        assert item.k == read.kind
        assert read.id == item.id
        kinds.append(item.k)
    assert set(kinds) == {"end", "v1", "died", "frame", "pg"}


def test_unknown_fields_are_kept() -> None:
    """Refused on arrival: unknown fields are not; they travel in the body."""
    line = b'{"t":"begin","id":"%s","at":1,"new":{"field":[1,2]}}' % str(uuid.uuid4()).encode()
    assert read_line(line, RECV).body == line


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        (b"", "", "not JSON"),
        (b"{", "", "not JSON"),
        (b"\xff\xfe", "", "not JSON"),
        (b"[]", "", "not an object but an array"),
        (b"3", "", "not an object but a number"),
        (b"null", "", "not an object but null"),
        (b'{"t":"finish","id":"a"}', "t", "unknown"),
        (b'{"t":7,"id":"a"}', "t", "unknown"),
        (b'{"t":"begin","at":1}', "id", "missing"),
        (b'{"t":"begin","id":"","at":1}', "id", "length >= 1"),
        (b'{"t":"begin","id":"a","at":"now"}', "at", "got `str`"),
        (b'{"t":"begin","id":"a","at":-1}', "at", ">= 0"),
        (b'{"t":"begin","id":"a","at":NaN}', "", "NaN"),
        (b'{"t":"begin","id":"a","at":Infinity}', "", "Infinity"),
        (b'{"t":"begin","id":"a","at":1e999}', "at", "64 bits"),
        (b'{"t":"begin","id":"a","at":1,"x":9223372036854775808}', "x", "64 bits"),
        (b'{"t":"begin","id":"a","at":1,"x":[{"y":-9223372036854775809}]}', "x[0].y", "64 bits"),
        (b'{"t":"begin","id":"a","at":1,"x":' + b"[" * 64 + b"]" * 64 + b"}", "", "nested deeper than 64"),
        (b'{"t":"begin","id":"a","at":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "nested deeper"),
        (b'{"t":"begin","id":"a","at":1,"x":' + b"9" * 5000 + b"}", "", "not JSON"),
        (b'{"correlation_id":"a"}', "elapsed_ms", "no duration"),
        (b'{"correlation_id":"a","elapsed_ms":3}', "timestamp", "no time"),
    ],
)
def test_refused_on_arrival(line: bytes, field: str, problem: str) -> None:
    """Refused on arrival: each with the field it is about and what is wrong with it."""
    assert any(f == field and problem in p for f, p in refused(line)), refused(line)


def test_all_wrong_fields_are_named() -> None:
    """LIST-04: not only the first error of a record is told."""
    line = {
        "t": "end",
        "v": 2,
        "at": "x",
        "ms": 1,
        "request": {"uri": 5},
        "sql": {"queries": [{"sql": "select", "ms": 1}, {"sql": 1}]},
        "profile": {"kind": "perf"},
    }
    fields = {field for field, _ in refused(json.dumps(line).encode())}
    assert fields == {
        "id",
        "at",
        "request.method",
        "request.uri",
        "sql.queries[1].sql",
        "sql.queries[1].ms",
        "profile.kind",
    }


def test_errors_are_bounded() -> None:
    """A record broken in a thousand places is described by a bounded number of them."""
    queries = [{"sql": 1, "ms": 1}] * 1000
    line = {"t": "end", "v": 2, "id": "a", "at": 1, "ms": 1, "request": {"method": "GET", "uri": "/"}}
    assert len(refused(json.dumps({**line, "sql": {"queries": queries}}).encode())) == limits.PROBLEMS


def test_lone_surrogates_become_replacement_characters() -> None:
    """Refused on arrival: lone surrogates are not, they become U+FFFD wherever they stand."""
    line = b'{"t":"begin","id":"a","at":1,"uri":"/\\ud800","x":["\\udc00y","\\ud83d\\ude00"]}'
    read = read_line(line, RECV)
    assert read.message.uri == "/\ufffd"
    assert json.loads(read.body)["x"] == ["\ufffdy", "\U0001f600"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (b"\\ud800", "\ufffd"),
        (b"\\uDFFF.", "\ufffd."),
        (b"\\ud83d\\ude00", "\U0001f600"),
        (b"\\ude00\\ud83d", "\ufffd\ufffd"),
        (b"\\\\ud83d", "\\ud83d"),
        (b"\\\\ud83d\\ude00", "\\ud83d\ufffd"),
        (b"\xff", "\ufffd"),
    ],
)
def test_text_is_repaired_in_unknown_fields_too(written: bytes, kept: str) -> None:
    """Refused on arrival: what is kept of unknown fields can be read by everybody downstream."""
    read = read_line(b'{"t":"begin","id":"a","at":1,"x":"' + written + b'"}', RECV)
    assert json.loads(read.body)["x"] == kept


def test_invalid_utf8_becomes_replacement_characters() -> None:
    """Bytes that are no UTF-8 do not cost the record."""
    assert read_line(b'{"t":"begin","id":"a","at":1,"uri":"/\xff"}', RECV).message.uri == "/\ufffd"


def test_phps_empty_array_is_an_empty_object() -> None:
    """Wire: PHP's `[]` is taken for an empty object wherever one belongs."""
    line = wire.lines("end.ndjson")[2][:-1] + b',"response":[],"sql":[],"memory":[]}'
    read = read_line(line, RECV)
    assert read.message.sql.n == 0
    assert json.loads(read.body)["response"] == {}
    line = wire.lines("end.ndjson")[2][:-1] + b',"sql":{"connections":[[],{"driver":"pgsql"}]}}'
    read = read_line(line, RECV)
    assert [connection.driver for connection in read.message.sql.connections] == [None, "pgsql"]
    assert json.loads(read.body)["sql"]["connections"] == [{}, {"driver": "pgsql"}]


def test_too_long_a_line_is_refused_as_oversize() -> None:
    """A line over 8 MiB is refused with its reason, before it is decoded."""
    with pytest.raises(Refused) as caught:
        read_line(b'{"t":"begin","id":"a","at":1,"x":"' + b"a" * limits.LINE_BYTES + b'"}', RECV)
    assert caught.value.reason == "oversize"


def test_problems_of_an_items_body_say_so() -> None:
    """LIST-04: a field of the body is named under `body`, one of the envelope by itself."""
    with pytest.raises(Refused) as caught:
        read_item(b'{"k":"end","id":"a","seq":[1,2],"recv":1,"host":"h","body":{"v":2,"id":"a","at":1,"ms":1}}')
    assert [p.field for p in caught.value.problems] == ["body.request"]
    with pytest.raises(Refused) as caught:
        read_item(b'{"k":"ends","id":"a","seq":[1,-2],"host":"h","body":{}}')
    assert {p.field for p in caught.value.problems} == {"k", "recv", "seq"}


@given(st.uuids())
def test_uuids_are_one_id_however_spelt(value: uuid.UUID) -> None:
    """Wire: UUIDs are lower-cased with hyphens."""
    for spelling in (str(value), str(value).upper(), value.hex, value.hex.upper()):
        assert canonical_id(spelling) == str(value)


@given(st.text(min_size=1))
def test_other_ids_become_stable_uuids(text: str) -> None:
    """Wire: any other id becomes a uuid5 of itself, the same one every time."""
    clean = text.encode("utf-8", "replace").decode()
    assert canonical_id(clean) == canonical_id(clean)
    assert uuid.UUID(canonical_id(clean))


def test_a_version_1_record_without_id_is_named_by_itself_and_its_time() -> None:
    """Wire: sent again at another time it is another record; the same arrival keeps its id."""
    line = b'{"timestamp":1795231263,"elapsed_ms":3}'
    assert read_line(line, 1).id == read_line(line, 1).id
    assert read_line(line, 1).id != read_line(line, 2).id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["t", "v", "id", "at", "ms", "request", "sql", "x", "profile"]), json_values))
def test_reading_accepts_or_refuses_and_nothing_else(value: dict[str, object]) -> None:
    """Whatever JSON comes, it is read or refused with reasons; what was read, reads again the same."""
    line = json.dumps(value).encode()
    try:
        read = read_line(line, RECV)
    except Refused as error:
        assert error.problems
    else:
        assert read_line(read.body, RECV) == read


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(line: bytes) -> None:
    """Bytes that are no JSON at all never raise anything but `Refused`."""
    try:
        read_line(line, RECV)
    except Refused as error:
        assert error.problems


def test_encoding_an_item_keeps_its_body() -> None:
    """What an agent wraps, a collector unwraps byte for byte."""
    body = wire.real_version1()[0]
    item = records.Item(k="v1", id="a", body=msgspec.Raw(body), seq=(1, 2), recv=3, host="h")
    assert read_item(msgspec.json.encode(item))[1].body == body


@given(st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b'\\"', b"\\\\", b"a"]), max_size=60))
def test_the_quick_look_misses_no_depth(pieces: list[bytes]) -> None:
    """Whatever stands in strings: what the exact count calls too deep is looked at again, slowly."""
    body = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "DEPTH", 4)
        if checks._depth(checks._outside_strings(body)) > limits.DEPTH:
            assert checks.suspicious(body)


def test_many_small_objects_are_not_deep() -> None:
    """A record of hundreds of statements takes the quick path; brackets inside texts change nothing."""
    queries = [{"sql": 'SELECT "[{" \\ \\" {', "ms": 1.5, "stack": [{"a": ["b"]}]} for _ in range(300)]
    request = {"method": "GET", "uri": "/"}
    sql = {"n": 300, "queries": queries}
    line = json.dumps({"t": "end", "v": 2, "id": "x", "at": 1, "ms": 1, "request": request, "sql": sql}).encode()
    assert not checks.suspicious(line)
    assert read_line(line, RECV).body == line


@pytest.mark.parametrize("field", ["connections", "queries"])
def test_an_empty_object_is_no_list(field: str) -> None:
    """LIST-04: PHP's `[]` stands for an empty object, but `{}` where a list belongs is refused by its field."""
    line = {"t": "end", "v": 2, "id": "1", "at": 1.0, "ms": 1.0, "request": {"method": "GET", "uri": "/"}}
    with pytest.raises(Refused) as refused:
        read_line(json.dumps({**line, "sql": {field: {}}}).encode(), 0)
    assert [problem.field for problem in refused.value.problems] == [f"sql.{field}"]


def test_an_empty_list_stays_one_in_a_repaired_record() -> None:
    """LIST-04: where something else has to be repaired, an empty list of statements is not taken for an object."""
    line = {"t": "end", "v": 2, "id": "1", "at": 1.0, "ms": 1.0, "request": {"method": "GET", "uri": "/"}}
    raw = json.dumps({**line, "sql": {"queries": [], "connections": []}, "memory": [], "context": "?"}).encode()
    read = read_line(raw.replace(b'"?"', b'"\\ud800"'), 0)
    assert (read.message.sql.queries, read.message.sql.connections) == ([], [])
    assert read.message.memory == records.Memory()
