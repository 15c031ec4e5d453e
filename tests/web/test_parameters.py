"""Parameters of URLs: each read by its kind, a wrong one refused by its name."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.http import HttpProblem
from bitville_apm.records import canonical_id
from bitville_apm.web.parameters import Parameters, search_of
from bitville_apm.web.ranges import range_of
from bitville_apm.web.scope import Scope

NOW = 1_790_000_030.0


def of(**given_: str) -> Parameters:
    return Parameters({name.rstrip("_").encode(): [value.encode()] for name, value in given_.items()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "ruby"), ("correlation_id", ""), ("status", "abc"), ("status", "1000"), ("status", "-1"),
        ("status", "२"), ("duration_min", "fast"), ("duration_min", "-1"), ("duration_max", "nan"),
        ("duration_max", "inf"), ("timestamp_start", "yesterday"), ("timestamp_start", "2026-02-30"),
        ("timestamp_end", "2026-01-01T25:00:00"), ("timestamp_end", "-5"), ("timestamp_end", "1e9"),
        ("sort", "price"), ("limit", "0"), ("limit", "101"), ("limit", "1.5"), ("url", "x" * 2049),
        ("colour", "red"), ("timestamp", "5"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(name: str, value: str) -> None:
    """QUERY-02: a wrong parameter, or one that does not exist, is 400 with its name."""
    with pytest.raises(HttpProblem) as caught:
        search_of(of(**{name: value}))
    assert caught.value.status == 400
    assert caught.value.details[0]["field"] == name
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("low", "high", "field"),
    [("duration_min=5", "duration_max=4", "duration_max"), ("timestamp_start=5", "timestamp_end=4", "timestamp_end")],
)
def test_ranges_the_wrong_way_round(low: str, high: str, field: str) -> None:
    """QUERY-02: a range that ends before it begins is refused, not answered with nothing."""
    with pytest.raises(HttpProblem) as caught:
        search_of(of(**dict([low.split("="), high.split("=")])))
    assert caught.value.details[0]["field"] == field


def test_twice_the_same_parameter() -> None:
    """QUERY-02: two values for one parameter are refused; neither is silently dropped."""
    with pytest.raises(HttpProblem, match="status: given more than once"):
        search_of(Parameters({b"status": [b"1", b"2"]}))


def test_right_parameters() -> None:
    """QUERY-02: every parameter arrives as its kind; an id in the form under which it is stored."""
    project, search = search_of(
        of(
            project="shop", source="php_agent", correlation_id="ABC", url="/a%b", endpoint="GET /a", status="500",
            host="web1", release="r1", duration_min="10", duration_max="20.5", timestamp_start="2026-01-01T00:00:00Z",
            timestamp_end="1767225601.5", sort="time", after="x", limit="7",
        )
    )  # fmt: skip
    assert project == "shop"
    assert search.correlation_id == canonical_id("ABC")
    assert (search.status, search.duration_max, search.limit, search.sort) == (500, 20.5, 7, "time")
    assert (search.timestamp_start, search.timestamp_end) == (1767225600.0, 1767225601.5)


@pytest.mark.parametrize(
    "text",
    ["2026-01-01", "2026-01-01T00:00", "2026-01-01 00:00:00", "2026-01-01T00:00:00.000Z", "2026-01-01t01:00:00+01:00"],
)
def test_times(text: str) -> None:
    """QUERY-02: times are unix seconds or ISO 8601, in UTC where they name no zone."""
    assert of(at=text).moment("at") == 1767225600.0


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """QUERY-02: no text for a time, number or choice makes an error of ours."""
    for read in ("moment", "number"):
        try:
            value = getattr(Parameters({b"x": [text.encode("utf-8", "replace")]}), read)("x")
        except HttpProblem as problem:
            assert problem.status == 400
        else:
            assert 0 <= value < math.inf


def test_default_range_is_the_last_hour() -> None:
    """QUERY-01: without from and to, the last whole sixty minutes."""
    found = range_of(None, None, NOW)
    assert (found.end - found.start, found.end % 60, found.widened) == (3600, 0, False)
    assert found.start < NOW <= found.end


@given(st.floats(1e9, 2e9), st.floats(1, 90 * 86400))
def test_ranges_cover_what_was_asked_for(start: float, length: float) -> None:
    """QUERY-01: a range is widened outwards, to minutes, beyond six hours to hours, and says so."""
    found = range_of(start, start + length, NOW)
    step = 3600 if found.widened else 60
    assert found.start % step == found.end % step == 0
    assert found.start <= start < start + length <= found.end
    assert found.end - found.start <= length + 2 * step
    assert found.widened == (found.end - found.start > limits.MINUTES_WINDOW_S)


@pytest.mark.parametrize("last", ["15m", "1h", "6h", "24h", "7d"])
def test_a_scope_says_its_range_in_its_address(last: str) -> None:
    """QUERY-01: a page's address keeps its range, and a fixed address keeps it for ever."""
    scope = Scope.of(Parameters({b"last": [last.encode()]}))
    assert ("last" not in scope.url("/")) == (last == "1h")
    start, _ = scope.window(NOW)
    fixed = scope.fixed(NOW)
    assert fixed.window(NOW + 1e6) == (start, NOW)
    assert scope.range(NOW).widened == (last in ("24h", "7d"))
