"""The breaker as a value, against its promises and across restarts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import breaker, limits
from bitville_apm.breaker import Breaker


def opened(now: float = 1000.0, monotonic: float = 50.0) -> Breaker:
    state = Breaker()
    for _ in range(limits.BREAKER_FAILURES):
        state = state.failed(now, monotonic)
    return state


def test_opens_after_five_failures_in_a_row() -> None:
    """DAEMON-09: 5 consecutive failures open it, 4 do not, and a success in between starts the count again."""
    state = Breaker()
    for _ in range(4):
        state = state.failed(1000.0, 50.0)
    assert (state.state, state.failure_count) == ("closed", 4)
    assert state.succeeded().failure_count == 0
    assert state.failed(1000.0, 50.0).state == "open"


def test_one_probe_after_sixty_seconds_decides() -> None:
    """DAEMON-09: half open after 60 s; a success closes it, a failure keeps it open for another 60 s."""
    state = opened()
    assert state.polled(109.9).state == "open"
    probing = state.polled(110.0)
    assert probing.state == "half_open"
    assert probing.succeeded().state == "closed"
    again = probing.failed(1060.0, 110.0)
    assert (again.state, again.polled(169.9).state, again.polled(170.0).state) == ("open", "open", "half_open")


def test_state_file_holds_the_promised_fields() -> None:
    """DAEMON-09: `state failure_count last_failure_time opened_at`."""
    assert json.loads(opened().encoded()) == {
        "state": "open",
        "failure_count": 5,
        "last_failure_time": 1000.0,
        "opened_at": 1000.0,
    }


def test_restored_with_the_rest_of_its_wait() -> None:
    """DAEMON-09: a restart 20 s later waits the remaining 40 s on its own monotonic clock."""
    restored = breaker.decoded(opened().encoded(), now=1020.0, monotonic=5.0)
    assert restored.polled(44.9).state == "open"
    assert restored.polled(45.0).state == "half_open"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_a_clock_that_jumped_never_holds_it_shut(now: float) -> None:
    """DAEMON-09: whatever the wall clock says at restart, it is half open within 60 s."""
    restored = breaker.decoded(opened().encoded(), now=now, monotonic=5.0)
    assert restored.polled(5.0 + limits.BREAKER_RETRY_S).state == "half_open"


@given(st.binary() | st.dictionaries(st.text(), st.integers()).map(lambda d: json.dumps(d).encode()))
def test_unreadable_state_is_closed(data: bytes) -> None:
    """DAEMON-09: unreadable → closed, and nothing is raised."""
    assert breaker.decoded(data, 0.0, 0.0).state == "closed"


@pytest.mark.parametrize("state", ["closed", "open", "half_open"])
@pytest.mark.parametrize("field", ["failure_count", "last_failure_time", "opened_at"])
@pytest.mark.parametrize("value", ["x", [], -1, 1e999, True])
def test_a_broken_field_does_not_raise(state: str, field: str, value: object) -> None:
    """DAEMON-09: a state file with one broken field gives a breaker that works within 60 s."""
    kept = {"state": state, "failure_count": 5, "last_failure_time": 1.0, "opened_at": 1.0, field: value}
    restored = breaker.decoded(json.dumps(kept).encode(), 100.0, 0.0)
    assert restored.polled(60.0).state in ("closed", "half_open")


def test_statistics_name_everything() -> None:
    """DAEMON-09: the statistics health shows."""
    assert opened().statistics("central_listener") == {
        "name": "central_listener",
        "state": "open",
        "failure_count": 5,
        "failure_threshold": 5,
        "retry_timeout": 60.0,
        "last_failure_time": 1000.0,
        "opened_at": 1000.0,
    }
