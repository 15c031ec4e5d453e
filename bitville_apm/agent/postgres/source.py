"""One `[postgres NAME]`: sessions, statistics and log, each in its lane, into the frames and records of its project.

A lane is a thread with a connection (or a file) of its own and at most one call in it. A server that is slow, away, or
shows us only half of itself holds up nobody: its lane waits, the gap is told, and everything else goes on.

    sessions   1 s   seconds.db, wait, statement, blocker, load.db; lock trees, sessions      one connection
    statistics 10 s  pg_stat_statements, counters, settings, where the log is                  one connection
    log        1 s   slow statements, lock waits, deadlocks, plans, errors                     no connection
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.postgres.follower import Follower
from bitville_apm.agent.postgres.lane import Lane
from bitville_apm.agent.postgres.link import Facts, Link
from bitville_apm.agent.postgres.logwindow import LogWindow
from bitville_apm.agent.postgres.looker import Looker, Seen
from bitville_apm.agent.postgres.observations import Observation, called
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.statistics import LogPlace, Statistics
from bitville_apm.agent.worker import Run
from bitville_apm.interfaces import ISource
from bitville_apm.repeated import Repeated

_log = Logger()
_encoder = msgspec.json.Encoder()


@attrs.define(eq=False)
class Databases:
    """The servers of one pipeline: `seconds.db` is the sum of their active sessions (wire.md 6)."""

    _seen: dict[str, tuple[float, float, int]] = attrs.Factory(dict)

    def active(self, server: str, at: float, period: float, active: int) -> float:
        """A server was looked at: the sum, with what is known of the others, each for as long as its look stands."""
        self._seen[server] = (at, period, active)
        return float(sum(n for seen, lasts, n in self._seen.values() if at - seen <= lasts + limits.PG_LOOK_S))


@implementer(ISource)
@attrs.define(eq=False)
class PostgresSource:
    """`server` is the section's name, `log` the path it gives (or empty). `run` are the threads of the three lanes.

    `now` is unix seconds. `records` counts what was journalled, `left_out` what no disk took.
    """

    server: str
    host: str
    dsn: str = attrs.field(repr=False)
    log: str
    pipeline: Pipeline
    databases: Databases
    run: tuple[Run, Run, Run]
    clock: IReactorTime
    now: Callable[[], float]
    name: str = attrs.field(init=False)
    samples: int = 0
    active: int = 0
    waiting: int = 0
    lost_s: float = 0.0
    records: Counter[str] = attrs.Factory(Counter)
    left_out: int = 0
    looker: Looker = attrs.field(init=False)
    statistics: Statistics = attrs.field(init=False)
    follower: Follower = attrs.Factory(Follower)
    log_window: LogWindow = attrs.Factory(LogWindow)
    lanes: tuple[Lane, Lane, Lane] = attrs.field(init=False)
    _facts: Facts | None = None
    _log_sought: bool = False
    _said: set[str] = attrs.Factory(set)
    _repeated: Repeated = attrs.Factory(Repeated)
    _loop: LoopingCall | None = None

    def __attrs_post_init__(self) -> None:
        self.name = "postgres" if self.server == "postgres" else f"postgres {self.server}"
        texts = Texts()
        looks, sums = Pace(limits.PG_LOOK_S), Pace(limits.PG_STATISTICS_S, limits.PG_STATISTICS_BUDGET)
        self.looker = Looker(Link(self.dsn), looks, texts, self.now)
        self.statistics = Statistics(Link(self.dsn), sums, texts, self.now)
        self.lanes = (
            Lane(self.name, "sessions", self.run[0], looks, self.looker.look, self.looker.link.abandon),
            Lane(self.name, "statistics", self.run[1], sums, self.statistics.read, self.statistics.link.abandon),
            Lane(self.name, "log", self.run[2], Pace(limits.PG_LOG_S), self._read_log, lambda: None),
        )

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look."""
        self._loop = LoopingCall(self.tick)
        self._loop.clock = self.clock
        self._loop.start(limits.PG_LOOK_S, now=True)

    def stop(self) -> Deferred[None]:
        """Look no more; what was seen is journalled, connections are closed."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        for lane in self.lanes:
            await lane.stop()
        self._tell([*self.looker.window.flush(self.now()), *self.log_window.flush(self.now())])
        await self.run[0](self.looker.close)
        await self.run[1](self.statistics.close)
        await self.run[2](self.follower.close)

    def tick(self) -> None:
        """A second has passed: each lane whose time it is takes its next turn."""
        now = self.clock.seconds()
        takes: tuple[Callable[[Any], None], ...] = (self._seen, self._read, self._tell)
        for lane, take in zip(self.lanes, takes, strict=True):
            turn = lane.turn(now)
            if turn is not None:
                turn.addCallback(take)
                turn.addErrback(self._failed, lane)
        if self.lanes[0].failing and self.lanes[0].idle:
            # What a server did before it went away is told now, not when it is back.
            self._tell(self.looker.window.flush(self.now()))

    def _failed(self, failure: Failure, lane: Lane) -> None:
        """A lane says by itself when it could not reach its server; anything else is a mistake of ours."""
        n = self._repeated.due(lane.name, self.clock.seconds())
        if n:
            _log.failure("{name}: {lane} failed {n} times", failure, name=self.name, lane=lane.name, n=n)

    # --- what lanes bring -----------------------------------------------------------------------------------

    def _seen(self, seen: Seen | None) -> None:
        if seen is None:
            return
        self.samples += 1
        self._facts = seen.facts
        tally, rollup = seen.tally, self.pipeline.sealing
        self.active, self.waiting = tally.active, tally.waiting
        rollup.cells(seen.at, tally.tables)
        for (statement, blocker), seconds in tally.links.items():
            rollup.link(seen.at, ("statement", statement), ("blocker", blocker), seconds, None)
        period = self.lanes[0].pace.period
        rollup.second(seen.at, db=self.databases.active(self.name, seen.at, period, tally.active))
        load = rollup.load(seen.at)
        load.mean({"db": {self.server: {"active": tally.active, "waiting": tally.waiting}}}, seen.seconds)
        most = {"connections": seen.connections, "max_connections": seen.facts.max_connections}
        load.most({"db": {self.server: most}})
        if seen.lost > 0:
            self.lost_s += seen.lost
            rollup.lost(seen.at, db_seconds=round(seen.lost, 3))
        self._tell(seen.observations)

    def _read(self, observations: list[Observation] | None) -> None:
        self._tell(observations)
        for seen in observations or ():
            if seen.source == "pg_stat_statements":
                load = self.pipeline.sealing.load(self.now())
                load.add({"db": {self.server: {"calls": called(seen.data)}}})
        for why in self.missing():
            if why not in self._said:  # once (PG-08)
                self._said.add(why)
                _log.info("{name}: {why}", name=self.name, why=why)

    def _read_log(self) -> list[Observation]:
        """In its thread: what was written since the last second."""
        place = self.statistics.log
        self._log_sought = place is not None
        path = self.log or (place.path if place is not None and self._on_this_machine else "")
        if not path or (place is None and not path.endswith((".json", ".csv"))):
            return self.log_window.read(self.now(), [])
        return self.log_window.read(self.now(), self.follower.read(path, place.prefix if place else ""))

    @property
    def _on_this_machine(self) -> bool:
        """Whether a path that the server names is one of ours."""
        return self._facts is not None and self._facts.local

    def _tell(self, observations: Iterable[Observation] | None) -> None:
        """Journal what is sent beside frames."""
        for seen in observations or ():
            id_ = str(uuid.uuid4())
            record = {"id": id_, "host": self.host, "server": self.server, "at": round(seen.at, 3)}
            record |= {"source": seen.source, "data": seen.data}
            if seen.correlation is not None:
                record["correlation_id"] = seen.correlation
            self.records[seen.source] += 1
            self.pipeline.observed(id_, _encoder.encode(record)).addErrback(self._not_kept)

    def _not_kept(self, failure: Failure) -> None:
        self.left_out += 1
        n = self._repeated.due("journal", self.clock.seconds())
        if n:
            _log.warn("{name}: {n} records not journalled: {e}", name=self.name, n=n, e=failure.getErrorMessage())

    # --- what is said of it ---------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """What cannot be seen of this server, in words."""
        found = list(self.statistics.missing.values())
        if self.follower.failing:
            found.append(f"its log cannot be read: {self.follower.failing}")
        elif not self.follower.path and self._log_sought:
            found.append("its log is not on this machine, or not written to a file; name it with `log`")
        place: LogPlace | None = self.statistics.log
        if place is not None and place.messages and not place.messages.startswith(("en", "C", "POSIX")):
            found.append(f"its log is not in English (lc_messages = {place.messages}): little of it is understood")
        return found

    def health(self) -> dict[str, Any]:
        """Numbers for `/health`. Degraded while a lane cannot reach the server, or looks are further apart."""
        sessions, statistics, log = self.lanes
        why = next((f"{lane.name}: {lane.failing}" for lane in self.lanes if lane.failing), "")
        if not why and sessions.pace.stretched:
            why = f"a look costs {sessions.pace.cost * 1000:.1f} ms, so there is one in {sessions.pace.period:.0f} s"
        facts = self._facts
        return {
            "status": "degraded" if why else "ok",
            "why": why,
            "server_version": facts.version if facts is not None else None,
            "standby": facts.standby if facts is not None else None,
            "pooled": facts.pooled if facts is not None else None,
            "looks": self.samples,
            "active": self.active,
            "waiting": self.waiting,
            "period_s": sessions.pace.period,
            "look_ms": round(self.looker.took_ms, 2),
            "look_cost_ms": round(sessions.pace.cost * 1000, 2),
            "lost_s": round(self.lost_s, 1),
            "statements_period_s": statistics.pace.period,
            "statements_resets": self.statistics.statements.resets,
            "records": dict(self.records),
            "left_out": {
                **self.looker.window.left_out,
                "pg_log": self.log_window.left_out,
                "not_journalled": self.left_out,
            },
            "log": {
                "events": dict(self.log_window.seen),
                "files": self.follower.files,
                "skipped_bytes": self.follower.skipped,
                "odd_lines": self.follower.odd,
                "failures": log.failures,
            },
            "missing": self.missing(),
        }
