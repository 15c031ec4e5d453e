"""Whether a day file that somebody had trouble with is damaged.

A writer or reader that fails on a file does not always know why: a lost row of an index shows as a duplicate, a
flipped letter as a name that is not there. The whole file is read once, apart from both, before it is set aside.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import attrs

from bitville_apm.store.sqlite.days import Damaged, inode_of
from bitville_apm.store.sqlite.files import day_path, flaw_of


@attrs.define(eq=False)
class Doctor:
    """Looks at files, one call at a time. `set_aside` has the writer put a damaged one out of the way."""

    directory: Path
    set_aside: Callable[[Damaged], object]
    _whole: set[int] = attrs.field(factory=set)
    """Files that were looked at and are whole: what goes wrong with them has another cause."""

    def hear(self, date: datetime.date, why: str, inode: int | None, certain: bool) -> None:
        """A reader could not read a day; `certain` when that can only be damage."""
        if certain and inode is not None:
            self.set_aside(Damaged(date, why, inode))
        else:
            self.look(date)

    def look(self, date: datetime.date) -> None:
        """Set a day aside if its file is damaged."""
        path = day_path(self.directory, date)
        inode = inode_of(path)
        if inode is None or inode in self._whole:
            return
        why = flaw_of(path)
        if why is None:
            self._whole.add(inode)
        else:
            self.set_aside(Damaged(date, why, inode))
