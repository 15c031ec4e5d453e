"""An attempt that many may ask for at once and that is made once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred


@attrs.define(eq=False)
class Once:
    """Whoever asks while an attempt is in hand waits for that one, and fares as it does."""

    attempt: Callable[[], Coroutine[Any, Any, None]]
    _waiting: list[Deferred[None]] | None = None
    """Who waits for it; None while there is none."""

    @property
    def in_hand(self) -> bool:
        """Whether an attempt is being made."""
        return self._waiting is not None

    async def __call__(self) -> None:
        """Make it, or wait for it. Raises what it raises."""
        if self._waiting is not None:
            waits: Deferred[None] = Deferred()
            self._waiting.append(waits)
            await waits
            return
        self._waiting = []
        try:
            await self.attempt()
        except Exception as error:
            waiting, self._waiting = self._waiting, None
            for waits in waiting:
                waits.errback(error)
            raise
        waiting, self._waiting = self._waiting, None
        for waits in waiting:
            waits.callback(None)
