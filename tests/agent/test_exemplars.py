"""Which short requests are sent whole: a few of each endpoint, ever slower ones, never many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.agent.exemplars import Exemplars
from bitville_apm.requests import Request


def request(endpoint: str, ms: float) -> Request:
    return Request(id="x", kind="end", at=0, ms=ms, method="GET", uri="/", endpoint=endpoint)


def test_the_first_and_the_slower_ones() -> None:
    """design.md 4: a few per endpoint and frame; each window begins anew."""
    exemplars = Exemplars()
    chosen = [exemplars.choose(request("a", ms), 100.0) for ms in (10, 20, 25, 31, 40, 100)]
    assert chosen == [True, True, False, True, False, True]
    assert exemplars.choose(request("b", 1), 109.0)
    assert exemplars.choose(request("a", 1), 110.0)


@given(st.lists(st.tuples(st.integers(0, 500).map(str), st.floats(0, 500)), max_size=600))
def test_never_many(came: list[tuple[str, float]]) -> None:
    """However many endpoints a crawler finds: the counts tell all, exemplars are bounded."""
    exemplars = Exemplars()
    chosen = sum(exemplars.choose(request(endpoint, ms), 5.0) for endpoint, ms in came)
    assert chosen <= limits.EXEMPLARS_IN_ALL
    assert chosen > 0 or not came
