"""Which windows are compared: a spike with the time before it, or two that a person picked. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis.explain import explain
from bitville_apm.analysis.report import Report
from bitville_apm.records import Frame


@attrs.frozen
class Window:
    """From `start` up to `end`, unix seconds; frames lie in it by their `at`."""

    start: float
    end: float

    def has(self, frame: Frame) -> bool:
        """Whether a frame lies in it."""
        return self.start <= frame.at < self.end


def spike_window(onset: float, end: float | None, now: float) -> Window:
    """The frames that tell of a spike: those that begin in it, and the one in which it began if it has half of it."""
    first = onset // limits.WINDOW_S * limits.WINDOW_S
    if onset - first > limits.WINDOW_S / 2 and (end is None or end - onset > limits.WINDOW_S):
        first += limits.WINDOW_S
    return Window(first, max(now if end is None else end, first + limits.WINDOW_S))


def baseline_windows(onset: float, end: float | None, others: Sequence[tuple[float, float]] = ()) -> list[Window]:
    """What a spike is compared with: the hour before, and the same time of yesterday and of a week ago.

    The hour before without other spikes (onset, end) and the half minute after each; of the other days ten minutes
    before and after as well. Where nothing is stored of them they add nothing.
    """
    until = (onset // limits.WINDOW_S) * limits.WINDOW_S
    last = min(onset + limits.BASELINE_OTHER_S, end if end is not None else onset + limits.BASELINE_OTHER_S)
    asked = [Window(until - limits.BASELINE_S, until)]
    for days in limits.BASELINE_DAYS:
        away = days * 86_400
        asked.append(
            Window(
                (onset - away - limits.BASELINE_OTHER_S) // limits.WINDOW_S * limits.WINDOW_S,
                last - away + limits.BASELINE_OTHER_S,
            )
        )
    return [part for window in asked for part in _without(window, others)]


def _without(window: Window, others: Sequence[tuple[float, float]]) -> list[Window]:
    """A window less the spikes in it."""
    parts = [window]
    for onset, end in others:
        left = onset // limits.WINDOW_S * limits.WINDOW_S
        right = (end + limits.BASELINE_AFTER_S) // limits.WINDOW_S * limits.WINDOW_S + limits.WINDOW_S
        parts = [
            piece
            for part in parts
            for piece in (Window(part.start, min(part.end, left)), Window(max(part.start, right), part.end))
            if piece.end - piece.start >= limits.WINDOW_S
        ]
    return parts


def chosen(frames: Sequence[Frame], windows: Sequence[Window]) -> list[Frame]:
    """The frames that lie in one of some windows."""
    return [frame for frame in frames if any(window.has(frame) for window in windows)]


def compare(a: Sequence[Frame], b: Sequence[Frame], *, host: str = "", now: float | None = None) -> Report:
    """What rose from the frames of window `a` to those of `b`, on one host: `explain` for windows picked by hand."""
    start = min((frame.at for frame in b), default=0.0)
    end = max((frame.at for frame in b), default=0.0) + limits.WINDOW_S
    return explain(b, a, onset=start - 1, end=end, host=host, now=now)
