"""Slow drifts: once a night the newest day is compared with the four weeks before it, project by project (ADV-02).

Soon after a UTC midnight, by sums of days that the store reads off its hours. What was found is kept there as soon as a
project is done: a restart goes on with those that are missing, and a night that was missed is made up for soon after
the start.

It has no hurry: after each question it rests for some times as long as that took. No thread is niced for that: one that
holds the interpreter and gets no CPU would hold up all others.
"""

from __future__ import annotations

import contextlib
import socket
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.analysis.baseline import Day, Regression, regressions
from bitville_apm.store.interface import Drifts, IStore, TopRow

T = TypeVar("T")
_log = Logger()

DIMENSIONS = ("endpoint", "function", "statement")
COUNTED = ("projects", "values", "found", "left_out", "capped", "skipped", "failed")
"""The names in `Nightly.counted`."""
_DAY_S = 86_400.0


def spread_of(data: Path) -> float:
    """How long after others this installation begins, seconds: always the same for one machine and directory."""
    return float(zlib.crc32(f"{socket.gethostname()} {data}".encode()) % limits.NIGHTLY_SPREAD_S)


@attrs.define(eq=False)
class Nightly:
    """See the module. `reactor` tells unix time, schedules by seconds that do not jump, and has threads."""

    store: IStore
    reactor: Any
    spread: float = 0.0
    counted: Counter[str] = attrs.field(factory=Counter)
    """Since the start: projects compared, values in them, drifts found, and left_out beyond `limits.DRIFTS_KEPT`; days
    of a dimension capped at `limits.DRIFT_VALUES`; projects skipped beyond `limits.NIGHTLY_PROJECTS`, and failed."""
    _steady: Any = attrs.field(init=False)
    _loop: LoopingCall | None = None
    _done: float | None = None
    """The newest day that was compared in all projects, or given up."""
    _tries: int = 0
    _not_before: float = 0.0
    _work: Deferred[None] | None = None
    _rest: Deferred[None] | None = None
    _stopping: bool = False
    _problem: str | None = None

    def __attrs_post_init__(self) -> None:
        self._steady = getattr(self.reactor, "steady", self.reactor)

    def start(self) -> None:
        """Look every minute whether it is time, not at once."""
        self._not_before = self._steady.seconds() + limits.NIGHTLY_START_S
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self._steady
        self._loop.start(limits.NIGHTLY_LOOK_S, now=False)

    async def stop(self) -> None:
        """Give up what is not done, and wait for the question in hand."""
        self._stopping = True
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._rest is not None:
            self._rest.cancel()
        if self._work is not None:
            await self._work

    def state(self) -> dict[str, Any]:
        """For `/ready`: the newest day compared (its beginning) and when the next night is, unix seconds."""
        now = self.reactor.seconds()
        return {
            "working": self._work is not None,
            "day": self._done,
            "next_run": round(max(self._begins(now), now + self._not_before - self._steady.seconds()), 1),
            "problem": self._problem,
            **{name: self.counted[name] for name in COUNTED},
        }

    def _begins(self, now: float) -> float:
        """When the next night begins; in the past for one that was missed."""
        midnight = now // _DAY_S * _DAY_S
        if self._done == midnight - _DAY_S:
            midnight += _DAY_S
        return midnight + limits.NIGHTLY_AFTER_S + self.spread

    def _tick(self) -> None:
        now = self.reactor.seconds()
        if self._work is None and self._steady.seconds() >= self._not_before and now >= self._begins(now):
            work = Deferred.fromCoroutine(self._night(now // _DAY_S * _DAY_S - _DAY_S))
            if not work.called:
                self._work = work
                work.addBoth(self._worked)

    def _worked(self, _: object) -> None:
        self._work = None

    # --- One night ----------------------------------------------------------------------------------------

    async def _night(self, newest: float) -> None:
        """Compare every project of which that is not done. Whatever fails is tried again later, some times."""
        before = self.counted["failed"]
        try:
            kept = {night.project: night.day for night in await self.store.drifts(None)}
            missing = [name for name in await self.store.projects(None) if kept.get(name) != newest]
            missing.sort(key=lambda name: (kept.get(name, 0.0), name))
            self.counted["skipped"] += len(missing[limits.NIGHTLY_PROJECTS :])
            for project in missing[: limits.NIGHTLY_PROJECTS]:
                await self._tried(project, newest)
        except Exception as error:  # noqa: BLE001 - the next try comes
            self._fail(error, "the slow drifts of a night could not be looked for")
        if self._stopping:
            return
        failed = self.counted["failed"] > before
        self._tries += 1
        if failed and self._tries < limits.NIGHTLY_TRIES:
            self._not_before = self._steady.seconds() + limits.NIGHTLY_AGAIN_S
            return
        self._done, self._tries = newest, 0
        if not failed:
            self._problem = None

    async def _tried(self, project: str, newest: float) -> None:
        if self._stopping:
            return
        try:
            await self._compared(project, newest)
        except Exception as error:  # noqa: BLE001 - the other projects have theirs
            if not self._stopping:
                self._fail(error, "the days of a project could not be compared")

    def _fail(self, error: Exception, what: str) -> None:
        _log.failure(what)
        self.counted["failed"] += 1
        self._problem = f"{type(error).__name__}: {error}"

    async def _compared(self, project: str, newest: float) -> None:
        """Compare the days of one project, one dimension after another, and keep what is found."""
        found: list[Regression] = []
        known: set[float] = set()
        for dimension in DIMENSIONS:
            days: dict[tuple[str, str], list[Day]] = {}
            for ago in range(limits.DRIFT_WINDOW_DAYS):
                at = newest - ago * _DAY_S
                for row in await self._asked(project, dimension, at):
                    days.setdefault((dimension, row.value), []).append(_day(at, row))
                    known.add(at)
                if self._stopping:
                    return
            found += await self._aside(regressions, days, newest)
            self.counted["values"] += len(days)
        found.sort(key=lambda one: -one.lost_s)
        kept = found[: limits.DRIFTS_KEPT]
        night = Drifts(
            project=project,
            day=newest,
            made=self.reactor.seconds(),
            days=len(known),
            left_out=len(found) - len(kept),
            found=msgspec.json.encode(kept),
        )
        await self.store.keep_drifts(night)
        self.counted["projects"] += 1
        self.counted["found"] += len(found)
        self.counted["left_out"] += night.left_out

    async def _asked(self, project: str, dimension: str, at: float) -> Sequence[TopRow]:
        """The heaviest values of a day. Rests afterwards."""
        began = self._steady.seconds()
        rows = await self.store.top(frozenset({project}), dimension, at, at + _DAY_S, None, limits.DRIFT_VALUES)
        self.counted["capped"] += len(rows) >= limits.DRIFT_VALUES
        took = self._steady.seconds() - began
        if took > 0 and not self._stopping:
            self._rest = deferLater(self._steady, limits.NIGHTLY_REST * took)
            with contextlib.suppress(CancelledError):
                await self._rest
            self._rest = None
        return rows

    def _aside(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        if IReactorThreads.providedBy(self.reactor):
            return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function, *arguments)
        return succeed(function(*arguments))


def _day(at: float, row: TopRow) -> Day:
    return Day(
        at=at,
        requests=row.requests,
        executions=row.executions,
        cpu_s=row.cpu_ms / 1000,
        wall_s=row.wall_ms / 1000,
        load_s=row.running_s + row.blocked_s,
    )
