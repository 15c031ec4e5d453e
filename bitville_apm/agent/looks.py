"""Once a second: what every begun request, and all else on this host, is doing right now, into frames (wire.md 6).

The reading is done by `eyes.py` and then `host/host.py`, on a thread of their own. What was seen of a request that
ended meanwhile is dropped: its record tells the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.agent.eyes import Eyes, Seen
from bitville_apm.agent.host.host import Host
from bitville_apm.agent.host.telling import tell
from bitville_apm.agent.inflight import Open
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.rollup import Task
from bitville_apm.agent.worker import Run
from bitville_apm.interfaces import ISource
from bitville_apm.repeated import Repeated

_log = Logger()


@implementer(ISource)
@attrs.define(eq=False)
class Looks:
    """All looks of one agent: `seconds` and `load` are the host's and go into the frames of every pipeline.

    Without `host` only the processes of requests are looked at.
    """

    sources: Sequence[PhpSource]
    pipelines: Sequence[Pipeline]
    eyes: Eyes
    run: Run
    clock: IReactorTime
    boottime: Callable[[], float]
    host: Host | None = None
    name: str = "host"
    taken: int = 0
    _looking: Deferred[None] | None = None
    _since: float = 0.0
    _blinded: str = ""
    _said: set[str] = attrs.Factory(set)
    _told: dict[str, tuple[int, int]] = attrs.Factory(dict)
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin to look."""
        self._loop = LoopingCall(self.look)
        self._loop.clock = self.clock
        self._loop.start(limits.TASKS_LOOK_S, now=True)

    def stop(self) -> Deferred[None]:
        """Look no more; the look in hand is finished."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            await self._looking
        await self.run(self.eyes.close)
        if self.host is not None:
            await self.run(self.host.close)

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`, and what cannot be seen on this machine."""
        why = self._blinded
        if self._looking is not None and self.clock.seconds() - self._since > limits.LOOK_STUCK_S:
            why = f"no look at processes has ended for {self.clock.seconds() - self._since:.0f} s"
        health: dict[str, Any] = {"status": "degraded", "why": why} if why else {"status": "ok"}
        health["looks"] = self.taken
        if self.host is not None:
            health.update(self.host.health())
        return health

    def look(self) -> None:
        """One look, unless the one before is not back yet: then its time is added to the next."""
        if self._looking is not None:
            return
        requests = [(source, request) for source in self.sources for request in source.in_flight.open()]
        begun: dict[int, object] = {}
        for source in self.sources:
            pids, source.in_flight.begun_by = source.in_flight.begun_by, set()
            begun.update(dict.fromkeys(pids, source))
        self._looking, self._since = Deferred(), self.clock.seconds()
        Deferred.fromCoroutine(self._look(requests, begun)).addErrback(self._blind).addBoth(self._over)

    async def _look(self, requests: Sequence[tuple[PhpSource, Open]], begun: dict[int, object]) -> None:
        seen = await self.run(self.eyes.look, requests, begun)
        self._seen(seen)
        if self.host is not None:
            host = await self.run(self.host.look, self.eyes.known())
            if host is not None:
                for pipeline in self.pipelines:
                    tell(pipeline, seen.now, host)
            for unseen in self.host.unseen:
                if unseen not in self._said:
                    self._said.add(unseen)
                    _log.info("not seen of this host: {what}", what=unseen)
        self._blinded = ""

    def _over(self, _: None) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.callback(None)

    def _blind(self, failure: Failure) -> None:
        self._blinded = "looking at processes fails; the log says why"
        n = self._repeated.due("look", self.clock.seconds())
        if n:
            _log.failure("looking at processes failed {n} times", failure, n=n)

    def _seen(self, seen: Seen) -> None:
        self.taken += 1
        open_: dict[int, PhpSource] = {}
        for source in self.sources:
            open_.update(dict.fromkeys(map(id, source.in_flight.open()), source))
        tasks: defaultdict[int, list[Task]] = defaultdict(list)
        busy_us = 0.0
        for request, spent in seen.spent:
            busy_us += spent.cpu_us + spent.queue_us + spent.blocked_s * 1e6
            source_of = open_.get(id(request))
            if source_of is not None:
                tasks[id(source_of.pipeline)].append(Task(request, spent))
        for key, spent in seen.outside.items():
            busy_us += spent.cpu_us + spent.queue_us
            assert isinstance(key, PhpSource)  # noqa: S101 - what `look` handed in
            tasks[id(key.pipeline)].append(Task(None, spent))
        for request, before in seen.before:
            source_of = open_.get(id(request))
            if source_of is not None:
                source_of.pipeline.sealing.rollup.before(request, before)
        counted = {"in_flight": float(len(open_))}
        if self.host is None:
            counted["tasks"] = busy_us / 1e6 / (seen.elapsed or limits.TASKS_LOOK_S)
        died, end_lost = self._ended()
        for pipeline in self.pipelines:
            pipeline.sealing.look(seen, tasks.get(id(pipeline), []), counted)
            load = pipeline.sealing.load(seen.now)
            load.most({"in_flight": len(open_)})
            load.add({"died": died, "end_lost": end_lost})
        for request in seen.over:
            source_of = open_.get(id(request))
            if source_of is not None:
                source_of.in_flight.over(request, self.boottime())

    def _ended(self) -> tuple[int, int]:
        """How many requests died or lost their end since the last look."""
        died = end_lost = 0
        for source in self.sources:
            now = source.in_flight.died, source.in_flight.end_lost
            before = self._told.get(source.name, (0, 0))
            self._told[source.name] = now
            died += now[0] - before[0]
            end_lost += now[1] - before[1]
        return died, end_lost
