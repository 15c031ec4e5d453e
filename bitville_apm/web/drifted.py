"""What nights found of slow drifts, of one project or several together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.store.interface import Drifts

_decoder = msgspec.json.Decoder(list[Regression])
DAYS_WANTED = limits.DRIFT_DAYS + 1
"""Days that it takes to compare one with those before it."""


@attrs.frozen
class Drifted:
    """Drifts with their projects, what costs the most first, and the nights that found them.

    `more` were found and are not among `items`.
    """

    items: Sequence[tuple[str, Regression]]
    nights: Sequence[Drifts]
    more: int

    @classmethod
    def of(cls, nights: Sequence[Drifts], limit: int) -> Drifted:
        """At most so many."""
        found = [(night.project, one) for night in nights for one in _decoder.decode(night.found)]
        found.sort(key=lambda item: (-item[1].lost_s, item[0], item[1].dimension, item[1].value))
        more = max(0, len(found) - limit) + sum(night.left_out for night in nights)
        return cls(found[:limit], nights, more)

    def json(self) -> dict[str, Any]:
        """The answer of `/api/regressions`."""
        projects = []
        for night in self.nights:
            told = msgspec.structs.asdict(night)
            del told["found"]
            projects.append({**told, "days_wanted": DAYS_WANTED})
        items = [{"project": project, **msgspec.structs.asdict(one)} for project, one in self.items]
        return {"items": items, "more": self.more, "projects": projects}
