"""Frames: whatever comes in whatever order, what goes out adds up to it (wire.md 6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import cells, limits
from bitville_apm.agent import frames
from bitville_apm.agent.frames import Said
from bitville_apm.agent.inflight import Open, Peer
from bitville_apm.agent.rollup import PHP_OUTSIDE, Rollup, Task
from bitville_apm.agent.window import Window, fold, ranked, window_of
from bitville_apm.cells import OTHER, SUMS, Columns, Looked, bucket
from bitville_apm.collector.frames import problems
from bitville_apm.profile import Own
from bitville_apm.reading import read_body, read_line
from bitville_apm.records import Begin, Frame
from bitville_apm.requests import External, Request, StatementUse, functions_of, request_of
from tests import wire

T = 1_800_000_000
"""Some beginning of a window."""


def made(n: int = 0, *, at: float = T + 1, ms: float = 100.0, **more: Any) -> Request:
    """A request that ends `ms` after `at`."""
    fields: dict[str, Any] = {"method": "GET", "uri": "/", "endpoint": "GET /", "kind": "end", **more}
    return Request(id=f"00000000-0000-4000-8000-{n:012d}", at=at, ms=ms, **fields)


def sealed(rollup: Rollup, now: float = T + 1e9, start: int = 1, steady: float = 0.0) -> list[Frame]:
    """Everything that is due, read back as a collector reads it."""
    found = []
    while (epoch := rollup.due(now, steady)) is not None:
        names = (f"00000000-0000-5000-8000-{n:012d}" for n in range(start, start + 10**6))
        for part in rollup.parts(epoch, lambda n, names=names: next(names)):  # type: ignore[misc]
            frame: Frame = read_body("frame", part.body, 0).message
            assert b"\n" not in part.body
            assert list(problems(frame)) == []
            assert part.requests == sum(c.requests for d, _, c in cells.of_frame(frame) if d == "endpoint")
            found.append(frame)
        rollup.sealed(epoch, now)
    return found


def totals(found: list[Frame]) -> dict[str, Columns]:
    """Dimension -> the sum of all its values in all frames."""
    sums: defaultdict[str, Columns] = defaultdict(Columns)
    for frame in found:
        for dimension, _, columns in cells.of_frame(frame):
            sums[dimension].add(columns)
    return sums


def cell(found: list[Frame], dimension: str, value: str) -> Columns:
    """One value, summed over all frames."""
    total = Columns()
    for frame in found:
        for d, v, columns in cells.of_frame(frame):
            if (d, v) == (dimension, value):
                total.add(columns)
    return total


names = st.integers(0, 60).map(lambda n: f"n{n}")
requests = st.builds(
    Request,
    id=st.uuids().map(str),
    kind=st.sampled_from(["end", "end", "died", "v1"]),
    at=st.floats(T - 60, T + 30),
    ms=st.floats(0, 20_000),
    method=st.just("GET"),
    uri=st.just("/"),
    endpoint=names,
    status=st.sampled_from([None, 200, 500]),
    cpu_us=st.none() | st.integers(0, 10**6),
    queue_us=st.none() | st.integers(0, 10**5),
    sql_ms=st.floats(0, 1000),
    statements=st.lists(
        st.builds(
            StatementUse, st.just("f"), names, st.integers(1, 50), st.floats(0, 99), st.floats(0, 9), st.integers(0, 2)
        ),
        max_size=3,
    ).map(tuple),
    externals=st.lists(st.builds(External, names, st.integers(1, 9), st.floats(0, 99)), max_size=2).map(tuple),
    client=st.sampled_from([None, "203.0.113.9", "198.51.100.1", "2001:db8::1", "nobody"]),
    agent=st.sampled_from([None, "browser", "bot"]),
    release=st.none() | names,
)
functions = st.lists(
    st.builds(Own, names, st.integers(1, 10**6), st.none() | st.integers(0, 9), st.integers(0, 10**6)), max_size=5
)


@settings(max_examples=40)
@given(st.lists(st.tuples(requests, functions, st.floats(-1, 40)), max_size=20), st.randoms())
def test_nothing_is_lost_and_nothing_counted_twice(came: list[tuple[Request, list[Own], float]], random: Any) -> None:
    """I1: sums over all frames are the sums over the requests, whatever the windows, the caps and the sealing."""
    rollup, found = Rollup(), []
    for sequence, (request, own, later) in enumerate(came, 1):
        rollup.record(request, own, (1, sequence), T + later, 0.0)
        if random.random() < 0.1:
            found += sealed(rollup, T + later + random.random() * 20, sequence * 1000)
    found += sealed(rollup)
    sums = totals(found)
    endpoint = sums["endpoint"]
    assert endpoint.requests == len(came) == sums["request"].requests
    assert sum(endpoint.histogram.values()) == len(came)
    assert endpoint.errors == sum(request.failed for request, _, _ in came)
    assert endpoint.wall_us == sum(round(request.ms * 1000) for request, _, _ in came) == sums["request"].wall_us
    assert endpoint.cpu_us == sum(request.cpu_us or 0 for request, _, _ in came)
    assert endpoint.queue_us == sum(request.queue_us or 0 for request, _, _ in came)
    assert sums["statement"].executions == (sum(use.n for r, _, _ in came for use in r.statements) or None)
    assert sums["external"].requests == sum(len(r.externals) for r, _, _ in came)
    spread = [r.cpu_us or 0 for r, own, _ in came if own]
    assert sums["function"].cpu_us == sum(spread)
    assert sums["function"].wall_us == sum(f.us for _, own, _ in came for f in own)
    places = [frame.covers for frame in found if frame.final]
    covered = [n for first in places if first is not None for n in range(first[1], first[2] + 1)]
    assert covered == list(range(1, len(came) + 1))


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


def test_a_request_counts_in_the_window_of_its_end() -> None:
    """Wire: own window, an older one as a late part; never before recv - 6 days nor after recv."""
    rollup = Rollup()
    rollup.record(made(1, at=T + 2, ms=1000), [], (1, 1), T + 3, 0)
    rollup.record(made(2, at=T - 15, ms=1000), [], (1, 2), T + 4, 0)
    rollup.record(made(3, at=0, ms=1000), [], (1, 3), T + 5, 0)
    rollup.record(made(4, at=T + 99999, ms=1000), [], (1, 4), T + 6, 0)
    found = sealed(rollup)
    assert [(f.at, f.late, f.final, f.covers) for f in found] == [
        (T - 6 * 86400, True, False, (1, 1, 4)),
        (T - 20, True, False, (1, 1, 4)),
        (T, False, True, (1, 1, 4)),
    ]
    assert [sum(f.cells["endpoint"].columns["requests"]) for f in found] == [1, 1, 2]


def test_epochs_cover_the_journal_in_its_order() -> None:
    """A record that came after the window's end, or behind one that did, is the next epoch's; so is another run."""
    rollup = Rollup()
    for sequence, received in enumerate((T + 9, T + 10.1, T + 9.9, T + 12), 1):
        rollup.record(made(sequence, at=received - 1), [], (1, sequence), received, 0)
    rollup.record(made(9, at=T + 12), [], (2, 1), T + 13, 0)
    found = sealed(rollup)
    assert [(f.at, f.late, f.final, f.covers) for f in found] == [
        (T, False, True, (1, 1, 1)),
        (T, True, False, (1, 2, 4)),
        (T + 10, False, True, (1, 2, 4)),
        (T + 10, False, True, (2, 1, 1)),
    ]


def test_a_window_is_sealed_a_second_after_its_end() -> None:
    """Wire: not before; and a clock that was set neither opens a frame for days nor holds one back."""
    rollup = Rollup()
    rollup.record(made(1), [], (1, 1), T + 9, 100.0)
    assert rollup.due(T + 10.9, 101.0) is None
    assert rollup.due(T + 11.0, 101.0) is not None
    ahead = Rollup()
    ahead.record(made(1), [], (1, 1), T + 172_800, 100.0)
    assert ahead.due(T, 110.0) is None
    assert ahead.due(T, 111.0) is not None


def test_an_epoch_that_is_being_written_takes_nothing_more() -> None:
    """What comes while a frame is on its way to the disk is the next one's, and writing again gives the same."""
    rollup = Rollup()
    rollup.record(made(1), [], (1, 1), T + 9, 0)
    epoch = rollup.due(T + 11, 0)
    assert epoch is not None
    first = rollup.parts(epoch, str)
    rollup.record(made(2), [], (1, 2), T + 9, 0)
    assert rollup.parts(epoch, str) == first
    rollup.sealed(epoch, T + 11)
    assert [f.covers for f in sealed(rollup)] == [(1, 2, 2)]


def test_a_whole_spool_is_sealed_in_parts() -> None:
    """A night's spool touches thousands of windows: they are written a few hundred at a time, nothing is lost."""
    rollup = Rollup()
    for n in range(1, 1101):
        rollup.record(made(n, at=T - n * 10), [], (1, n), T + 1, 0)
        assert len(rollup.epochs[-1].windows) <= limits.WINDOWS_HELD
    found = sealed(rollup, T + 2)
    assert totals(found)["endpoint"].requests == 1000
    found += sealed(rollup)
    assert totals(found)["endpoint"].requests == 1100


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


def test_an_end_after_its_death_counts_once() -> None:
    """Taken for dead, then its record came from the spool: one request, one error, its time once."""
    rollup = Rollup()
    rollup.record(made(1, ms=500, kind="died"), [], (1, 1), T + 5, 0)
    rollup.record(made(1, ms=800, cpu_us=300, status=200), [], (1, 2), T + 6, 0)
    endpoint = totals(sealed(rollup))["endpoint"]
    assert (endpoint.requests, endpoint.errors, endpoint.wall_us, endpoint.cpu_us) == (1, 1, 800_000, 300)
    assert sum(endpoint.histogram.values()) == 1


def begun(n: int, **more: Any) -> Open:
    """A request in flight."""
    id_ = made(n).id
    begin = Begin(id=id_, at=T, method="GET", uri="/slow/1", client="203.0.113.9", **more)
    return Open(id=id_, begin=begin, body=b"", peer=Peer(1, 1), since=0.0)


def test_a_request_of_several_windows() -> None:
    """Wire: task-seconds go to the windows in which they were spent, functions follow as late frames; once each."""
    rollup, found, request = Rollup(), [], begun(7)
    for second in range(25):
        spent = Looked(cpu_us=400_000, queue_us=100_000, blocked_s=0.2, waiting_s=0.3)
        rollup.look(T + second + 0.5, second, 1.0, [Task(request, spent)], {"in_flight": 1.0})
        found += sealed(rollup, T + second + 0.5, second * 1000 + 1)
    ended = made(
        7, at=T, ms=25_200, endpoint="GET /slow/{}", cpu_us=10_050_000, queue_us=2_500_000, client="203.0.113.9"
    )
    own = [Own("f", 20_000_000, 5, 15_000_000), Own("g", 5_000_000, 1, 5_000_000)]
    rollup.record(ended, own, (1, 1), T + 25.3, 30)
    found += sealed(rollup)
    by_window = Counter[int]()
    functions_by_window = Counter[int]()
    for frame in found:
        for dimension, value, c in cells.of_frame(frame):
            if dimension == "endpoint":
                assert value == "GET /slow/{}"
                by_window[frame.at] += c.cpu_us
            elif dimension == "function":
                functions_by_window[frame.at] += c.cpu_us
                assert frame.late == (frame.at != T + 20)
    assert by_window == functions_by_window == {T: 4_000_000, T + 10: 4_000_000, T + 20: 2_050_000}
    linked = [(frame.at, link[3]) for frame in found for link in frame.links if link[0] == "endpoint"]
    assert sorted(linked) == [(at, name) for at in (T, T + 10, T + 20) for name in "fg"], "whose functions, also late"
    sums = totals(found)
    for dimension in ("endpoint", "client", "request"):
        assert sums[dimension].cpu_us == 10_050_000
        assert sums[dimension].queue_us == 2_500_000
        assert abs(sums[dimension].blocked_s - 5.0) < 1e-6
        assert sums[dimension].requests == 1
    assert sums["function"].queue_us == 2_500_000
    assert abs(sums["function"].blocked_s - 5.0) < 1e-6
    assert sums["function"].wall_us == 25_000_000
    assert sums["function"].executions == 6
    assert cell(found, "function", "f").requests == 1
    assert [f.seconds["in_flight"] for f in found if not f.late] == [[1.0] * 10, [1.0] * 10, [1.0] * 5 + [None] * 5]


def test_a_route_that_comes_late_names_the_window() -> None:
    """Wire: looks count under the best name known when the window is sealed."""
    rollup, request = Rollup(), begun(1)
    rollup.look(T + 1, 0, 1.0, [Task(request, Looked(cpu_us=5))], {})
    request.route = "GET /slow/{id}"
    rollup.look(T + 2, 0, 1.0, [Task(request, Looked(cpu_us=5))], {})
    (frame,) = sealed(rollup)
    assert frame.cells["endpoint"].values == ["GET /slow/{id}"]
    assert frame.cells["endpoint"].columns == {"cpu_us": [10], "histogram": [[]]}


def test_a_look_that_comes_late_says_so() -> None:
    """`lost.looks` are the seconds nobody looked at; the time that really passed is counted."""
    rollup = Rollup()
    rollup.look(T + 1, 0, 1.0, [], {"in_flight": 3.0})
    rollup.look(T + 5, 0, 4.0, [Task(None, Looked(cpu_us=7))], {"in_flight": 2.0})
    (frame,) = sealed(rollup)
    assert (frame.secs, frame.lost) == (5.0, {"looks": 3})
    assert frame.seconds == {"in_flight": [None, 3.0, None, None, None, 2.0, None, None, None, None]}
    assert frame.cells["endpoint"].values == [PHP_OUTSIDE]


def test_a_job_of_hours_is_followed_for_a_while() -> None:
    """Windows that a request is followed through are bounded; its CPU is not lost by it."""
    rollup, found, request = Rollup(), [], begun(1)
    for n in range(3 * limits.LIVED_WINDOWS):
        rollup.look(T + n * 10 + 1, 0, 1.0, [Task(request, Looked(cpu_us=5))], {})
        found += sealed(rollup, T + n * 10 + 12, n * 1000 + 1)
    end = made(1, at=T, ms=30 * limits.LIVED_WINDOWS * 1000, cpu_us=15 * limits.LIVED_WINDOWS)
    rollup.record(end, [Own("f", 9, None, 9)], (1, 1), T + 30 * limits.LIVED_WINDOWS, 0)
    late = sealed(rollup)
    assert len(late) == limits.LIVED_WINDOWS + 1
    assert totals(found + late)["endpoint"].cpu_us == totals(late)["function"].cpu_us == end.cpu_us


def test_waiting_epochs_are_bounded() -> None:
    """A disk that takes no frames: looks of the oldest windows go, counted; what covers records stays."""
    rollup = Rollup()
    rollup.record(made(1), [], (1, 1), T + 1, 0)
    for n in range(1, 3 * limits.EPOCHS_HELD):
        rollup.look(T + n * 10 + 1, 0, 1.0, [], {"in_flight": 0.0})
        rollup.bound()
    assert len(rollup.epochs) <= limits.EPOCHS_HELD + 1
    assert rollup.forgotten > 0
    assert rollup.epochs[0].first == (1, 1)


@given(st.floats(0, 4e9))
def test_windows_begin_at_multiples_of_ten(at: float) -> None:
    """Wire: `at` is a multiple of 10."""
    assert window_of(at) % 10 == 0
    assert window_of(at) <= at < window_of(at) + 10
