"""Finds the beginning and the end of a spike while frames arrive: second by second, on three series of a host. Pure.

    x      one second of `tasks`, `db` or `in_flight`
    m, s   median of the last hour, and max(0.25, 0.1 m, 1.4826 MAD, (the 90th percentile - m) / 1.28)
    S      max(0, S + (x - m)/s - 1): a sum that small, steady rises fill as surely as large ones (CUSUM); one second
           adds 4 at most

A spike opens when S > 8 while three of the last five seconds are above m by more than max(1.5, half of the cores), for
sessions and requests in flight by more than max(3, the cores), and the last ten in the mean by more than 2 s: on a busy
host, whose queue grows and is gone again, what would be over at once does not begin. Its onset is the last second at
which S was 0. It closes after three frames below m + max(2 s, a tenth of its rise, but not more than would open one).
Seconds of a spike are kept out of the hour that the next one is compared with. A level that stays for an hour is no
spike any more but the new normal: it closes, and that hour is compared with.

m is the larger of the medians of the last hour and of the last ten minutes but one: a morning that fills up over an
hour is no spike, one that fills up over five minutes is.

Several series that rise together are one spike. It is named after the first that triggered; while it is open the
others join it, and it closes when all of them are down again. `tasks` is named before `db`, that before `in_flight`:
a spike that began as one of waiting requests and becomes load is closed as `tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis.history import History
from bitville_apm.analysis.report import Measure
from bitville_apm.records import Frame

MEASURES: tuple[Measure, ...] = ("tasks", "db", "in_flight")
"""In the order in which a spike of several is named after one."""


@attrs.frozen
class Opened:
    """A spike has begun: at `at` the trigger fired, `onset` is the last second before the rise (unix seconds).

    `level` is the second's value, `baseline` the median before: load units of `measure`.
    """

    measure: Measure
    onset: float
    at: float
    level: float
    baseline: float


@attrs.frozen
class Closed:
    """The spike that began at `onset` is over since `end`; `level` is its worst second, at `peak`."""

    measure: Measure
    onset: float
    peak: float
    end: float
    level: float
    baseline: float


Found = Opened | Closed


def floor(measure: Measure, cores: float) -> float:
    """What a second has to be above the usual to matter, load units: requests and sessions that wait take no CPU."""
    if measure == "tasks":
        return max(limits.FLOOR_LEAST, limits.FLOOR_OF_CORES * cores)
    return max(limits.FLOOR_COUNTED, limits.FLOOR_COUNTED_OF_CORES * cores)


@attrs.define(eq=False)
class Series:
    """One measure of one host. `since` is the first second of the last stretch without a long gap."""

    history: History = attrs.Factory(History)
    usual: tuple[float, float] = (0.0, limits.SIGMA_LEAST)
    total: float = 0.0
    zero_at: float | None = None
    last: float | None = None
    held: list[tuple[float, float]] = attrs.Factory(list)
    low_frames: int = 0
    most: float = 0.0
    """The worst second of the spike that is open."""
    window: tuple[float, list[float], int] = (-math.inf, [], 0)
    last_ten: tuple[float, ...] = ()

    def second(self, at: float, value: float, floor: float) -> bool:
        """Take one second; whether it triggers."""
        if self.last is not None and at - self.last > limits.GAP_FORGETS_S:
            self.total, self.zero_at, self.last_ten = 0.0, None, ()
        self.last = at
        middle, sigma = self.usual
        step = min((value - middle) / sigma - limits.CUSUM_SLACK, limits.CUSUM_STEP)
        self.total = min(max(0.0, self.total + step), limits.CUSUM_MOST)
        if self.total == 0.0 or self.zero_at is None:
            self.zero_at = at
        self.last_ten = (*self.last_ten[-limits.WINDOW_S + 1 :], value)
        if not self.history.enough:
            return False
        if value - middle <= floor or self.total <= limits.CUSUM_TRIGGER:
            return False
        above = sum(one - middle > floor for one in self.last_ten[-limits.ABOVE_OF :])
        mean = sum(self.last_ten) / len(self.last_ten)
        return above >= limits.ABOVE_LEAST and mean - middle > limits.CLOSE_SIGMAS * sigma


@attrs.define(eq=False)
class Detector:
    """The spikes of one host (and project): feed it its frames in the order in which they come.

    Late frames, and seconds that were seen before, are passed over: only the first word on a second counts. Of the
    parts of a window that an agent's restart has cut in two each brings its own seconds. To go on after a restart,
    feed it the frames of the last hour or two; what it finds in them was found before. The first
    `limits.HISTORY_LEAST_S` seconds trigger nothing (`ready` says when that is over).
    """

    cores: float = 1.0
    series: dict[Measure, Series] = attrs.Factory(lambda: {measure: Series() for measure in MEASURES})
    seen: float = -math.inf
    spike: Opened | None = None
    passed: int = 0
    _peak: tuple[float, float] = (0.0, 0.0)
    _measure: Measure = "tasks"
    _joined: set[Measure] = attrs.Factory(set)

    @property
    def ready(self) -> bool:
        """Whether any series has enough history to trigger."""
        return any(series.history.enough for series in self.series.values())

    def feed(self, frame: Frame) -> Sequence[Found]:
        """Take one frame; what it began or ended, in order."""
        cores = frame.load.get("cores")
        if isinstance(cores, int | float) and cores > 0:
            self.cores = float(cores)
        if frame.late or not frame.seconds:
            return []
        columns = {m: list(frame.seconds.get(m, ())) for m in MEASURES}
        length = max(map(len, columns.values()), default=0)
        if frame.at + length <= self.seen:
            self.passed += 1
            return []
        found: list[Found] = list(self.silent(frame.at))
        taken: dict[Measure, list[float]] = {measure: [] for measure in MEASURES}
        for series in self.series.values():
            series.usual = series.usual if self.spike is not None else series.history.usual()
        for i in range(length):
            at = frame.at + i
            if at <= self.seen:
                continue
            here = False
            for measure in MEASURES:
                value = columns[measure][i] if i < len(columns[measure]) else None
                if value is None or not math.isfinite(value):
                    continue
                here = True
                taken[measure].append(value)
                found.extend(self._second(measure, at, value))
            if here:
                self.seen = at
        found.extend(self._frame_over(frame.at, frame.at + length, taken))
        return found

    def silent(self, now: float) -> Sequence[Closed]:
        """Close the open spike when its host has said nothing for `limits.SILENT_CLOSES_S`."""
        if self.spike is None or now - self.seen <= limits.SILENT_CLOSES_S:
            return []
        return [self._close(self.seen + 1)]

    def _second(self, measure: Measure, at: float, value: float) -> Iterator[Found]:
        series = self.series[measure]
        triggers = series.second(at, value, floor(measure, self.cores))
        series.held.append((at, value))
        if self.spike is not None:
            series.most = max(series.most, value)
        if self.spike is not None and measure == self._measure and value > self._peak[1]:
            self._peak = at, value
        if not triggers or measure in self._joined:
            return
        self._joined.add(measure)
        series.low_frames = 0
        if self.spike is None:
            onset = at - 1 if series.zero_at is None else series.zero_at
            self.spike = Opened(measure, onset, at, value, series.usual[0])
            self._measure = measure
            self._peak = max(((t, v) for t, v in series.held if t >= onset), key=lambda p: p[1], default=(at, value))
            yield self.spike
        elif MEASURES.index(measure) < MEASURES.index(self._measure):
            self._measure = measure
            self._peak = max(
                ((t, v) for t, v in series.held if t >= self.spike.onset), key=lambda p: p[1], default=(at, value)
            )

    def _frame_over(self, begin: float, end: float, taken: dict[Measure, list[float]]) -> Iterator[Closed]:
        """After a frame: is it over, and what becomes history."""
        for measure, values in taken.items():
            series = self.series[measure]
            middle, sigma = series.usual
            if values:
                if series.window[0] != begin:
                    series.window = begin, [], series.low_frames
                # Parts of one window are one frame.
                _, seen, before = series.window
                seen += values
                tenth = min(floor(measure, self.cores), limits.CLOSE_OF_PEAK * (series.most - middle))
                low = sum(seen) / len(seen) < middle + max(limits.CLOSE_SIGMAS * sigma, tenth)
                series.low_frames = before + 1 if low else 0
        if self.spike is not None:
            if all(self.series[m].low_frames >= limits.CLOSE_FRAMES for m in self._joined):
                yield self._close(max(self.spike.at + 1, end - limits.CLOSE_FRAMES * limits.WINDOW_S))
            elif end - self.spike.onset > limits.NEW_NORMAL_S:
                yield self._close(end, new_normal=True)
            return
        for series in self.series.values():
            # What may be the beginning of a spike waits until it is known to be none.
            if series.total <= 0 or not series.history.enough:
                keep = len(series.held)
            else:
                onset = series.zero_at or -math.inf
                patience = (self.seen - onset) > limits.HELD_BACK_S
                keep = len(series.held) if patience else sum(1 for t, _ in series.held if t <= onset)
            for at, value in series.held[:keep]:
                series.history.add(at, value)
            del series.held[:keep]

    def _close(self, end: float, new_normal: bool = False) -> Closed:
        spike = self.spike
        assert spike is not None  # noqa: S101 - callers looked
        for series in self.series.values():
            if new_normal:
                series.history = History()
            for at, value in series.held:
                if at >= end or at <= spike.onset or new_normal:
                    series.history.add(at, value)
            series.held.clear()
            series.total, series.zero_at, series.low_frames, series.most = 0.0, None, 0, 0.0
        closed = Closed(self._measure, spike.onset, self._peak[0], end, self._peak[1], self._baseline())
        self.spike = None
        self._joined.clear()
        return closed

    def _baseline(self) -> float:
        return self.series[self._measure].usual[0]
