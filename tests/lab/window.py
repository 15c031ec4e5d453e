"""The frames of one injection, kept on disk: a report by hand, now and after the analysis has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bitville_apm.analysis.explain import explain
from bitville_apm.records import Frame
from tests.lab.table import Result
from tests.lab.truth import Truth, judge


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a report by hand is made of: the frames of what was done and of the quiet times, and the truth."""

    start: float
    end: float
    truth: dict[str, Any]
    spike: list[Frame]
    baseline: list[Frame]

    def report(self) -> Mapping[str, Any]:
        """The report, as the API would give it."""
        report: Mapping[str, Any] = msgspec.to_builtins(
            explain(self.spike, self.baseline, onset=self.start, end=self.end)
        )
        return report


def window_file(kind: str, seed: int, number: int) -> str:
    """Where it is kept."""
    return f"{kind}-{seed}-{number}.json"


def again(results: Sequence[Result], dumps: Path) -> list[Result]:
    """The same windows explained by today's analysis: what a change of it is worth."""
    found = []
    for result in results:
        file = dumps / window_file(result.kind, result.seed, result.round)
        window = msgspec.json.decode(file.read_bytes(), type=Window)
        report = window.report()
        judged = judge(Truth(**window.truth), report)
        found.append(
            msgspec.structs.replace(
                result,
                place=judged.place,
                kind_right=judged.kind,
                mechanism=judged.mechanism,
                said=judged.said,
                rise=report["level"] - report["baseline"],
                coverage=report["coverage"],
            )
        )
    return found
