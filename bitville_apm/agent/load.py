"""The `load` of a frame while its window is added up: numbers of the host, of pools and of servers (wire.md 6). Pure.

What a number of ten seconds is made of depends on what it says: bytes add, tasks are a mean, what was in flight is
the most there was at once, an average that the kernel keeps is the last one. The caller says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from bitville_apm import limits

Tree = Mapping[str, Any]
"""Numbers by name; under a name may be such a tree again. None says nothing."""
Path = tuple[str, ...]


@attrs.define(eq=False)
class Load:
    """Every leaf is filled in one of four ways, always the same one. Lists are kept by what names their items."""

    _numbers: dict[Path, float] = attrs.Factory(dict)
    _weights: dict[Path, float] = attrs.Factory(dict)
    _pools: dict[str, dict[str, float]] = attrs.Factory(dict)
    _blocked: dict[tuple[str, str | None, str | None], float] = attrs.Factory(dict)

    def most(self, numbers: Tree) -> None:
        """The largest of the window."""
        for path, number in _leaves(numbers):
            self._numbers[path] = max(number, self._numbers.get(path, number))

    def add(self, numbers: Tree) -> None:
        """Their sum."""
        for path, number in _leaves(numbers):
            self._numbers[path] = self._numbers.get(path, 0) + number

    def mean(self, numbers: Tree, seconds: float) -> None:
        """Their mean, each with the time it stands for."""
        for path, number in _leaves(numbers):
            self._numbers[path] = self._numbers.get(path, 0.0) + number * seconds
            self._weights[path] = self._weights.get(path, 0.0) + seconds

    def last(self, numbers: Tree) -> None:
        """The newest."""
        self._numbers.update(_leaves(numbers))

    def pool(self, name: str, numbers: Mapping[str, float]) -> None:
        """One pool of PHP processes; of each number the largest."""
        held = self._pools.setdefault(name, {})
        for key, number in numbers.items():
            held[key] = max(number, held.get(key, number))

    def blocked_in(self, name: str, wait_channel: str | None, cgroup: str | None, seconds: float) -> None:
        """Tasks of a name were blocked somewhere in the kernel for so long, added up."""
        key = name, wait_channel, cgroup
        if key in self._blocked or len(self._blocked) < limits.BLOCKED_HELD:
            self._blocked[key] = self._blocked.get(key, 0.0) + seconds

    def told(self) -> dict[str, Any]:
        """As the frame has it."""
        told: dict[str, Any] = {}
        for path, number in self._numbers.items():
            weight = self._weights.get(path)
            at = told
            for name in path[:-1]:
                at = at.setdefault(name, {})
            at[path[-1]] = _short(number if weight is None else number / weight if weight else 0.0)
        if self._blocked:
            heaviest = sorted(self._blocked.items(), key=lambda item: (-item[1], str(item[0])))[: limits.BLOCKED_SHOWN]
            told["blocked_in"] = [
                {"name": name, "wait_channel": channel, "cgroup": cgroup, "seconds": _short(seconds)}
                for (name, channel, cgroup), seconds in heaviest
            ]
        if self._pools:
            told["pools"] = [{"name": name, **held} for name, held in sorted(self._pools.items())]
        return told


def _leaves(numbers: Tree, above: Path = ()) -> list[tuple[Path, float]]:
    found: list[tuple[Path, float]] = []
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found += _leaves(value, (*above, name))
        elif value is not None:
            found.append(((*above, name), value))
    return found


def _short(number: float) -> float:
    return number if isinstance(number, int) else round(number, 3)
