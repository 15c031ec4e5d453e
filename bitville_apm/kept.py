"""A breaker that outlives the process: each change is written to its state file (DAEMON-09)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from bitville_apm import breaker, files
from bitville_apm.breaker import Breaker
from bitville_apm.repeated import Repeated

_log = Logger()


@attrs.define(eq=False)
class KeptBreaker:
    """`run` does what blocks in a thread, `clock` counts seconds that never jump, `now` is unix seconds."""

    name: str
    path: Path
    run: Callable[..., Deferred[Any]]
    clock: IReactorTime
    now: Callable[[], float]
    value: Breaker = attrs.field(factory=Breaker)
    _repeated: Repeated = attrs.Factory(Repeated)

    async def restore(self) -> None:
        """Take up the state of the process before."""
        try:
            data = await self.run(self.path.read_bytes)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warn("breaker {name}: its state cannot be read: {error}", name=self.name, error=error)
            return
        self.value = breaker.decoded(data, self.now(), self.clock.seconds())
        _log.info(
            "breaker {name} restored: {state}, {n} failures",
            name=self.name,
            state=self.value.state,
            n=self.value.failure_count,
        )

    async def poll(self) -> Breaker:
        """As it is now: an open one may have waited long enough."""
        polled = self.value.polled(self.clock.seconds())
        if polled.state != self.value.state:
            await self.change(polled)
        return self.value

    async def failed(self) -> None:
        """A sending failed."""
        await self.change(self.value.failed(self.now(), self.clock.seconds()))

    async def succeeded(self) -> None:
        """A sending was accepted."""
        await self.change(self.value.succeeded())

    def statistics(self) -> dict[str, Any]:
        """What health shows of it."""
        return self.value.statistics(self.name)

    async def change(self, changed: Breaker) -> None:
        """Log a change of state, and keep it. A file that cannot be written keeps nobody from sending."""
        before, self.value = self.value, changed
        if changed == before:
            return
        if changed.state != before.state:
            _log.info(
                "breaker {name} {state}",
                name=self.name,
                state={"open": "opened", "half_open": "half-open"}.get(changed.state, changed.state),
            )
        try:
            await self.run(_save, self.path, changed.encoded())
        except OSError as error:
            n = self._repeated.due("breaker", self.clock.seconds())
            if n:
                _log.warn("breaker {name}: its state cannot be written: {error}", name=self.name, error=error)


def _save(path: Path, data: bytes) -> None:
    files.make_private(path.parent)
    files.replace(path, data)
