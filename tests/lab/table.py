"""Results of the live lab, as a table and the misses behind it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct


class Result(Struct, frozen=True, kw_only=True):
    """What became of one injection.

    `place`, `kind_right`, `mechanism` and `said` are of the window explained by hand; `detected`, `delay` (seconds
    from the beginning of the injection to the opening of the spike), `own_place` and `own_said` of the spike that the
    product found by itself. `rise` is load units.
    """

    kind: str
    round: int
    seed: int
    at: float
    seconds: float
    culprit: str
    place: int | None
    kind_right: bool
    mechanism: bool | None
    said: str
    detected: bool
    delay: float | None
    own_place: int | None
    own_said: str
    rise: float
    coverage: float

    def line(self) -> str:
        """What is said when it is done."""
        right = f"right cause at {self.place}" if self.place else "wrong"
        found = f"spike after {self.delay:.0f} s" if self.delay is not None else "no spike"
        return f"{self.culprit}: {right}, rise {self.rise:.1f}, {found}\n    {self.said}"


def told(results: Sequence[Result]) -> str:
    """A Markdown table, a line a class and one of all; then each miss with what was said instead."""
    lines = [
        "| class | injections | right first | among three | kind | mechanism | spike seen | own report first | delay |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({result.kind for result in results}):
        lines.append(_row(kind, [result for result in results if result.kind == kind]))
    done = [result for result in results if result.kind != "quiet"]
    if done:
        lines.append(_row("**all but quiet**", done))
    misses = [result for result in results if result.place != 1 or not result.kind_right]
    if misses:
        lines += ["", "Misses:", ""]
        lines += [
            f"- {r.kind}, seed {r.seed}, round {r.round + 1}: {r.culprit}; place {r.place or '-'}, rise {r.rise:.1f}; "
            f"said {r.said}"
            for r in misses
        ]
    return "\n".join(lines)


def _row(name: str, results: Sequence[Result]) -> str:
    delays = [result.delay for result in results if result.delay is not None]
    labelled = [result.mechanism for result in results if result.mechanism is not None]
    own = [result.own_place == 1 for result in results if result.own_place is not None or result.own_said]
    columns = (
        name,
        str(len(results)),
        _share(result.place == 1 for result in results),
        _share(result.place is not None for result in results),
        _share(result.kind_right for result in results),
        _share(labelled),
        _share(result.detected for result in results),
        _share(own),
        f"{statistics.median(delays):.0f} s" if delays else "-",
    )
    return f"| {' | '.join(columns)} |"


def _share(right: Iterable[bool]) -> str:
    """How many of how many."""
    of = list(right)
    return f"{sum(of)} of {len(of)}" if of else "-"
