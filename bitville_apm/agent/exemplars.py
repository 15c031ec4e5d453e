"""Which short requests are sent whole, as examples: a few per endpoint and window. Pure."""

from __future__ import annotations

import attrs

from bitville_apm import limits
from bitville_apm.agent.window import window_of
from bitville_apm.requests import Request


@attrs.define(eq=False)
class Exemplars:
    """The first ones of an endpoint in a window, then each that is much slower than the slowest chosen so far.

    Every request is counted by a frame anyway: these are only to be looked at.
    """

    _at: int = -1
    _chosen: dict[str, tuple[int, float]] = attrs.Factory(dict)
    _left: int = 0

    def choose(self, request: Request, received: float) -> bool:
        """Whether this one is sent whole. `received` is unix seconds."""
        at = window_of(received)
        if at != self._at:
            self._at, self._left = at, limits.EXEMPLARS_IN_ALL
            self._chosen.clear()
        if self._left <= 0:
            return False
        n, slowest = self._chosen.get(request.endpoint, (0, 0.0))
        if n >= limits.EXEMPLARS and request.ms < slowest * limits.EXEMPLAR_SLOWER:
            return False
        self._chosen[request.endpoint] = (n + 1, max(slowest, request.ms))
        self._left -= 1
        return True
