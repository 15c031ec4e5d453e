"""One request's profile in the formats that other tools read. Pure; slow on large ones.

`speedscope`: the file format of https://www.speedscope.app (a sampled profile). `folded`: a line a stack, as
flamegraph.pl takes them. `xhprof`: a JSON map of `caller==>callee` edges, as XHProf's own viewers take it.

Samples make all three. Edges know who called whom but no stacks, so of them only `xhprof` can be made.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import msgspec

import bitville_apm
from bitville_apm import version1
from bitville_apm.http import HttpProblem
from bitville_apm.records import End, Excimer, Version1
from bitville_apm.web.detail import Detail

FORMATS = ("speedscope", "folded", "xhprof")
_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


@attrs.frozen
class Export:
    """A file: its content, its type, and the name a browser saves it under."""

    content: bytes
    content_type: bytes
    name: str


def exported(detail: Detail, form: str) -> Export:
    """A record's profile in one of `FORMATS`. Raises `HttpProblem` 404 where the record has nothing to make it of."""
    name = f"{detail.found.id}.{form}"
    if form == "xhprof":
        return Export(msgspec.json.encode(_edges_of(detail)), b"application/json", f"{name}.json")
    sampled = samples_of(detail)
    if sampled is None:
        raise HttpProblem(404, f"this record has no stacks, so it cannot be told as {form}{_instead(detail)}")
    if form == "folded":
        lines = (f"{';'.join(stack)} {count}\n" for stack, count in sampled.stacks())
        return Export("".join(lines).encode(), b"text/plain; charset=utf-8", f"{name}.txt")
    title = f"{detail.found.endpoint} {detail.found.duration_ms:.0f} ms"
    return Export(msgspec.json.encode(_speedscope(sampled, title)), b"application/json", f"{name}.json")


@attrs.frozen
class Samples:
    """Stacks as a sampling profiler saw them, every `period_us`."""

    text: str
    period_us: int

    def stacks(self) -> Iterator[tuple[list[str], int]]:
        """Each stack from the outermost function on, and how often it was seen; what is none is skipped."""
        for line in self.text.split("\n"):
            stack, _, count = line.rpartition(" ")
            frames = [frame for frame in stack.split(";") if frame]
            if frames and count.isascii() and count.isdecimal() and len(count) < 16 and int(count):
                yield frames, int(count)


def samples_of(detail: Detail) -> Samples | None:
    """A record's stacks; None where it has none."""
    kept = detail.message.profile if isinstance(detail.message, End) else None
    return Samples(kept.stacks, kept.period_us) if isinstance(kept, Excimer) else None


def _edges(detail: Detail) -> Mapping[str, Any] | None:
    if isinstance(detail.message, Version1):
        return version1.edges(detail.message)
    kept = detail.message.profile if isinstance(detail.message, End) else None
    return None if kept is None or isinstance(kept, Excimer) else kept.edges


def _instead(detail: Detail) -> str:
    return "; it has edges: ask for format=xhprof" if _edges(detail) is not None else ""


def _edges_of(detail: Detail) -> Mapping[str, Any]:
    """The record's own edges, or those that its samples show: an edge has the time of the stacks it was seen in."""
    own = _edges(detail)
    if own is not None:
        return own
    sampled = samples_of(detail)
    if sampled is None:
        raise HttpProblem(404, "this record has no profile")
    us: Counter[str] = Counter()
    for stack, count in sampled.stacks():
        levels: Counter[str] = Counter()
        names = ["main()"]
        for function in stack:
            level, levels[function] = levels[function], levels[function] + 1
            names.append(f"{function}@{level}" if level else function)
        us["main()"] += count
        us.update({f"{caller}==>{callee}": count for caller, callee in itertools.pairwise(names)})
    return {edge: {"ct": 1, "wt": count * sampled.period_us} for edge, count in us.items()}


def _speedscope(sampled: Samples, title: str) -> dict[str, Any]:
    frames: dict[str, int] = {}
    samples, weights = [], []
    for stack, count in sampled.stacks():
        samples.append([frames.setdefault(function, len(frames)) for function in stack])
        weights.append(count * sampled.period_us)
    return {
        "$schema": _SCHEMA,
        "exporter": f"bitville-apm {bitville_apm.__version__}",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": function} for function in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": title,
                "unit": "microseconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        ],
    }
