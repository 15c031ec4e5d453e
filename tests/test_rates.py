"""How often somebody may come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.rates import Rates


@given(
    st.floats(0.5, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab")), max_size=120),
)
def test_never_more_than_its_pace(per_second: float, burst: int, steps: list[tuple[float, str]]) -> None:
    """LIST-06: in no stretch of time does a name get more than the burst and what its pace gives in that time."""
    rates, now = Rates(per_second, burst), 0.0
    taken: dict[str, list[float]] = {"a": [], "b": []}
    for pause, name in steps:
        now += pause
        got = rates.take(name, now)
        if not got.wait:
            taken[name].append(now)
    for times in taken.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= burst + (times[last] - start) * per_second + 1e-6


@given(st.integers(1, 50), st.floats(0.1, 100))
def test_wait_is_enough(burst: int, per_second: float) -> None:
    """LIST-06: who waits as long as Retry-After says is served."""
    rates = Rates(per_second, burst)
    while not (got := rates.take("a", 0.0)).wait:
        assert "Retry-After" not in got.headers
    assert got.headers["X-RateLimit-Remaining"] == "0"
    assert got.headers["Retry-After"] == str(got.wait)
    assert not rates.take("a", float(got.wait)).wait


def test_bounded() -> None:
    """However many come, only so many are remembered; who keeps coming is not forgotten by it."""
    rates = Rates(per_second=0.001, burst=2)
    rates.take("loud", 0.0)
    rates.take("loud", 0.0)
    for n in range(limits.RATES_KEPT + 10):
        rates.take(f"passer-by {n}", 1.0)
        if n % 1000 == 0:
            assert rates.take("loud", 1.0).wait
    assert len(rates) == limits.RATES_KEPT
    assert rates.refused == 1 + limits.RATES_KEPT // 1000


def test_clock_that_goes_back() -> None:
    """Time that goes back gives nothing and takes nothing."""
    rates = Rates(per_second=1, burst=2)
    rates.take("a", 100.0)
    assert rates.take("a", 50.0).remaining == 0
    assert rates.take("a", 50.5).wait
    assert not rates.take("a", 52.0).wait
