"""Cleaning up: once an hour, and when somebody asks for it (STOR-02, LIST-07)."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.store.interface import Cleaned, IStore

_log = Logger()


@attrs.define(eq=False)
class Cleanup:
    """The hourly look. `reactor` schedules it by seconds that do not jump, and tells unix time by `seconds`."""

    store: IStore
    reactor: Any
    days: int
    _loop: LoopingCall | None = None
    _next: float = 0.0
    _waiting: list[Deferred[Cleaned]] | None = None
    """Who waits for the cleaning up that is under way; None while none is."""
    _problem: str | None = None

    def start(self) -> None:
        """Look now and every hour."""
        self._loop = LoopingCall(self._tick)
        self._loop.clock = getattr(self.reactor, "steady", self.reactor)
        self._loop.start(limits.CLEANUP_S)

    def stop(self) -> None:
        """Look no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def now(self) -> Deferred[Cleaned]:
        """Clean up; who comes while that is being done hears of the same. Fails as `IStore.clean_up` does."""
        waiter: Deferred[Cleaned] = Deferred()
        if self._waiting is None:
            self._waiting = []
            self._waiting.append(waiter)
            Deferred.fromCoroutine(self._clean())
        else:
            self._waiting.append(waiter)
        return waiter

    def state(self) -> dict[str, Any]:
        """For `/ready`: whether the hourly look runs, when it is next (unix seconds), and what went wrong last."""
        return {
            "running": self._loop is not None and self._loop.running,
            "cleaning": self._waiting is not None,
            "next_run": round(self._next, 1),
            "retention_days": self.days,
            "problem": self._problem,
        }

    def _tick(self) -> None:
        """Does not wait, and whatever fails is tried again in an hour."""
        self._next = self.reactor.seconds() + limits.CLEANUP_S
        self.now().addErrback(lambda failure: None)  # `_clean` has logged it

    async def _clean(self) -> None:
        try:
            result: Any = await self.store.clean_up()
            self._problem = None
        except Exception as error:  # noqa: BLE001 - it is told to whoever asked, and the next look comes
            _log.failure("cleaning up failed; the next try is within an hour")
            self._problem = f"{type(error).__name__}: {error}"
            result = error
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(result) if isinstance(result, Exception) else waiter.callback(result)
