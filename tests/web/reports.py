"""For pages of spikes: hosts' load, a window in which nothing rose, and values with markup in every text."""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import fields

from bitville_apm.analysis.report import Quality, Report
from bitville_apm.store.interface import Load


def quiet(onset: float) -> Report:
    """Nothing rose, and nothing that can be left out is there."""
    return Report(
        verdict="Nothing rose.", kind="none", provisional=False, coverage=0.0, unexplained=0.0, measure="tasks",
        onset=onset, peak=onset, end=onset + 600, level=1.0, baseline=1.1, causes=[],
        quality=Quality(frames=60, baseline_frames=0),
    )  # fmt: skip


def loads(start: float, seconds: int, step: int = 10, hosts: tuple[str, ...] = ("web1",)) -> list[Load]:
    """What hosts ran: quiet, with a hump in the middle."""
    found = []
    for host in hosts:
        for i, at in enumerate(range(int(start) // step * step, int(start) + seconds, step)):
            hump = max(0.0, 1 - abs(i - seconds / step / 2) / (seconds / step / 9))
            tasks = 1.0 + (i % 5) / 4 + 18 * hump
            found.append(
                Load(
                    at=at, host=host, cores=4, tasks=tasks, tasks_most=tasks + 2, blocked=tasks / 5, db=1 + 4 * hump,
                    db_most=2 + 4 * hump, in_flight=3 + 30 * hump, in_flight_most=4 + 30 * hump, load1=1 + 9 * hump,
                )
            )  # fmt: skip
    return found


def marked(kind: Any, text: str) -> Any:
    """A value of a type with `text` in every text it has; words of a fixed choice stay."""
    origin, inside = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{field.name: marked(hints[field.name], text) for field in fields(kind)})
    if kind is str:
        return text
    if kind is bytes:
        return text.encode()
    if kind in (int, float):
        return kind(3)
    if kind is bool:
        return True
    if origin is list:
        return [marked(inside[0], text)] * 2
    if origin is dict:
        return {marked(inside[0], text): marked(inside[1], text)}
    if inside and type(None) in inside:
        return marked(inside[0], text)
    return inside[0]
