"""What a frame holds (wire.md 6): its bounds, what is folded into others, links; it reads back as what was added."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import cells, limits
from bitville_apm.agent import frames
from bitville_apm.agent.frames import Said
from bitville_apm.agent.rollup import Rollup
from bitville_apm.agent.window import Window, fold, ranked
from bitville_apm.cells import OTHER, SUMS, Columns, bucket
from bitville_apm.reading import read_body, read_line
from bitville_apm.records import Frame
from bitville_apm.requests import StatementUse, functions_of, request_of
from tests import wire
from tests.agent.rollup_rig import T, made, names, sealed, totals

columns = st.builds(
    Columns,
    requests=st.integers(0, 9),
    executions=st.none() | st.integers(0, 9),
    wall_us=st.integers(0, 10**6),
    cpu_us=st.integers(0, 10**6),
    queue_us=st.integers(0, 99),
    blocked_s=st.integers(0, 9).map(float),
    waiting_s=st.integers(0, 9).map(float),
    max_us=st.integers(0, 99),
    errors=st.integers(0, 3),
    histogram=st.dictionaries(st.integers(0, 300), st.integers(1, 5), max_size=3),
)

tables = st.dictionaries(names, columns, max_size=30)


def total(parts: Any) -> Columns:
    whole = Columns()
    for part in parts:
        whole.add(part)
    return whole


@settings(max_examples=40)
@given(tables, st.integers(0, 60))
def test_folding_into_other_keeps_the_sums(table: dict[str, Columns], n: int) -> None:
    """Wire: what a cap leaves out is in `~other`, an ordinary last value."""
    before = total(table.values())
    fold(table, ranked(table)[n:])
    assert total(table.values()) == before


@settings(max_examples=40)
@given(tables, st.frozensets(names), st.integers(1, 20))
def test_what_is_kept(table: dict[str, Columns], before: frozenset[str], cap: int) -> None:
    """The heavier half of the room goes by weight; a value of the last frame stays before others while not zero."""
    kept = frames.kept_values(table, cap, before)
    order = ranked(table)
    assert len(kept) == min(cap, len(order))
    assert kept == [value for value in order if value in set(kept)]
    assert set(order[: cap - cap // 2]) <= set(kept)
    lost = [v for v in order if v in before and v not in kept and any(getattr(table[v], n) for n in SUMS)]
    fresh = [v for v in kept if v in order[cap - cap // 2 :] and v not in before]
    assert not (lost and fresh)


@settings(max_examples=40)
@given(tables, st.lists(st.integers(1, 10**9), max_size=30))
def test_a_frame_reads_back_as_what_was_added(table: dict[str, Columns], durations: list[int]) -> None:
    """Wire: caps, `~other`, missing columns and histograms survive encoding; percentiles stay within 5 %."""
    for us in durations:
        held = table.setdefault("n0", Columns())
        held.requests += 1
        held.histogram[bucket(us)] = held.histogram.get(bucket(us), 0) + 1
    window = Window(T, tables={"endpoint": dict(table), "wait": dict(table)})
    said = Said("00000000-0000-5000-8000-000000000000", (1, 2, 3), True, False)
    body, kept = frames.encoded(window, said, {})
    frame: Frame = read_body("frame", body, 0).message
    assert (frame.covers, frame.final, frame.late, frame.at) == ((1, 2, 3), True, False, T)
    read = {(d, v): c for d, v, c in cells.of_frame(frame)}
    assert len(kept["wait"]) <= limits.DIMENSION_CAPS["wait"]
    for dimension in ("endpoint", "wait") if table else ():
        found, true = total(c for (d, _), c in read.items() if d == dimension), total(table.values())
        if dimension == "wait":
            true.histogram = {}
        assert found == true
    for value in kept["endpoint"]:
        assert read["endpoint", value] == table[value]


def test_values_beyond_the_bound_fold_into_other() -> None:
    """A crawler with a path for each request cannot eat the agent's memory, and a heavy newcomer is still seen."""
    rollup = Rollup()
    for n in range(limits.VALUES_HELD + 100):
        rollup.record(made(n, endpoint=f"GET /{n}", ms=1), [], (1, n + 1), T + 5, 0)
        assert len(rollup.epochs[0].windows[T].tables["endpoint"]) <= limits.VALUES_HELD
    rollup.record(made(999_999, endpoint="GET /slow", ms=60_000, at=T - 57), [], (1, n + 2), T + 5, 0)
    found = sealed(rollup)
    assert totals(found)["endpoint"].requests == limits.VALUES_HELD + 101
    assert found[-1].cells["endpoint"].values[0] == "GET /slow"
    assert found[-1].cells["endpoint"].values[-1] == OTHER
    assert len(found[-1].cells["endpoint"].values) == limits.DIMENSION_CAPS["endpoint"] + 1


def test_requests_over_one_percent_are_named() -> None:
    """Wire: the killer request has its id in the frame, the thousand others are `~other`."""
    rollup = Rollup()
    for n in range(1, 1000):
        rollup.record(made(n, ms=10), [], (1, n), T + 5, 0)
    rollup.record(made(1000, at=T - 4, ms=9000), [], (1, 1000), T + 5, 0)
    frame = sealed(rollup)[-1]
    assert frame.cells["request"].values == ["00000000-0000-4000-8000-000000001000", OTHER]
    assert frame.cells["request"].columns["requests"] == [1, 999]


def test_an_endless_name_fits_a_frame() -> None:
    """Names as long as they may be: the frame keeps fewer values and stays within its bound, nothing is lost."""
    rollup = Rollup()
    for n in range(1, 1001):
        use = StatementUse("f", f"{n}" + "ü" * 5000, 1, 1.0, 1.0, 0)
        rollup.record(made(n, statements=(use,), endpoint=f"{n}" + "x" * 5000), [], (1, n), T + 5, 0)
    found = sealed(rollup)
    assert totals(found)["statement"].executions == 1000
    assert totals(found)["endpoint"].requests == 1000
    rollup.record(made(1), [], (1, 1001), T + 15, 0)
    epoch = rollup.due(T + 1e9, 0)
    assert epoch is not None
    assert len(rollup.parts(epoch, str)[0].body) < limits.FRAME_BYTES


def test_absurd_numbers_do_not_spoil_a_frame() -> None:
    """A record with the largest numbers allowed, a hundred times: the frame is one that a collector takes."""
    line = (
        b'{"t":"end","v":2,"id":"%d","at":1800000001,"ms":1e11,"request":{"method":"GET","uri":"/"},'
        b'"ss":[9007199254740992,9007199254740992],"sql":{"n":9007199254740992,"ms":1e11,"queries":'
        b'[{"sql":"SELECT 1","ms":1e11,"n":9007199254740992,"failed":-5}]},'
        b'"profile":{"kind":"excimer","period_us":9007199254740992,"stacks":"a;b 999999999999999"}}'
    )
    rollup = Rollup()
    for n in range(100):
        read = read_line(line % n, 0)
        rollup.record(request_of(read), functions_of(read.message), (1, n + 1), T + 5, 0)
    assert totals(sealed(rollup))["endpoint"].requests == 100


def test_links() -> None:
    """Wire: client and release to endpoint, endpoint to function and statement, of values that the frame keeps."""
    line = read_line(wire.lines("end.ndjson")[0], 0)
    rollup = Rollup()
    rollup.record(request_of(line), functions_of(line.message), (1, 1), 1_795_231_262.0, 0)
    (frame,) = sealed(rollup)
    found = {link[:4]: link[4:] for link in frame.links}
    assert found["client", "203.0.113.0/24", "endpoint", "GET /product/{id}"] == (1, None, 0.352)
    assert found["release", "2026-11-20-1", "endpoint", "GET /product/{id}"] == (1, None, 0.352)
    assert found["endpoint", "GET /product/{id}", "statement", "SELECT pg_sleep(?)"] == (1, 2, 0.43)
    parts = [task_s for key, (_, _, task_s) in found.items() if key[2] == "function"]
    assert abs(sum(parts) - 0.352) < 1e-6  # type: ignore[operator]


def test_links_are_bounded() -> None:
    """At most 400 in a frame and some thousands while it is open; the heaviest stay."""
    rollup = Rollup()
    for n in range(3 * limits.LINKS_HELD):
        request = made(n, endpoint=f"e{n % 150}", client=f"10.{n % 250}.{n // 250 % 250}.1", cpu_us=1)
        rollup.record(request, [], (1, n + 1), T + 5, 0)
    rollup.record(made(10**6, endpoint="e1", client="192.0.2.1", cpu_us=10**6), [], (1, 10**5), T + 5, 0)
    assert rollup.epochs[0].windows[T].links.count <= limits.LINKS_HELD
    frame = sealed(rollup)[-1]
    assert 0 < len(frame.links) <= limits.FRAME_LINKS
    assert frame.links[0][1] == "192.0.2.0/24"
