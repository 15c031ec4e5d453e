"""Twisted's reactor tells the time by the wall clock; ours must not.

A wall clock that jumps back two days would delay every `callLater` and every LoopingCall by two days. Where unix
time is meant, such as in a record or a key's expiry, a `WallClock` tells it.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from zope.interface import directlyProvides, providedBy


def make_steady(reactor: Any) -> None:
    """Let a reactor count its seconds monotonically. To be called before anything is scheduled on it."""
    reactor.seconds = time.monotonic


class WallClock:
    """A reactor that tells unix seconds; everything else, delays included, is the reactor's own."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.steady = reactor
        """For what counts seconds instead of asking for the time."""
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        """Unix seconds."""
        return datetime.now(timezone.utc).timestamp()
