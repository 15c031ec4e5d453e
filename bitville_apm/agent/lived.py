"""One begun request as looks see it: what it is called, and what was added of it to which window."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.cells import Looked, spread
from bitville_apm.endpoints import endpoint
from bitville_apm.profile import Own
from bitville_apm.records import Begin
from bitville_apm.requests import Request, network

Names = tuple[tuple[str, str], ...]
"""Dimension and value: where a request's task-seconds go. The endpoint is the first."""


def _names(endpoint: str, client: str | None, agent: str | None, release: str | None, id_: str) -> Names:
    found = (
        ("endpoint", endpoint),
        ("client", network(client)),
        ("agent", agent),
        ("release", release),
        ("request", id_),
    )
    return tuple((dimension, value) for dimension, value in found if value)


@attrs.define(eq=False)
class Lived:
    """`given` is all that looks have added, `windows` the same by window. `seen` is the last look's unix seconds."""

    id: str
    names: Names
    seen: float = 0.0
    given: Looked = attrs.Factory(Looked)
    windows: dict[int, Looked] = attrs.Factory(dict)
    _named: tuple[Begin, str | None] | None = None

    @property
    def endpoint(self) -> str:
        """Its endpoint's name."""
        return self.names[0][1]

    def begun(self, begin: Begin, route: str | None) -> None:
        """Name it as its begin line and a framework do."""
        if self._named == (begin, route):
            return
        self._named = (begin, route)
        named = endpoint(begin.method, begin.uri, route)
        self.names = _names(named, begin.client, begin.agent, begin.release, self.id)

    def ended(self, request: Request) -> None:
        """Name it as its record does."""
        self.names = _names(request.endpoint, request.client, request.agent, request.release, self.id)

    def looked(self, at: int, held: Looked, part: Looked) -> None:
        """Add what a look saw to the window's `held`, and to what is known here."""
        if at not in self.windows and len(self.windows) >= limits.LIVED_WINDOWS:
            oldest = self.windows.pop(next(iter(self.windows)))
            _add(next(iter(self.windows.values())), oldest)
        for sums in (held, self.given, self.windows.setdefault(at, Looked())):
            _add(sums, part)

    def had(self, part: Looked) -> None:
        """What was added elsewhere already."""
        _add(self.given, part)

    def spread(self, functions: Sequence[Own], spent: Looked, end_at: int) -> list[tuple[int, list[Own], Looked]]:
        """Its functions window by window: self times by how long it was seen there, and what it spent there.

        `spent` is what its record told beyond the looks; it belongs to the window of its end, the last of the list.
        """
        parts = {at: Looked() for at in (*(at for at in self.windows if at != end_at), end_at)}
        for at, part in self.windows.items():
            _add(parts[at], part)
        _add(parts[end_at], spent)
        seconds = [round(1e6 * (p.blocked_s + p.waiting_s)) + p.cpu_us + p.queue_us for p in parts.values()]
        times = [spread(f.us, seconds if any(seconds) else [0] * (len(parts) - 1) + [1]) for f in functions]
        return [
            (
                at,
                [
                    Own(f.name, us[n], f.calls if at == end_at else None, f.busy_us)
                    for f, us in zip(functions, times, strict=True)
                ],
                part,
            )
            for n, (at, part) in enumerate(parts.items())
        ]


def _add(sums: Looked, part: Looked) -> None:
    sums.cpu_us += part.cpu_us
    sums.queue_us += part.queue_us
    sums.blocked_s += part.blocked_s
    sums.waiting_s += part.waiting_s
