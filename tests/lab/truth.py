"""What was done to the shop, and what a right answer names: the truth that a report is held against."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

FIRST = 3
"""A right cause among so many is worth something; behind them nobody looks."""


@attrs.frozen
class Truth:
    """What a right report says.

    `causes` are (dimension, pattern) pairs: a story with any of them in it is the right one. `mechanisms` are the
    labels that tell what happened (none: not judged); `kinds` are of load, waiting and none. No causes: nothing was
    done, and nothing may be found.
    """

    kinds: Sequence[str]
    causes: Sequence[tuple[str, str]] = ()
    mechanisms: Sequence[str] = ()

    def named_by(self, cause: Mapping[str, Any]) -> bool:
        """Whether a cause of a report (as the API gives it) is the right one."""
        steps = [(cause["dimension"], cause["value"])]
        steps += [(step["dimension"], step["value"]) for step in cause.get("story", ())]
        return any(
            dimension == wanted and re.search(pattern, value) is not None
            for dimension, value in steps
            for wanted, pattern in self.causes
        )


@attrs.frozen
class Judged:
    """What a report is worth. `place` is that of the right cause, from 1; None: not among the first three."""

    place: int | None
    kind: bool
    mechanism: bool | None
    said: str

    @property
    def first(self) -> bool:
        """Whether the right cause comes first; of a quiet time: whether nothing is found."""
        return self.place == 1


def judge(truth: Truth, report: Mapping[str, Any] | None) -> Judged:
    """Hold a report (the JSON of `analysis.report.Report`, None: there is none) against the truth.

    `mechanism` is judged only where the cause is right (Q5): None else.
    """
    if report is None:
        return Judged(None if truth.causes else 1, not truth.causes, None, "no report")
    said = said_by(report)
    kind = report["kind"] in truth.kinds
    if not truth.causes:
        return Judged(1 if report["kind"] == "none" else None, kind, None, said)
    for place, cause in enumerate(report["causes"][:FIRST], 1):
        if truth.named_by(cause):
            label = cause["mechanism"] in truth.mechanisms if truth.mechanisms else None
            return Judged(place, kind, label, said)
    return Judged(None, kind, None, said)


def said_by(report: Mapping[str, Any]) -> str:
    """The causes of a report in one line."""
    told = [
        f"{cause['dimension']} {cause['value'][:60]!r} {cause['mechanism']} {cause['share']:.2f}"
        for cause in report["causes"][:FIRST]
    ]
    return f"{report['kind']}: " + ("; ".join(told) or "no cause")


def overlapping(spikes: Sequence[Mapping[str, Any]], start: float, end: float) -> Mapping[str, Any] | None:
    """The spike that belongs to what was done in [start, end): of those that began in it, the first to open."""
    begun = [spike for spike in spikes if start - EARLY_S <= spike["onset"] < end]
    return min(begun, key=opened, default=None)


EARLY_S = 15.0
"""An onset is the last second at which the series lay at its median: a quiet moment before counts."""


def opened(spike: Mapping[str, Any]) -> float:
    """When the trigger fired; a spike that was made of several by merging may not know, and its onset stands."""
    when = spike.get("opened")
    return float(spike["onset"] if when is None else when)
