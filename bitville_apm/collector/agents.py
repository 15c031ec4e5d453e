"""Which agents were heard of since the start: version, last time, and how far their clock is off."""

from __future__ import annotations

from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.store.interface import Projects


@attrs.define
class Agent:
    """One agent's journal in one project. `skew_s` is our time less its own; None while it did not say."""

    project: str
    host: str
    version: str
    last: float
    skew_s: float | None


@attrs.define(eq=False)
class Agents:
    """The agents, by project and journal; the one not heard of for longest is forgotten first."""

    _seen: dict[tuple[str, str], Agent] = attrs.field(factory=dict)

    def saw(self, project: str, journal: str, host: str, version: str, sent_ms: float | None, now: float) -> None:
        """A batch came."""
        skew = None if sent_ms is None else now - sent_ms / 1000
        self._seen.pop((project, journal), None)
        self._seen[project, journal] = Agent(project, host, version, now, skew)
        if len(self._seen) > limits.AGENTS_KEPT:
            del self._seen[next(iter(self._seen))]

    def __len__(self) -> int:
        return len(self._seen)

    def shown_to(self, projects: Projects) -> list[dict[str, Any]]:
        """What a caller may see of them, the last heard first."""
        return [
            attrs.asdict(agent)
            for agent in reversed(self._seen.values())
            if projects is None or agent.project in projects
        ]
