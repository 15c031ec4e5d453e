"""Twisted's reactor tells the time by the wall clock; ours must not.

A wall clock that jumps back two days would delay every `callLater` and every LoopingCall by two days.
"""

from __future__ import annotations

import time
from typing import Any


def make_steady(reactor: Any) -> None:
    """Let a reactor count its seconds monotonically. To be called before anything is scheduled on it."""
    reactor.seconds = time.monotonic
