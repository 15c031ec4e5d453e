"""A rollup: whatever comes in whatever order, what goes out adds up to it, in windows and epochs (wire.md 6)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.agent.rollup import Rollup
from bitville_apm.agent.window import window_of
from bitville_apm.profile import Own
from bitville_apm.requests import External, Request, StatementUse
from tests.agent.rollup_rig import T, made, names, sealed, totals

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


def test_an_end_after_its_death_counts_once() -> None:
    """Taken for dead, then its record came from the spool: one request, one error, its time once."""
    rollup = Rollup()
    rollup.record(made(1, ms=500, kind="died"), [], (1, 1), T + 5, 0)
    rollup.record(made(1, ms=800, cpu_us=300, status=200), [], (1, 2), T + 6, 0)
    endpoint = totals(sealed(rollup))["endpoint"]
    assert (endpoint.requests, endpoint.errors, endpoint.wall_us, endpoint.cpu_us) == (1, 1, 800_000, 300)
    assert sum(endpoint.histogram.values()) == 1


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
