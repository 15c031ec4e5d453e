"""How often each row's fault happens: on every commit, and in full; how far a run is; and its chance, with a seed."""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

import pytest

COUNTS: dict[str, tuple[int, int]] = {
    "1 kills": (50, 1000),
    "2 points": (60, 0),
    "3 kills": (20, 300),
    "4 rounds": (0, 300),
    "5 cuts": (50, 1000),
    "7 seconds": (0, 60),
    "8 backlog MiB": (0, 1024),
    "12 runs": (5, 200),
    "14 damages": (250, 0),
    "17 jumps": (0, 50),
    "18 restarts": (5, 100),
    "22 kills": (0, 100),
    "24 rows": (600, 10_000),
    "20 idle connections": (600, 5000),
    "31 seconds of spike": (0, 60),
    "32 seconds frozen": (0, 20),
}
"""Row and what is counted: (on every commit, in full). 0 first: not on every commit; last: every one there is."""


def counts(what: str) -> list[Any]:
    """Both counts of a row, for `pytest.mark.parametrize`; the full one is marked so."""
    short, full = COUNTS[what]
    return [*([pytest.param(short)] if short else []), pytest.param(full, marks=pytest.mark.full)]


def chance(row: int) -> random.Random:
    """Chance that can be repeated: its seed is said, and FAULTS_SEED sets it."""
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 1_000_000)
    say(f"row {row}: FAULTS_SEED={seed}")
    return random.Random(seed)


def say(line: str) -> None:
    """One line about a run: `make faults` shows it as it comes, pytest with a failure."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Progress:
    """`row 1: 300 of 1000 kills, 0 lost, 0 doubled, 2 refused`, at most every five seconds and at the end."""

    def __init__(self, row: int, of: int, what: str) -> None:
        self._line = f"row {row}: {{n}} of {of} {what}{{so_far}}"
        self._of = of
        self._next = 0.0

    def at(self, n: int, **so_far: object) -> None:
        """So far."""
        now = time.monotonic()
        if now >= self._next or n == self._of:
            self._next = now + 5.0
            say(self._line.format(n=n, so_far="".join(f", {value} {name}" for name, value in so_far.items())))
