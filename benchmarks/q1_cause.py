"""Q1: the right cause first, and among the first three, on simulated spikes with seeds that nobody tuned on.

Beside it, on the same cases: simpler ways to rank, and the method without one of its parts each. A case counts whether
its spike was detected or not. `--all` prints Q3 and Q5 of the same cases too.

    python -m benchmarks.q1_cause --seeds 6
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing import Pool

from tests.lab.classes import CLASSES
from tests.lab.judged import NAMED_BY_VALUES, Judged, judge
from tests.lab.simulate import JUDGING

FIRST_SEED = JUDGING.start


def asked(given: tuple[str, int, bool]) -> Judged:
    """One case, in a process of its own."""
    return judge(*given)


def run(seeds: int, ablations: bool, seconds: float, first: int = FIRST_SEED) -> Iterator[Judged]:
    """Cases of every class for as many seeds, or for as long as there is time."""
    until = time.monotonic() + seconds
    todo = [(name, first + n, ablations) for n in range(seeds) for name in CLASSES]
    with Pool(2) as pool:
        for one in pool.imap_unordered(asked, todo):
            yield one
            if time.monotonic() > until:
                pool.terminate()
                return


def q3(cases: list[Judged]) -> str:
    """The line of Q3."""
    delays = sorted(c.delay for c in cases if c.delay is not None)
    soon = sum(delay <= 15 for delay in delays) / len(cases)
    return (
        f"Q3: {100 * soon:.0f} % of {len(cases)} spikes told within 15 s of the first second above the floor (goal 90);"
        f" median {delays[len(delays) // 2]:.1f} s, {len(cases) - len(delays)} never told"
    )


def q5(cases: list[Judged]) -> str:
    """The line of Q5."""
    labels = [right for c in cases for right in c.mechanisms]
    return f"Q5: {sum(labels) / len(labels):.3f} of {len(labels)} mechanisms right, given the right cause (goal .9)"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    cases = list(run(given.seeds, True, 60 * given.minutes, given.first))
    by_class: dict[str, list[Judged]] = defaultdict(list)
    for case in cases:
        by_class[case.name].append(case)
    print(f"{'class':14} cases first three  kind mechanism detected")
    for name in CLASSES:
        mine = by_class[name]
        if mine:
            n, labels = len(mine), [right for c in mine for right in c.mechanisms]
            print(
                f"{name:14} {n:5} {sum(c.ways['ours'] for c in mine) / n:5.2f} {sum(c.three for c in mine) / n:5.2f}"
                f" {sum(c.kind for c in mine) / n:5.2f} {sum(labels) / max(1, len(labels)):9.2f}"
                f" {sum(c.detected for c in mine) / n:8.2f}"
            )
    values = [c for c in cases if c.name not in NAMED_BY_VALUES]
    print(f"\n{'first right by':18} all cases  those named by a value")
    for way in cases[0].ways:
        print(
            f"{way:18} {sum(c.ways[way] for c in cases) / len(cases):9.3f}"
            f" {sum(c.ways[way] for c in values) / len(values):10.3f}"
        )
    missed = sorted((c.name, c.seed) for c in cases if not c.ways["ours"] or not c.three)
    print(f"\nmissed: {missed}")
    if given.all:
        print(q3(cases))
        print(q5(cases))
    n = len(cases)
    print(
        f"Q1: {sum(c.ways['ours'] for c in cases) / n:.3f} first, {sum(c.three for c in cases) / n:.3f} in first three"
        f" (goals .97, .99)  - {n} simulated cases of {len(by_class)} classes, seeds from {given.first}"
    )


if __name__ == "__main__":
    main()
