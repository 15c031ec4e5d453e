"""Detection: what opens a spike, what does not, and what becomes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.analysis.detect import Closed, Detector, Found, Opened
from bitville_apm.records import Frame

BEGIN = 1_700_000_000


def frames(
    level: Callable[[int], float | None], seconds: int, measure: str = "tasks", cores: int = 4, begin: int = BEGIN
) -> list[Frame]:
    """Frames of one series, `level` by the second."""
    return [
        Frame(
            id=f"{measure}{at}",
            at=at,
            secs=10,
            v=2,
            load={"cores": cores},
            seconds={measure: [level(at - begin + i) for i in range(10)]},
        )
        for at in range(begin, begin + seconds, 10)
    ]


def fed(detector: Detector, given_: Sequence[Frame]) -> list[Found]:
    return [found for frame in given_ for found in detector.feed(frame)]


def noisy(seed: int, level: float, spread: float) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda _: max(0.0, rng.gauss(level, spread))


def test_a_rise_opens_one_spike_and_its_end_closes_it() -> None:
    """ADV-02: a rise is found within seconds, with its onset, its worst second and its end."""
    quiet = noisy(1, 3.0, 1.0)
    found = fed(Detector(), frames(lambda s: quiet(s) + (15 if 1203 <= s < 1270 else 0), 1800))
    opened, closed = found
    assert isinstance(opened, Opened)
    assert isinstance(closed, Closed)
    assert opened.measure == "tasks"
    assert BEGIN + 1198 <= opened.onset <= BEGIN + 1203 <= opened.at <= BEGIN + 1207
    assert opened.onset == closed.onset
    assert BEGIN + 1203 <= closed.peak < BEGIN + 1270 <= closed.end <= BEGIN + 1290
    assert closed.level > 15 > 5 > closed.baseline


def test_what_a_spike_leaves_behind_does_not_swallow_the_next() -> None:
    """ADV-02: a host a little busier than before, by too little for a spike, is one whose spike is over."""
    quiet = noisy(4, 0.6, 0.1)

    def level(second: int) -> float:
        busy = 25.0 if 1200 <= second < 1260 or 1400 <= second < 1460 else 1.0 if second >= 1260 else 0.0
        return quiet(second) + busy

    found = fed(Detector(), frames(level, 1800, cores=2))
    assert [type(one) for one in found] == [Opened, Closed, Opened, Closed]
    assert found[1].end <= BEGIN + 1290
    assert BEGIN + 1395 <= found[2].at <= BEGIN + 1405


def test_a_busy_queue_that_comes_and_goes_is_no_spike() -> None:
    """ADV-02: on a host whose tasks differ a lot from second to second, six seconds at its worst are over at once."""
    rng = random.Random(5)

    def level(second: int) -> float:
        return 17.0 if second % 600 < 6 and second >= 1200 else max(0.0, rng.gauss(6.0, 4.0))

    assert fed(Detector(), frames(level, 4800, cores=4)) == []


def test_a_quiet_day_with_a_rhythm_opens_nothing() -> None:
    """ADV-02: a day's rhythm and its noise are no spike."""
    rng = random.Random(2)

    def level(second: int) -> float:
        hour = second / 3600
        return max(0.0, rng.gauss(3 + 2 * (1 - abs(hour - 3) / 3), 1.2))

    assert fed(Detector(), frames(level, 6 * 3600)) == []


def test_counts_that_are_mostly_zero_have_a_deviation() -> None:
    """A database with a session now and then: its median and the median distance from it are 0, its noise is not."""
    rng = random.Random(3)
    level = lambda _: float(sum(rng.random() < 0.1 for _ in range(8)))  # noqa: E731
    assert fed(Detector(), frames(level, 3600, "db", cores=2)) == []


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_burst_of_two_seconds_is_no_spike(seconds: int) -> None:
    """It is over before a load average has moved."""
    assert fed(Detector(), frames(lambda s: 60.0 if 900 <= s < 900 + seconds else 2.0, 1200)) == []


def test_nothing_triggers_before_there_is_a_history() -> None:
    """An agent that starts in the middle of a rise does not know what is usual; `ready` says from when on it does."""
    detector = Detector()
    given_ = frames(lambda s: 2.0 if s < 100 else 40.0, 200)
    assert fed(detector, given_) == []
    assert not detector.ready
    assert fed(detector, frames(lambda s: 40.0, 300, begin=BEGIN + 200)) == []
    assert detector.ready


def test_a_gap_is_survived() -> None:
    """Ten minutes without a word in the middle: what is usual is still known, and a spike after it is found."""
    quiet = frames(lambda _: 2.0, 900)
    later = frames(lambda s: 2.0 if s < 60 else 20.0, 120, begin=BEGIN + 1500)
    assert [type(f) for f in fed(Detector(), [*quiet, *later])] == [Opened]


def test_null_seconds_and_a_host_without_looks_say_nothing() -> None:
    """Seconds that nobody looked at neither trigger nor end anything."""
    assert fed(Detector(), frames(lambda _: None, 1200)) == []
    level = lambda s: None if s % 2 else (20.0 if 900 <= s < 960 else 2.0)  # noqa: E731
    assert [type(f) for f in fed(Detector(), frames(level, 1200))] == [Opened, Closed]


def test_late_old_and_repeated_frames_change_nothing() -> None:
    """Only the first word on a second counts: a late part, a repetition and an old frame find nothing again."""
    given_ = frames(lambda s: 20.0 if 900 <= s < 960 else 2.0, 1200)
    once = fed(Detector(), given_)
    rng = random.Random(4)
    again = [f for frame in given_ for f in (frame, rng.choice(given_[: given_.index(frame) + 1]))]
    assert fed(Detector(), again) == once


def test_two_halves_of_a_window_are_one() -> None:
    """An agent that restarts in a window sends it in two parts, each with its own seconds."""
    whole = frames(lambda s: 20.0 if 900 <= s < 960 else 2.0, 1200)
    halves = []
    for frame in whole:
        values = frame.seconds["tasks"]
        for part in (values[:5] + [None] * 5, [None] * 5 + values[5:]):
            halves.append(Frame(id="h", at=frame.at, secs=5, v=2, load=frame.load, seconds={"tasks": part}))
    assert fed(Detector(), halves) == fed(Detector(), whole)


def test_series_that_rise_together_are_one_spike() -> None:
    """Waiting requests that become load are one spike, which is closed under the name of the load."""

    def level(second: int, from_: int, high: float, low: float) -> float:
        return high if from_ <= second < 960 else low

    given_ = [
        Frame(
            id=str(at),
            at=at,
            secs=10,
            v=2,
            load={"cores": 4},
            seconds={
                "in_flight": [level(at - BEGIN + i, 900, 50.0, 5.0) for i in range(10)],
                "tasks": [level(at - BEGIN + i, 925, 30.0, 2.0) for i in range(10)],
            },
        )
        for at in range(BEGIN, BEGIN + 1200, 10)
    ]
    opened, closed = fed(Detector(), given_)
    assert (opened.measure, closed.measure) == ("in_flight", "tasks")
    assert opened.onset == closed.onset
    assert closed.level == 30.0


def test_a_host_that_falls_silent_has_no_open_spike_for_ever() -> None:
    """Five minutes without a word close it, at its last one."""
    detector = Detector()
    fed(detector, frames(lambda s: 20.0 if s >= 900 else 2.0, 950))
    assert detector.spike is not None
    assert detector.silent(BEGIN + 950 + 100) == []
    (closed,) = detector.silent(BEGIN + 950 + limits.SILENT_CLOSES_S + 1)
    assert closed.end == BEGIN + 950
    assert detector.spike is None


def test_a_level_that_stays_becomes_the_new_normal() -> None:
    """After an hour it is closed, and what is compared with from then on is that hour: a further rise is found."""
    found = fed(Detector(), frames(lambda s: 2.0 if s < 900 else 20.0 if s < 6000 else 60.0, 6300))
    assert [type(f) for f in found] == [Opened, Closed, Opened]
    assert found[2].baseline == 20.0


def test_a_spike_does_not_hide_the_next_one() -> None:
    """Its seconds are no part of what the next is compared with, however long it was."""
    found = fed(Detector(), frames(lambda s: 25.0 if 900 <= s < 2400 or 2700 <= s < 2760 else 2.0, 3000))
    assert [type(f) for f in found] == [Opened, Closed, Opened, Closed]
    assert found[2].baseline == 2.0


def test_memory_is_bounded() -> None:
    """A day of frames leaves an hour of seconds."""
    detector = Detector()
    fed(detector, frames(noisy(5, 4, 1), 3 * 3600))
    assert all(len(series.history) <= limits.BASELINE_S for series in detector.series.values())
    assert all(len(series.held) <= limits.NEW_NORMAL_S + 600 for series in detector.series.values())


@given(
    st.lists(
        st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=12),
        max_size=60,
    )
)
def test_whatever_seconds_hold_nothing_breaks(columns: list[list[float | None]]) -> None:
    """NaN, infinities, short and long columns: no exception, and no spike is named after one of them."""
    detector = Detector()
    for n, column in enumerate(columns):
        for found in detector.feed(
            Frame(id=str(n), at=BEGIN + 10 * n, secs=10, v=2, seconds={"tasks": column, "db": column[:3]})
        ):
            assert found.level == found.level
