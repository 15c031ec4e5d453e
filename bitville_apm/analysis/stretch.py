"""Some windows of a host, added up value by value. Pure.

Levels are load units, task-seconds per second. Two of them are kept of each value:

    consumed   time on a CPU, and blocked: what a culprit's rises and a victim's does not
    flight     requests (or sessions) that were there, whatever they did: running, blocked or waiting
"""

from __future__ import annotations

from typing import Any

import attrs

Link = tuple[str, str, str, str]
"""dimension and value, dimension and value, as in the frame."""


class Row:
    """One value: its columns over all windows together, and its two levels window by window (load units)."""

    __slots__ = (
        "blocked_s", "consumed", "cpu_us", "executions", "flight", "queue_us", "requests",
        "sql_us", "waiting_s", "wall_us",
    )  # fmt: skip

    def __init__(self, windows: int) -> None:
        self.requests = self.wall_us = self.cpu_us = self.queue_us = self.sql_us = 0.0
        self.blocked_s = self.waiting_s = 0.0
        self.executions: float | None = None
        self.consumed = [0.0] * windows
        self.flight = [0.0] * windows

    @property
    def task_s(self) -> float:
        """Running (on a CPU or waiting for one) and blocked, seconds in all."""
        return (self.cpu_us + self.queue_us) / 1e6 + self.blocked_s


NOTHING = Row(0)


@attrs.define(eq=False)
class Stretch:
    """Some windows of one host. `at` are their beginnings, in order; `load` is one a window, merged of its frames.

    `seconds` holds, a measure, every second that was looked at: (unix second, value), in order. `sums` are whole
    dimensions; `unseen` the wanted values that no frame had.
    """

    at: list[float]
    rows: dict[str, dict[str, Row]]
    links: dict[Link, list[float]]
    load: list[dict[str, Any]]
    seconds: dict[str, list[tuple[float, float]]]
    lengths: list[float]
    frames: int = 0
    lost: dict[str, float] = attrs.Factory(dict)
    unseen: dict[str, set[str]] = attrs.Factory(dict)
    sums: dict[str, Row] = attrs.Factory(dict)
    _users: dict[tuple[str, str], dict[str, list[float]]] | None = None

    @property
    def length(self) -> float:
        """Seconds that it covers."""
        return sum(self.lengths)

    def row(self, dimension: str, value: str) -> Row:
        """One value's row; an empty one where it was not seen."""
        return self.rows.get(dimension, {}).get(value, NOTHING)

    def used_by(self, dimension: str, value: str) -> dict[str, list[float]]:
        """Endpoint -> requests, executions and task-seconds that it has in common with a function or statement."""
        if self._users is None:
            self._users = {}
            for (a, value_a, b, value_b), numbers in self.links.items():
                if a == "endpoint":
                    self._users.setdefault((b, value_b), {})[value_a] = numbers
        return self._users.get((dimension, value), {})

    def rate(self, amount: float) -> float:
        """An amount a second."""
        return amount / self.length if self.lengths else 0.0

    def mean(self, measure: str) -> float | None:
        """The mean of a series; None where nobody looked."""
        values = self.seconds.get(measure)
        return sum(v for _, v in values) / len(values) if values else None
