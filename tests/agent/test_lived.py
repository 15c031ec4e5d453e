"""Requests that live through several windows: each look counts where it was, and what the end tells follows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bitville_apm import cells, limits
from bitville_apm.agent.inflight import Open, Peer
from bitville_apm.agent.rollup import PHP_OUTSIDE, Rollup, Task
from bitville_apm.cells import Looked
from bitville_apm.profile import Own
from bitville_apm.records import Begin
from tests.agent.rollup_rig import T, cell, made, sealed, totals


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
