"""What children used that nobody saw, by the parent that waited for them. Pure.

When a process is waited for, the kernel adds all it has used, with what its own children had, to its parent's count of
such time. What was seen of it is no news then. The rest is what it used since it was last seen, or all of it when it
lived too shortly to be seen at all: a thousand short commands a second are their parent's.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import attrs

from bitville_apm import limits

NOBODY = 0
"""The parent of orphans: nobody knows who waits for them by now."""


@attrs.define(eq=False)
class Families:
    """Nanoseconds by parent's pid: what its children used that are gone, less what was seen of them.

    Both halves come to be known within a second of each other, in whichever order.
    """

    _balance: dict[int, int] = attrs.Factory(dict)
    _told: dict[int, int] = attrs.Factory(dict)
    _turn: int = 0

    def raised(self, parent: int, ns: int) -> None:
        """The kernel's count of a parent's gone children rose."""
        self._add(parent, ns)

    def gone(self, pid: int, parent: int, known_ns: int) -> None:
        """A process is gone, of which so much was seen. What is open between it and its children is its parent's."""
        self._add(parent, self._balance.pop(pid, 0) - known_ns)
        self._told.pop(pid, None)

    def risen(self) -> set[int]:
        """Parents that have more than is explained."""
        return {pid for pid, ns in self._balance.items() if ns > 0}

    def unseen(self, living: Container[int]) -> Iterator[tuple[int, int]]:
        """At the end of a look: parents, each with what its children used unseen. `living` are processes by pid."""
        self._turn += 1
        for pid in [pid for pid in self._balance if pid != NOBODY and pid not in living]:
            self._add(NOBODY, min(0, self._balance.pop(pid)))
            self._told.pop(pid, None)
        for pid, ns in list(self._balance.items()):
            if pid != NOBODY and ns > 0:
                orphans = min(ns, max(0, -self._balance.get(NOBODY, 0)))
                if orphans:
                    self._add(NOBODY, orphans)
                del self._balance[pid]
                if ns > orphans:
                    yield pid, ns - orphans
            elif ns >= 0 or self._told.get(pid, 0) + limits.HOST_OWED_LOOKS < self._turn:
                del self._balance[pid]

    def _add(self, pid: int, ns: int) -> None:
        self._balance[pid] = self._balance.get(pid, 0) + ns
        self._told[pid] = self._turn
