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


@attrs.define(eq=False)
class Links:
    """The links of one window."""

    held: dict[Key, Link] = attrs.Factory(dict)

    def link(self, a: str, value_a: str, b: str, value_b: str) -> Link:
        """The link of two values, made when there is none yet."""
        key = (a, value_a[: limits.NAME_CHARACTERS], b, value_b[: limits.NAME_CHARACTERS])
        found = self.held.get(key)
        if found is None:
            if len(self.held) >= limits.LINKS_HELD:
                self._forget()
            found = self.held[key] = Link()
        return found

    def add(self, request: Request, client: str | None, task_us: int) -> None:
        """A finished request; `task_us` is what looks have not told of it already."""
        endpoint = request.endpoint
        if client:
            self.link("client", client, "endpoint", endpoint).add(1, None, task_us)
        if request.release:
            self.link("release", request.release, "endpoint", endpoint).add(1, None, task_us)
        for use in request.statements[: limits.LINKS_OF_REQUEST]:
            self.link("endpoint", endpoint, "statement", use.statement).add(1, use.n, round(use.ms * 1000))

    def functions(self, endpoint: str, functions: Sequence[Own], task_us: int, ended: bool) -> None:
        """The functions among which `task_us` is spread; `ended` counts the request."""
        kept = functions[: limits.LINKS_OF_REQUEST]
        for function, part in zip(kept, spread(task_us, [f.busy_us for f in kept]), strict=True):
            self.link("endpoint", endpoint, "function", function.name).add(int(ended), function.calls, part)

    def heaviest(self, kept: dict[str, set[str]], most: int) -> list[tuple[Key, Link]]:
        """Up to `most` of those whose both values a frame keeps; the share among links of their kind decides."""
        found = [
            (key, link) for key, link in self.held.items()
            if key[1] in kept.get(key[0], ()) and key[3] in kept.get(key[2], ())
        ]  # fmt: skip
        return _by_share(found)[:most]

    def _forget(self) -> None:
        heaviest = _by_share(list(self.held.items()))
        self.held = dict(heaviest[: limits.LINKS_HELD // 2])


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
