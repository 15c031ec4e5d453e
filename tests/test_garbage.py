"""When garbage is collected: a process with `Garbage` does it when told to, and Python does it again afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

from bitville_apm import limits
from bitville_apm.garbage import Garbage


class Cycle:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_by_itself_and_all_of_it_when_told() -> None:
    """DAEMON-03: a cycle stays until `collect`, whatever is made meanwhile; `stop` gives it back to Python."""
    garbage = Garbage()
    garbage.start()
    try:
        assert not gc.isenabled()
        gone = weakref.ref(Cycle())
        held = [[n] for n in range(200_000)]
        assert gone() is not None, "collected in the midst of work"
        garbage.collect()
        assert gone() is None
        assert len(held) == 200_000
    finally:
        garbage.stop()
        gc.unfreeze()
    assert gc.isenabled()


def test_older_generations_come_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """DAEMON-03: what has lived for long is looked at each tenth and each hundredth time."""
    generations: list[int] = []
    monkeypatch.setattr(gc, "collect", generations.append)
    garbage = Garbage()
    for _ in range(limits.GC_OLDER**2):
        garbage.collect()
    assert (generations.count(0), generations.count(1), generations.count(2)) == (90, 9, 1)
    assert garbage.runs == 100
