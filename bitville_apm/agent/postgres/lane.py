"""A thread with one question at a time for its server: without an answer it asks again later, and nothing piles up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.postgres.link import TooSlow, Unreachable
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.worker import Run
from bitville_apm.repeated import Repeated

_log = Logger()
_SILENT = "it does not answer"


@attrs.define(eq=False)
class Lane:
    """`ask` blocks and runs in the thread of `run`; `abandon` makes it fail when no answer comes. `server` and `name`
    are for people.

    Times are monotonic seconds. `failing` says why there is no answer now; `failures` counts.
    """

    server: str
    name: str
    run: Run
    pace: Pace
    ask: Callable[[], Any]
    abandon: Callable[[], None]
    failing: str = ""
    failures: int = 0
    _next: float = 0.0
    _since: float | None = None
    _asking: Deferred[None] | None = None
    _abandoned: bool = False
    _repeated: Repeated = attrs.Factory(Repeated)

    def turn(self, now: float) -> Deferred[Any] | None:
        """Ask, when it is time and the last answer is there: fires with the answer, or None where there is none."""
        if self._asking is not None:
            if self._since is not None and now - self._since > limits.PG_ANSWER_S:
                self._since = now
                self._abandoned = True
                self.failing = _SILENT
                self.abandon()
            return None
        # Ticks come a little early or late: a turn that is nearly due is due.
        if now < self._next - limits.PG_LOOK_S / 4:
            return None
        self._asking, self._since = Deferred(), now
        self._next = max(now, self._next + self.pace.period) if self._next else now + self.pace.period
        answer = self.run(self.ask)
        answer.addCallbacks(self._answered, self._unanswered, errbackArgs=(now,))
        answer.addBoth(self._over)
        return answer

    def _answered(self, result: Any) -> Any:
        if self.failing:
            _log.info("{server}, {lane}: it answers again", server=self.server, lane=self.name)
        self.failing = ""
        return result

    def _unanswered(self, failure: Failure, now: float) -> Failure | None:
        self.failures += 1
        wait = self.pace.failed()
        self._next = now + wait
        if self._abandoned:
            self.failing = _SILENT
        elif isinstance(failure.value, TooSlow):
            self.failing = f"it takes longer than {limits.PG_STATEMENT_MS} ms to answer"
        elif isinstance(failure.value, Unreachable):
            self.failing = failure.value.why
        else:
            self.failing = "an error that the agent's log tells of"
            return failure
        n = self._repeated.due(self.failing, now)
        if n:
            _log.warn(
                "{server}, {lane}: {error} ({n} times); asking again in {wait:.0f} s",
                server=self.server, lane=self.name, error=failure.getErrorMessage() or self.failing, n=n, wait=wait,
            )  # fmt: skip
        return None

    def _over(self, result: Any) -> Any:
        asking, self._asking, self._since, self._abandoned = self._asking, None, None, False
        if asking is not None:
            asking.callback(None)
        return result

    @property
    def idle(self) -> bool:
        """Whether its thread has nothing to do."""
        return self._asking is None

    async def stop(self) -> None:
        """Wait for the answer in hand, or make it fail."""
        if self._asking is not None:
            self.abandon()
            await self._asking
