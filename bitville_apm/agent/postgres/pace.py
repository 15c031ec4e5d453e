"""How often a server is looked at, so that looking costs at most a hundredth of one core (PG-07). Pure.

The cost of a look is our own CPU and the server's. Of a server on this machine the kernel tells the latter; of one
elsewhere it is taken for the shortest of the last answers: on a busy server an answer takes longer without costing
more, and that is when looks are needed most.
"""

from __future__ import annotations

import statistics
from collections import deque

import attrs

from bitville_apm import limits


@attrs.define
class Pace:
    """Times are seconds. `least` is the period while looks are cheap, `budget` what they may cost of one core."""

    least: float
    budget: float = limits.PG_BUDGET
    most: float = limits.PG_PERIOD_MOST_S
    period: float = attrs.field(init=False)
    cost: float = 0.0
    _answers: deque[float] = attrs.field(factory=lambda: deque(maxlen=limits.PG_COSTS))
    _costs: deque[float] = attrs.field(factory=lambda: deque(maxlen=limits.PG_COSTS))
    _failures: int = 0

    def __attrs_post_init__(self) -> None:
        self.period = self.least

    def took(self, own_cpu: float, answer: float, server_cpu: float | None) -> None:
        """A look was answered after `answer` seconds; `server_cpu` where it is known."""
        self._failures = 0
        self._answers.append(answer)
        self._costs.append(own_cpu + (min(self._answers) if server_cpu is None else server_cpu))
        # The middle one: the first look of a session reads catalogues, one among many may have been unlucky.
        self.cost = statistics.median(self._costs)
        if len(self._costs) < limits.PG_COSTS_LEAST:
            return
        # Whole multiples, so that a cost that varies a little does not change the pace at each look.
        steps = -(-self.cost // (self.budget * self.least))
        self.period = min(self.most, self.least * max(1.0, steps))

    def failed(self) -> float:
        """A look was not answered: seconds until the next try, doubled each time."""
        self._failures += 1
        return float(min(limits.PG_RETRY_MOST_S, self.least * 2 ** min(self._failures - 1, 10)))

    @property
    def stretched(self) -> bool:
        """Whether looks are further apart than they should be."""
        return self.period > self.least
