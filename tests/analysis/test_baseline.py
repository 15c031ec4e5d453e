"""What got dearer over days: told once it stands out, since its day, for as long as it lasts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.analysis.baseline import Day, Regression, regressions

DAY = 86_400.0
BEGIN = 20_000 * DAY


def days(costs: Sequence[float], requests: float = 1000.0, **more: Any) -> list[Day]:
    """A day after another, at so many CPU seconds a request."""
    return [Day(at=BEGIN + DAY * n, requests=requests, cpu_s=requests * c, **more) for n, c in enumerate(costs)]


def waited(costs: Sequence[float], requests: float = 1000.0) -> list[Day]:
    """The same in wall time, on a CPU always as much."""
    return [Day(at=BEGIN + DAY * n, requests=requests, cpu_s=1.0, wall_s=requests * c) for n, c in enumerate(costs)]


def found(rows: Sequence[Day], dimension: str = "endpoint", newest: int | None = None) -> list[Regression]:
    """What is told of one value, on the newest day it has or on a later one."""
    at = max(day.at for day in rows) if newest is None else BEGIN + DAY * newest
    return regressions({(dimension, "x"): rows}, at)


USUAL = [0.010, 0.011, 0.010, 0.0105, 0.0098, 0.0102, 0.0101, 0.0099]


def test_what_got_dearer_overnight_is_found() -> None:
    """ADV-02: a function that costs twice as much since yesterday, by what that costs a day; not one that varies so,
    nor one that is rare, new, cheaper, or not one value at all.
    """
    n = len(USUAL)
    told = regressions(
        {
            ("function", "Price::of"): days([*USUAL, 0.021]),
            ("function", "Cart::sum"): days([*USUAL, 0.042]),
            ("endpoint", "GET /noisy"): days([0.010, 0.030, 0.008, 0.025, 0.012, 0.020, 0.009, 0.03, 0.021]),
            ("endpoint", "GET /rare"): days([*USUAL, 0.9], requests=3),
            ("endpoint", "GET /new"): days([*USUAL, 0.09])[-3:],
            ("endpoint", "GET /cheaper"): days([0.02] * n + [0.01]),
            ("endpoint", "~other"): days([*USUAL, 0.09]),
        },
        BEGIN + n * DAY,
    )
    assert [(r.dimension, r.value) for r in told] == [("function", "Cart::sum"), ("function", "Price::of")]
    one = told[1]
    assert (one.measure, one.per, one.since) == ("cpu", "request", BEGIN + n * DAY)
    assert one.factor == pytest.approx(2.09, abs=0.01)
    assert one.before_ms == pytest.approx(10.05, rel=1e-4)
    assert one.now_ms == pytest.approx(21.0)
    assert one.lost_s == pytest.approx(1000 * 0.01095, rel=1e-3)


def test_it_is_told_since_its_day_and_as_long_as_it_lasts() -> None:
    """ADV-02: days later a step still has the day it came; once it is over, or nobody calls it, it is gone."""
    rows = days([*USUAL, *[0.02] * 6])
    for more in range(2, 7):
        (one,) = found(rows[: len(USUAL) + more])
        assert one.since == BEGIN + len(USUAL) * DAY
    assert found([*rows, *days([0.0] * 14 + [0.0101])[-1:]]) == []
    assert len(found(rows, newest=len(rows) + 2)) == 1
    assert found(rows, newest=len(rows) + 3) == []


def test_an_odd_day_changes_nothing() -> None:
    """ADV-02: one day that cost ten times as much hides no later step, and moves neither its day nor its factor."""
    (plain,) = found(days([*USUAL, *[0.02] * 4]))
    odd = [*USUAL[:3], 0.11, *USUAL[4:], *[0.02] * 4]
    (one,) = found(days(odd))
    assert one.since == plain.since
    assert one.factor == pytest.approx(plain.factor, rel=0.02)
    assert found(days([*odd[:8], 0.0104])) == []


def test_a_slow_rise_is_found() -> None:
    """ADV-02: what gets three percent dearer a day, without any step, is told within the window."""
    (one,) = found(days([0.01 * 1.03**n for n in range(limits.DRIFT_WINDOW_DAYS)]))
    assert 1.3 < one.factor < 2.3


def test_a_weekday_is_no_news() -> None:
    """ADV-02: what costs half as much again each weekend is not told; a step is, at most as of the weekend before."""
    week = [0.01, 0.0102, 0.0099, 0.0101, 0.01, 0.015, 0.0151]
    for n in range(13, 22):
        assert found(days((week * 4)[:n])) == []
    (one,) = found(days([*week, *week, *week, *[2 * cost for cost in week[:3]]]))
    assert BEGIN + 19 * DAY <= one.since <= BEGIN + 21 * DAY


def test_wall_time_counts_once_it_lasts() -> None:
    """ADV-02: what only waits longer is told too, but not for one slow day."""
    assert found(waited([*USUAL, 0.03])) == []
    (one,) = found(waited([*USUAL, 0.03, 0.03]))
    assert (one.measure, one.since) == ("wall", BEGIN + len(USUAL) * DAY)
    assert one.factor == pytest.approx(2.99, abs=0.01)


def test_a_statement_is_judged_by_its_executions() -> None:
    """ADV-02: twice as many executions in each request are not a dearer statement; where they were not counted on every
    day, requests are what there is.
    """
    executed = [
        Day(at=day.at, requests=100.0, executions=day.requests * (1 + (n > 7)), cpu_s=day.cpu_s * (1 + (n > 7)))
        for n, day in enumerate(days([*USUAL, 0.0101]))
    ]
    assert found(executed, "statement") == []
    some = [Day(at=day.at, requests=100.0, executions=None if n < 3 else 1000.0, cpu_s=day.cpu_s)
            for n, day in enumerate(executed)]  # fmt: skip
    (one,) = found(some, "statement")
    assert one.per == "request"
    (one,) = found(days([*USUAL, 0.021], executions=500.0), "statement")
    assert (one.per, one.before_ms) == ("execution", pytest.approx(20.1, rel=1e-4))


def test_its_share_is_of_its_own_kind_on_the_newest_day() -> None:
    """ADV-02: the share is of the load of all values of the dimension, those that are no single value included."""
    told = regressions(
        {
            ("endpoint", "x"): days([*USUAL, 0.021], load_s=2.0),
            ("endpoint", "~other"): days([0.01] * 9, load_s=6.0),
            ("function", "f"): days([0.01] * 9, load_s=90.0),
        },
        BEGIN + 8 * DAY,
    )
    assert [one.share for one in told] == [0.25]
    assert [one.share for one in found(waited([*USUAL, 0.03, 0.03]))] == [1.0]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e9), st.floats(0, 1e9)), max_size=12),
    st.sampled_from(["endpoint", "statement"]),
)
def test_whatever_was_counted_can_be_compared(rows: list[tuple[float, float, float]], dimension: str) -> None:
    """ADV-02: no sums make it fail, and what it tells is dearer by the factor and since a day that it was given."""
    made = [Day(at=BEGIN + n * DAY, requests=r, cpu_s=c, wall_s=w, executions=r) for n, (r, c, w) in enumerate(rows)]
    for one in regressions({(dimension, "x"): made}, BEGIN + len(rows) * DAY):
        assert one.factor >= limits.DRIFT_FACTOR
        assert one.confidence >= limits.DRIFT_CONFIDENCE
        assert one.since in {day.at for day in made[limits.DRIFT_DAYS :]}


def test_chance_is_rarely_told() -> None:
    """ADV-02: of values whose days differ by a tenth, and one day in ten by four times that, few are told wrongly, and
    of those that really doubled days ago nearly all are told.
    """
    chance = random.Random(20_270_115)

    def drawn(n: int, doubled: int = 0) -> list[Day]:
        wide = [chance.gauss(0, 0.1) + (chance.gauss(0, 0.4) if chance.random() < 0.1 else 0.0) for _ in range(n)]
        return days([0.01 * math.exp(x) * (2 if i >= n - doubled else 1) for i, x in enumerate(wide)])

    for n in (6, 12, 28):
        assert len(regressions({("endpoint", str(i)): drawn(n) for i in range(300)}, BEGIN + (n - 1) * DAY)) <= 5
    told = regressions({("endpoint", str(i)): drawn(28, doubled=4) for i in range(100)}, BEGIN + 27 * DAY)
    assert len(told) >= 85
