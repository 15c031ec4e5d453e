"""A circuit breaker as a value: it is given the time, and gives back its next state.

    closed ──5 failures in a row──▶ open ──60 s──▶ half_open ──success──▶ closed
                                      ▲                └───────failure───▶ open

Waiting is counted on the monotonic clock, so that a wall clock that jumps cannot hold it shut. The wall clock
only names times for people and carries the wait across a restart, where it can lengthen it to 60 s at most.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import attrs

from bitville_apm import limits

State = Literal["closed", "open", "half_open"]


@attrs.frozen
class Breaker:
    """`last_failure_time` and `opened_at` are unix seconds, `retry_at` is monotonic seconds."""

    state: State = "closed"
    failure_count: int = 0
    last_failure_time: float | None = None
    opened_at: float | None = None
    retry_at: float = 0.0

    def polled(self, monotonic: float) -> Breaker:
        """After waiting long enough an open breaker is half open: one probe may go."""
        if self.state == "open" and monotonic >= self.retry_at:
            return attrs.evolve(self, state="half_open")
        return self

    def succeeded(self) -> Breaker:
        """A sending was accepted: closed, and failures count from nothing again."""
        return Breaker(last_failure_time=self.last_failure_time)

    def failed(self, now: float, monotonic: float) -> Breaker:
        """A sending failed: one more in a row, or the probe that keeps it open."""
        count = self.failure_count + 1
        counted = attrs.evolve(self, failure_count=count, last_failure_time=now)
        if self.state == "closed" and count < limits.BREAKER_FAILURES:
            return counted
        return attrs.evolve(counted, state="open", opened_at=now, retry_at=monotonic + limits.BREAKER_RETRY_S)

    def encoded(self) -> bytes:
        """The state file's content (DAEMON-09)."""
        kept = ("state", "failure_count", "last_failure_time", "opened_at")
        return json.dumps({name: getattr(self, name) for name in kept}).encode() + b"\n"

    def statistics(self, name: str) -> dict[str, Any]:
        """What health shows of it (DAEMON-09)."""
        return {
            "name": name,
            "state": self.state,
            "failure_count": self.failure_count,
            "failure_threshold": limits.BREAKER_FAILURES,
            "retry_timeout": limits.BREAKER_RETRY_S,
            "last_failure_time": self.last_failure_time,
            "opened_at": self.opened_at,
        }


def decoded(data: bytes, now: float, monotonic: float) -> Breaker:
    """A breaker restored from its state file; closed when that cannot be read.

    What is left of an open one's wait is between nothing and 60 s, whatever the clock did meanwhile.
    """
    try:
        kept = json.loads(data)
        state = kept["state"]
        if state == "closed":
            return Breaker(failure_count=_count(kept), last_failure_time=_time(kept, "last_failure_time"))
        if state not in ("open", "half_open"):
            return Breaker()
        opened_at = _time(kept, "opened_at")
        waited = 0.0 if opened_at is None else max(0.0, now - opened_at)
        left = max(0.0, limits.BREAKER_RETRY_S - waited) if state == "open" else 0.0
        return Breaker(
            "open",
            max(_count(kept), limits.BREAKER_FAILURES),
            _time(kept, "last_failure_time"),
            opened_at,
            monotonic + left,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return Breaker()


def _count(kept: dict[str, Any]) -> int:
    count = kept["failure_count"]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= limits.INTEGER_MAX:
        raise ValueError(count)
    return count


def _time(kept: dict[str, Any], name: str) -> float | None:
    value = kept.get(name)
    if value is None:
        return None
    time = float(value)
    if not math.isfinite(time):
        raise ValueError(value)
    return time
