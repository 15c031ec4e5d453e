"""Endpoints: the vectors, and what holds for any method, path and route."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.endpoints import endpoint

VECTORS = Path(__file__).parent / "wire" / "endpoints.tsv"
TEXT = st.text(alphabet=st.characters(), max_size=200)
IDS = st.one_of(
    st.integers(0, 10**30).map(str),
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
    st.dates().map(str),
    st.dates().map(lambda day: day.strftime("%Y%m%d")),
    st.from_regex(r"[0-9a-f]{8,64}", fullmatch=True).filter(lambda text: re.search("[0-9]", text)),
    st.from_regex(r"[A-Za-z0-9_-]{10,60}", fullmatch=True).map(lambda text: "aB3" + text + "xyz"),
)


def unescape(field: str) -> str:
    known = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return re.sub(r"\\(?:x([0-9a-f]{2})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else known[m[2]], field)


def test_vectors() -> None:
    """PHP-15: every shared vector of method, URI and route gives its endpoint."""
    lines = VECTORS.read_text("utf-8").splitlines()[1:]
    assert len(lines) >= 100
    for line in lines:
        method, uri, route, expected = map(unescape, line.split("\t"))
        assert (line, endpoint(method, uri, route or None)) == (line, expected)


@given(method=TEXT, uri=TEXT, route=st.none() | TEXT)
def test_any_request_has_a_name(method: str, uri: str, route: str | None) -> None:
    """An endpoint is never empty, fits its limit in UTF-8, is on one line, and finding it never raises."""
    name = endpoint(method, uri, route)
    assert 0 < len(name.encode()) <= limits.ENDPOINT_BYTES
    assert len(name.splitlines()) == 1


@given(first=IDS, second=IDS)
def test_what_varies_is_not_in_the_name(first: str, second: str) -> None:
    """PHP-15: requests that differ in an id, a date or a token alone are one endpoint, CLI included."""
    assert endpoint("GET", f"/a/{first}/b?x={first}") == endpoint("GET", f"/a/{second}/b/") == "GET /a/{}/b"
    assert endpoint("CLI", f"job.php --user={first}") == endpoint("CLI", f"job.php --user={second}")


@given(path=st.lists(st.from_regex(r"[a-z]{1,7}", fullmatch=True), max_size=8))
def test_plain_paths_stay(path: list[str]) -> None:
    """A path of short lower-case words is its own name, however often slashes are doubled or percent signs used."""
    expected = "GET /" + "/".join(path)
    assert endpoint("GET", "//" + "//".join(path) + "/") == expected
    assert endpoint("GET", "/" + "/".join("".join(f"%{ord(c):02x}" for c in word) for word in path)) == expected


@given(route=st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=30))
def test_a_route_wins(route: str) -> None:
    """PHP-15: a route that a framework named is the endpoint, whatever the path, ids in it included."""
    assert endpoint("GET", f"/x/{uuid.UUID(int=7)}", route) == route
    assert endpoint("GET", "/x/7", f"  {route}\n") == route


def test_long_paths_are_read_once() -> None:
    """A path of a megabyte of anything takes no time worth a limit of its own."""
    for piece in "a", "/", "%", "%41", "/aB3", "a1", "://", "é", "/a-":
        assert endpoint("GET", "/" + piece * (1_000_000 // len(piece))).startswith("GET /")
