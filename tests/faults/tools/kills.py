"""A loop that kills: at random times, from the first moment of a start on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Protocol


class Mortal(Protocol):
    """What can be killed and started again: an agent, a collector."""

    def spawn(self) -> object:
        """Start it without waiting."""

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""


def kills(
    whom: Mortal, times: int, chance: random.Random, between: tuple[float, float], lived: Callable[[], object]
) -> Iterator[int]:
    """SIGKILL `whom` so often, each time after a random while in `between` (seconds); gives back each kill's number.

    Some starts are killed while they still recover. Every tenth is let live until `lived` says so (an answer to
    `/health`, say), so that what recovery left is worked on too. The last heir lives.
    """
    for n in range(1, times + 1):
        if n % 10 == 0:
            lived()
        time.sleep(chance.uniform(*between))
        whom.kill()
        whom.spawn()
        yield n
    lived()
