"""What one request adds, and that it adds up."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import cells, limits, profile
from bitville_apm.cells import Columns, bucket, percentile
from bitville_apm.profile import Function, Profile
from bitville_apm.reading import read_item, read_line
from bitville_apm.requests import functions_of, profile_of, request_of
from tests import wire


@given(st.floats(min_value=1, max_value=1e12))
def test_a_bucket_is_read_back_within_five_percent(us: float) -> None:
    """Wire: bucket i = ceil(ln(µs)/ln 1.1), read back as 1.1^(i-1/2)."""
    back = percentile({bucket(us): 1}, 0.5)
    assert back is not None
    assert abs(back - us) <= us * 0.05 + 0.1


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_of_a_histogram(durations: list[int], share: float) -> None:
    """A percentile from buckets is the true one within a bucket's width."""
    histogram: dict[int, int] = {}
    for us in durations:
        histogram[bucket(us)] = histogram.get(bucket(us), 0) + 1
    true = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found = percentile(histogram, share)
    assert found is not None
    assert abs(found - true) <= true * 0.05 + 0.1


def test_an_empty_histogram_has_no_percentile() -> None:
    """Nothing counted is not zero."""
    assert percentile({}, 0.5) is None


columns = st.builds(
    Columns,
    requests=st.integers(0, 9),
    executions=st.none() | st.integers(0, 9),
    wall_us=st.integers(0, 99),
    max_us=st.integers(0, 99),
    blocked_s=st.integers(0, 9).map(float),
    histogram=st.dictionaries(st.integers(0, 5), st.integers(1, 5), max_size=3),
)


@given(st.lists(columns, max_size=5), st.randoms())
def test_columns_add_in_any_order(parts: list[Columns], random: object) -> None:
    """Wire: columns are additive but for max; not counted plus not counted stays not counted."""
    forward, shuffled = Columns(), Columns()
    for part in parts:
        forward.add(part)
    random.shuffle(parts)  # type: ignore[attr-defined]
    for part in parts:
        shuffled.add(part)
    assert forward == shuffled
    assert forward.requests == sum(p.requests for p in parts)
    assert forward.max_us == max((p.max_us for p in parts), default=0)
    assert (forward.executions is None) == all(p.executions is None for p in parts)


def test_adding_leaves_the_added_alone() -> None:
    """A cell that was added to another can be added to a third."""
    whole, one = Columns(), Columns(requests=1, histogram={3: 1})
    whole.add(one)
    whole.add(one)
    assert (whole.histogram, one.histogram) == ({3: 2}, {3: 1})


def test_what_a_request_adds() -> None:
    """One end in its dimensions: endpoint with its duration, statements with executions, functions by self time."""
    line = read_line(wire.lines("end.ndjson")[0], 0)
    found = cells.of_request(request_of(line), profile_of(line.message))
    endpoint = found["endpoint", "GET /product/{id}"]
    assert (endpoint.requests, endpoint.wall_us, endpoint.cpu_us, endpoint.sql_us) == (1, 812_400, 310_000, 431_500)
    assert endpoint.histogram == {bucket(812_400): 1}
    assert found["statement", "SELECT pg_sleep(?)"].executions == 2
    assert found["client", "203.0.113.0/24"].requests == 1
    assert found["external", "api.payments.example"].wall_us == 55_500
    assert found["release", "2026-11-20-1"].requests == found["agent", "browser"].requests == 1
    functions = {value: c for (dimension, value), c in found.items() if dimension == "function"}
    assert functions["Shop\\Product::load"].wall_us == 430_000
    assert functions["Shop\\Product::load"].executions is None
    assert sum(c.cpu_us for c in functions.values()) <= 310_000


def test_functions_beyond_the_cap_are_other() -> None:
    """A profile of 5,000 functions adds at most the cap and `~other`, and nothing of its time is lost."""
    functions = tuple(Function(f"f{i}", 10, 10, 1, None) for i in range(5000))
    request = request_of(read_line(wire.lines("end.ndjson")[2], 0))
    found = cells.of_request(request, Profile(functions, 50_000))
    mine = {value: c for (dimension, value), c in found.items() if dimension == "function"}
    assert len(mine) == limits.DIMENSION_CAPS["function"] + 1
    assert sum(c.wall_us for c in mine.values()) == 50_000


@given(st.integers(0, 2**53), st.lists(st.integers(0, 2**53), max_size=50))
def test_spread_parts_add_up(amount: int, weights: list[int]) -> None:
    """What is spread is neither lost nor made: the parts are whole, in proportion, and add up."""
    parts = cells.spread(amount, weights)
    assert len(parts) == len(weights)
    assert sum(parts) == (amount if any(weights) else 0)
    assert all(part >= 0 for part in parts)
    if any(weights) and amount < 2**40:
        assert all(abs(p - amount * w / sum(weights)) <= 2 for p, w in zip(parts, weights, strict=True))


def test_cpu_goes_to_functions_less_their_waits() -> None:
    """A function that only waited for its statement gets none of the CPU, and the CPU adds up to the request's."""
    stack = ["/srv/shop/Product.php:12 Shop\\Product->load"]
    body = json.loads(wire.lines("end.ndjson")[0])
    body["sql"]["queries"] = [{"sql": "SELECT pg_sleep(1)", "ms": 430, "stack": stack}]
    line = read_line(json.dumps(body).encode(), 0)
    tables: cells.Tables = {}
    cells.add_request(tables, request_of(line), functions_of(line.message))
    functions = tables["function"]
    assert functions["Shop\\Product::load"].wall_us == 430_000
    assert functions["Shop\\Product::load"].cpu_us == 0
    assert functions["Shop\\Page::product"].cpu_us == 310_000
    assert sum(c.queue_us for c in functions.values()) == 42_000


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a;b", "a;b;c", "b", ";", "a;;b;", "", "a b;c d"]), st.integers(0, 10**17)),
        max_size=12,
    ),
    st.integers(1, 10**5),
)
def test_self_times_are_the_same_by_both_ways(samples: list[tuple[str, int]], period_us: int) -> None:
    """Adding up reads only leaves; it finds the same self times as the complete reading of a profile."""
    stacks = "\n".join(f"{stack} {count}" for stack, count in samples)
    whole = {f.name: f.self_us for f in profile.from_excimer(stacks, period_us).functions if f.self_us}
    assert {name: us for name, us in profile.own_times(stacks, period_us).items() if us} == whole


def test_a_frames_cells_are_read_back() -> None:
    """Wire: columns as arrays, a missing column is zeros, a histogram is pairs."""
    frame = next(line for item, line in map(read_item, wire.lines("items.ndjson")) if item.k == "frame").message
    read = {(dimension, value): c for dimension, value, c in cells.of_frame(frame)}
    assert read["endpoint", "GET /product/{id}"] == Columns(
        requests=1, wall_us=812_400, cpu_us=310_000, histogram={143: 1}
    )
    assert read["endpoint", cells.OTHER].requests == 2
