"""Which values go together in one window: the endpoint that a client asked for, the functions it ran (wire.md 6).

Causes that are one story are told as one, because their links say so. Links need not add up to anything: beyond
their bound the lightest are forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.cells import spread
from bitville_apm.profile import Own
from bitville_apm.requests import Request
from bitville_apm.sqltext import value as value_of

Key = tuple[str, str, str, str]
"""dimension and value, dimension and value."""


class Link:
    """What two values have in common: requests, executions (None where not counted), and task-microseconds.

    A statement's are the time that PHP waited for it: who ran it is seen by the database only.
    """

    __slots__ = ("executions", "requests", "task_us")

    def __init__(self) -> None:
        self.requests = 0
        self.executions: int | None = None
        self.task_us = 0

    def add(self, requests: int, executions: int | None, task_us: int) -> None:
        """Add to it."""
        self.requests += requests
        self.task_us += task_us
        if executions is not None:
            self.executions = (self.executions or 0) + executions


Group = tuple[str, str, str]
"""Dimension and value, and the dimension of the other values."""


@attrs.define(eq=False)
class Links:
    """The links of one window: from a value to those of another dimension. `count` is how many there are."""

    held: dict[Group, dict[str, Link]] = attrs.Factory(dict)
    count: int = 0

    def add(self, request: Request, client: str | None, task_us: int) -> None:
        """A finished request; `task_us` is what looks have not told of it already."""
        if client:
            self.look("client", client, request.endpoint, task_us, 1)
        if request.release:
            self.look("release", request.release, request.endpoint, task_us, 1)
        if request.statements:
            group = self._group("endpoint", request.endpoint, "statement")
            for use in request.statements[: limits.LINKS_OF_REQUEST]:
                name = value_of(use.statement)
                link = group.get(name) or self._link(group, name)
                link.add(1, use.n, round(use.ms * 1000))

    def look(self, dimension: str, value: str, endpoint: str, task_us: int, requests: int = 0) -> None:
        """What somebody's request for an endpoint took; `requests` that ended."""
        self._link(self._group(dimension, value, "endpoint"), endpoint).add(requests, None, task_us)

    def functions(self, endpoint: str, functions: Sequence[Own], task_us: int, ended: bool) -> None:
        """The functions among which `task_us` is spread; `ended` counts the request."""
        if functions:
            kept = functions[: limits.LINKS_OF_REQUEST]
            group = self._group("endpoint", endpoint, "function")
            for function, part in zip(kept, spread(task_us, [f.busy_us for f in kept]), strict=True):
                link = group.get(function.name) or self._link(group, function.name)
                link.add(int(ended), function.calls, part)

    def link(self, key: Key, requests: int, executions: int | None, task_us: int) -> None:
        """Two values that a source saw together."""
        a, value_a, b, value_b = key
        self._link(self._group(a, value_a, b), value_b).add(requests, executions, task_us)

    def heaviest(self, kept: dict[str, set[str]], most: int) -> list[tuple[Key, Link]]:
        """Up to `most` of those whose both values a frame keeps; the share among links of their kind decides.

        Of a dimension that is not in `kept` any value will do.
        """
        found = [
            (key, link) for key, link in self._all()
            if (key[0] not in kept or key[1] in kept[key[0]]) and (key[2] not in kept or key[3] in kept[key[2]])
        ]  # fmt: skip
        return _by_share(found)[:most]

    def _group(self, dimension: str, value: str, other: str) -> dict[str, Link]:
        key = (dimension, value[: limits.NAME_CHARACTERS], other)
        group = self.held.get(key)
        if group is None:
            group = self.held[key] = {}
        return group

    def _link(self, group: dict[str, Link], value: str) -> Link:
        found = group.get(value)
        if found is None:
            if len(value) > limits.NAME_CHARACTERS:
                return self._link(group, value[: limits.NAME_CHARACTERS])
            found = group[value] = Link()
            self.count += 1
        return found

    def _all(self) -> list[tuple[Key, Link]]:
        return [
            ((a, value_a, b, value_b), link)
            for (a, value_a, b), group in self.held.items()
            for value_b, link in group.items()
        ]

    def bound(self) -> None:
        """Forget the lighter half when there are too many."""
        if self.count <= limits.LINKS_HELD:
            return
        heaviest = _by_share(self._all())[: limits.LINKS_HELD // 2]
        self.held = {}
        for (a, value_a, b, value_b), link in heaviest:
            self.held.setdefault((a, value_a, b), {})[value_b] = link
        self.count = len(heaviest)


def _by_share(found: list[tuple[Key, Link]]) -> list[tuple[Key, Link]]:
    tasks: dict[tuple[str, str], int] = {}
    requests: dict[tuple[str, str], int] = {}
    for key, link in found:
        kind = key[0], key[2]
        tasks[kind] = tasks.get(kind, 0) + link.task_us
        requests[kind] = requests.get(kind, 0) + link.requests

    def share(item: tuple[Key, Link]) -> float:
        (a, _, b, _), link = item
        return max(link.task_us / max(1, tasks[a, b]), link.requests / max(1, requests[a, b]))

    return sorted(found, key=lambda item: (-share(item), item[0]))
