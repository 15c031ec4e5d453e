"""How often somebody may come: a bucket of tokens each, filled at a steady pace (LIST-06). Time is an argument."""

from __future__ import annotations

import math

import attrs

from bitville_apm import limits


@attrs.frozen
class Taken:
    """One try. `wait` is seconds until the next would do, 0 when this one did; `reset` until the bucket is full."""

    limit: int
    remaining: int
    reset: int
    wait: int

    @property
    def headers(self) -> dict[str, str]:
        """What an answer says of it."""
        told = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }
        return {**told, "Retry-After": str(self.wait)} if self.wait else told


@attrs.define(eq=False)
class Rates:
    """Buckets by name: `burst` tokens, `per_second` of them back each second. `refused` counts those turned away."""

    per_second: float = limits.REQUESTS_PER_S
    burst: int = limits.REQUESTS_BURST
    refused: int = 0
    _buckets: dict[str, tuple[float, float]] = attrs.Factory(dict)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> Taken:
        """One token for `name` at `now` (seconds of any steady clock)."""
        tokens, at = self._buckets.pop(name, (float(self.burst), now))
        tokens = min(self.burst, tokens + max(0.0, now - at) * self.per_second)
        done = tokens >= 1
        tokens -= done
        self.refused += not done
        while len(self._buckets) >= limits.RATES_KEPT:
            del self._buckets[next(iter(self._buckets))]  # the one that came least lately: the fullest, or nearly
        self._buckets[name] = (tokens, now)
        wait = 0 if done else max(1, math.ceil((1 - tokens) / self.per_second))
        return Taken(self.burst, int(tokens), math.ceil((self.burst - tokens) / self.per_second), wait)
