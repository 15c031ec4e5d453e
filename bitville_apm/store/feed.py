"""What is sent on to somebody else, record by record: where each day has been read to, and what comes behind it.

Records of a day come in the order in which they were stored. One day's do not wait for another's: what an agent brings
late is stored in its own day, and is behind that day's mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import Interface

from bitville_apm.store.interface import Stored


class Mark(Struct, frozen=True, kw_only=True):
    """How far one day has been read: the rows of its last request and of its last observation of a database.

    `day` counts from 1970. `file` is the day file's own name for itself: of another file all is unread.
    """

    day: int
    file: bytes
    request: int = 0
    postgres: int = 0


class Waiting(Struct, frozen=True):
    """A record, and the mark behind it."""

    stored: Stored
    mark: Mark


class Unsent(Struct, frozen=True, kw_only=True):
    """Records of one day, and how many there are in all that were not read, at most; `dropped`: how many retention has
    dropped unsent since the begin.
    """

    records: list[Waiting]
    pending: int
    dropped: int


class IFeed(Interface):
    """Frames are no records: they are sums, and not part of it."""

    def begin(now: float) -> None:
        """From now on, unix seconds, records are sent on; those that are there already are not. Goes on where it was
        if it had begun before. Blocks: before the first record is stored.
        """

    def end() -> None:
        """Records are no longer sent on, and where it was is forgotten. Blocks."""

    def marks() -> Deferred[Mapping[int, Mark]]:
        """What `sent` has kept, by day."""

    def unsent(marks: Mapping[int, Mark], most: int) -> Deferred[Unsent]:
        """The next records behind these marks, of the oldest day that has any: so many, or fewer if they are large."""

    def sent(marks: Sequence[Mark]) -> Deferred[None]:
        """Keep how far some days have come."""
