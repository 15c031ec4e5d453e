"""Finds spikes while frames arrive, has them explained, keeps them, and tells of them.

A frame that was committed goes, without its cells, into a queue; a thread feeds it to the detector of its project and
host. What that finds is put together by `risen.Book`, and reports are made one after another: when a spike begins,
every half minute while it lasts, at its end, and whenever late frames say more of it. Nothing of this holds up an
answer to an agent.

After a start a host's detector is fed the last two hours from the store, so that a spike goes on under its id; what is
found in them a second time is known from the store.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from bitville_apm import limits
from bitville_apm.analysis.detect import Closed, Detector, Found, Opened
from bitville_apm.analysis.report import Report
from bitville_apm.collector.explainer import Asked, Explainer
from bitville_apm.collector.risen import Book, Risen
from bitville_apm.records import Frame
from bitville_apm.store.interface import Arrival, IStore, Outcome, Spike

T = TypeVar("T")
_log = Logger()

Place = tuple[str, str]
"""Project and host."""
Alert = Callable[[Literal["open", "over"], Spike, Report], Deferred[bool]]
"""Told of each spike worth an alert, of its beginning and its end, with its report. Returns at once, and fires with
whether that is done with; what is not is told again after the next start."""


@attrs.define(eq=False)
class Spikes:
    """See the module. `reactor` tells unix time, schedules by seconds that do not jump, and has threads."""

    store: IStore
    explainer: Explainer
    reactor: Any
    alert: Alert = lambda what, spike, report: succeed(True)
    counted: Counter[str] = attrs.field(factory=Counter)
    """Since the start: frames seen, late, left_out; spikes opened; reports kept, failed; detectors dropped."""
    book: Book = attrs.field(factory=Book)
    _queue: deque[tuple[Place, Frame]] = attrs.field(factory=deque)
    _detectors: dict[Place, Detector] = attrs.field(factory=dict)
    _stale: set[Place] = attrs.field(factory=set)
    """Whose frames found no room: their detectors have a gap."""
    _thread: ThreadPool = attrs.field(factory=lambda: ThreadPool(0, 1, "bitville-spikes"))
    _loops: list[LoopingCall] = attrs.field(factory=list)
    _detecting: Deferred[None] | None = None
    _reporting: Deferred[None] | None = None
    _telling: set[Deferred[None]] = attrs.field(factory=set)
    _stopping: bool = False
    _ready: bool = False

    # --- Coming and going ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look. Frames that come before the store's spikes are known wait."""
        self._thread.start()
        self._detecting = Deferred.fromCoroutine(self._restored())
        clock = getattr(self.reactor, "steady", self.reactor)
        for tick, seconds in ((self._tick, limits.DETECT_LOOK_S), (self._silent_tick, limits.SILENT_LOOK_S)):
            loop = LoopingCall(tick)
            loop.clock = clock
            loop.start(seconds, now=False)
            self._loops.append(loop)

    async def stop(self) -> None:
        """Take no more, and wait for the work in hand: what was not looked at is in the store. Alerts have stopped."""
        self._stopping = True
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for work in (self._detecting, self._reporting):
            if work is not None:
                await work
        for telling in list(self._telling):
            await telling
        self._thread.stop()

    def state(self) -> dict[str, Any]:
        """For `/ready`."""
        return {
            "watched": len(self._detectors),
            "waiting_frames": len(self._queue),
            "open": self.book.open,
            "known": len(self.book.spikes),
            "forgotten": self.book.forgotten,
            **{name: self.counted[name] for name in COUNTED},
        }

    async def _restored(self) -> None:
        """Know the spikes of the last day; go on at once with those that last."""
        now = self.reactor.seconds()
        try:
            kept = await self.store.spikes(None, now - limits.SPIKES_KNOWN_S, now * 2, None, limits.SPIKES_KNOWN)
            for spike in kept:
                self.book.restore(spike, now)
            places = {(spike.project, host) for spike in kept if spike.end is None for host in spike.hosts}
            if places:
                _log.info("going on with spikes on {n} hosts", n=len(places))
            for place in sorted(places)[: limits.DETECTORS]:
                await self._detector(place)
        except Exception:  # noqa: BLE001 - spikes are found all the same, some of them perhaps twice
            _log.failure("the spikes before the start are not known")
        finally:
            self._ready, self._detecting = True, None
            self._work()

    # --- Frames -------------------------------------------------------------------------------------------

    def saw(self, arrivals: Sequence[Arrival], outcomes: Sequence[Outcome]) -> None:
        """A batch was committed. Returns at once."""
        for arrival, outcome in zip(arrivals, outcomes, strict=True):
            if arrival.frame is None or outcome != "stored":
                continue
            self.counted["frames"] += 1
            self.counted["late"] += arrival.frame.late
            place = arrival.project, arrival.host
            if len(self._queue) >= limits.DETECT_FRAMES:
                # Its detector would have a gap where there was none: it is made again from the store.
                self.counted["left_out"] += 1
                self._stale.add(place)
                continue
            self._queue.append((place, msgspec.structs.replace(arrival.frame, cells={}, links=[])))
        self._work()

    def _work(self) -> None:
        if self._queue and self._detecting is None and self._ready and not self._stopping:
            self._detecting = Deferred.fromCoroutine(self._detect())

    async def _detect(self) -> None:
        """Feed what waits. What goes wrong costs the frames of one turn."""
        try:
            while self._queue and not self._stopping:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), limits.DETECT_TOGETHER))]
                try:
                    await self._fed(batch)
                except Exception:  # noqa: BLE001 - the next batch may be better
                    _log.failure("{n} frames could not be looked at", n=len(batch))
        finally:
            self._detecting = None

    async def _fed(self, batch: Sequence[tuple[Place, Frame]]) -> None:
        now = self.reactor.seconds()
        for (project, host), frame in batch:  # first: what these frames begin or end is reported with them
            if frame.late or frame.at < now - limits.LATE_S:
                self.book.frame(project, host, frame.at, now)
        for place in dict.fromkeys(place for place, _ in batch):
            await self._detector(place)
        self._found(await self._aside(_feed, self._detectors, batch))

    async def _detector(self, place: Place) -> None:
        """Make sure that there is a detector, fed with the last two hours when it is new."""
        if place in self._stale:  # also one that is just being made
            self._stale.discard(place)
            self._detectors.pop(place, None)
        if place in self._detectors:
            self._detectors[place] = self._detectors.pop(place)  # heard of last
            return
        project, host = place
        now = self.reactor.seconds()
        frames = await self.store.frames(
            frozenset({project}), now - limits.DETECT_AGAIN_S, now + limits.CLOCK_AHEAD_S, host, cells=False
        )
        detector = Detector()
        found = await self._aside(_feed, {place: detector}, [(place, framed.frame) for framed in frames])
        while len(self._detectors) >= limits.DETECTORS:
            del self._detectors[next(iter(self._detectors))]
            self.counted["dropped"] += 1
        self._detectors[place] = detector
        self._found(found)
        self.book.settle(project, host, detector.spike is not None, detector.seen, self.reactor.seconds())
        _log.info(
            "watching {host} of {project} for spikes, from {n} frames of the last two hours",
            host=host,
            project=project,
            n=len(frames),
        )

    def _found(self, events: Sequence[tuple[Place, Found]]) -> None:
        now = self.reactor.seconds()
        for (project, host), event in events:
            if isinstance(event, Opened):
                before = len(self.book.spikes)
                spike = self.book.opened(project, host, event, now)
                if len(self.book.spikes) > before:
                    self.counted["opened"] += 1
                    _log.info("a spike on {host} of {project}: {id}", host=host, project=project, id=spike.id)
            elif isinstance(event, Closed):
                self.book.closed(project, host, event, now)

    def _silent_tick(self) -> None:
        """Close the spikes of hosts that say nothing any more. Reads no file, and takes microseconds a host."""
        try:
            if self._detecting is None:  # else the thread has them; there is a next look
                now = self.reactor.seconds()
                self._found([(p, e) for p, d in self._detectors.items() for e in d.silent(now)])
        except Exception:  # noqa: BLE001 - the next look comes
            _log.failure("looking for silent hosts failed")

    # --- Reports ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Make the next report that is due, one at a time."""
        try:
            now = self.reactor.seconds()
            self._work()
            self.book.prune(now)
            spike = self.book.due(now) if self._reporting is None and self._ready else None
            if spike is not None:
                self._reporting = Deferred.fromCoroutine(self._report(spike))
        except Exception:  # noqa: BLE001 - the next look comes
            _log.failure("looking for reports that are due failed")

    async def _report(self, spike: Risen) -> None:
        steady = getattr(self.reactor, "steady", self.reactor)
        began = steady.seconds()
        spike.due = None
        try:
            report = await self.explainer.report(
                Asked(
                    spike.project, spike.onset, spike.end, hosts=sorted(spike.hosts), opened=spike.opened, own=spike.id
                )
            )
            kept = _kept(spike, report)
            await self.store.keep_spike(kept)
        except Exception:  # noqa: BLE001 - whatever it is, it is tried again
            _log.failure("the report of spike {id} could not be made or kept", id=spike.id)
            self.counted["failed"] += 1
            spike.ask(self.reactor.seconds() + limits.SPIKE_RETRY_S)
        else:
            spike.revision = kept.revision
            self.counted["reports"] += 1
            now, told = self.reactor.seconds(), spike.told
            what = spike.alert(now + self.explainer.ahead(spike.project, spike.hosts), report.kind != "none")
            self.book.reported(spike, report.provisional, now, steady.seconds() - began)
            if what is not None:
                _log.info("spike {id} {what}: {verdict}", id=spike.id, what=what, verdict=report.verdict)
            if spike.told > told:
                telling = Deferred.fromCoroutine(self._told(what, kept, report, spike.told))
                if not telling.called:
                    self._telling.add(telling)
                    telling.addBoth(lambda _: self._telling.discard(telling))
        finally:
            self._reporting = None

    async def _told(self, what: Literal["open", "over"] | None, kept: Spike, report: Report, told: int) -> None:
        """Have it told, and note that it was. What was not noted, a collector that starts tells again."""
        try:
            if what is None or await self.alert(what, kept, report):
                await self.store.told_spike(kept.id, told)
        except Exception:  # noqa: BLE001 - at worst it is told twice
            _log.failure("what was told of spike {id} could not be noted", id=kept.id)

    def _aside(self, function: Callable[..., T], *arguments: object) -> Deferred[T]:
        if IReactorThreads.providedBy(self.reactor):
            return deferToThreadPool(self.reactor, self._thread, function, *arguments)
        return succeed(function(*arguments))


COUNTED = ("frames", "late", "left_out", "dropped", "opened", "reports", "failed")
"""The names in `Spikes.counted`."""


def _feed(detectors: dict[Place, Detector], batch: Sequence[tuple[Place, Frame]]) -> list[tuple[Place, Found]]:
    """In a thread: what each frame began or ended."""
    found: list[tuple[Place, Found]] = []
    for place, frame in batch:
        detector = detectors.get(place)
        if detector is not None:
            found += [(place, event) for event in detector.feed(frame)]
    return found


def _kept(spike: Risen, report: Report) -> Spike:
    """A spike as the store keeps it."""
    return Spike(
        id=spike.id, project=spike.project, hosts=sorted(spike.hosts), opened=spike.opened, onset=spike.onset,
        peak=report.peak, end=spike.end, measure=report.measure, level=report.level, baseline=report.baseline,
        kind=report.kind, verdict=report.verdict, provisional=report.provisional, signature=report.signature,
        revision=spike.revision + 1, report=msgspec.json.encode(report),
    )  # fmt: skip
