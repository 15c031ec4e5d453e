"""Reading a journal on from a place, whatever is in the way. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from msgspec import Struct

from bitville_apm.agent import recovery, segment
from bitville_apm.agent.recovery import Segment
from bitville_apm.agent.segment import LOCAL, Place, Record
from bitville_apm.agent.totals import Count


class Read(Struct, frozen=True):
    """Some records in order, and where reading has come to: the place, and what had entered by then.

    `losses` are what is missing on the way, each with the place that is past it.
    """

    records: list[Record]
    through: Place
    entered: Count
    losses: list[tuple[Place, Count]]


class End(Struct, frozen=True):
    """The end of what a segment holds, and what had entered by then where that is known."""

    place: Place
    entered: Count | None


@attrs.define(eq=False)
class Reader:
    """One who reads in order. It remembers where in a file it was, so that a segment is not read from its beginning."""

    _place: Place = (0, 0)
    _path: Path | None = None
    _offset: int = 0

    def records(
        self, segments: Sequence[Segment], after: Place, through: Place, entered: Count
    ) -> Iterator[Record | End]:
        """Every whole record behind `after` up to `through`, and the end of each segment.

        `entered` is what had entered with the record at `through`. Raises `OSError`.
        """
        if not segments:
            yield End(through, entered)
        for file, following in zip(segments, [*segments[1:], None], strict=False):
            last = through if following is None else min(through, following.start)
            if last <= after:
                continue
            known = entered if last == through else following.before if following is not None else None
            for record in self._segment(file, after, closed=following is not None or file.run < through[0]):
                if record.place > last or (known is not None and record.through.records > known.records):
                    break  # behind what counts: a tail that a start found torn, and could not cut off
                yield record
            yield End(last, known)
            if last == through:
                return

    def _segment(self, file: Segment, after: Place, closed: bool) -> Iterator[Record]:
        """The records of one segment behind `after`; a sequence that comes again was damaged, or cut back."""
        resumed = self._path == file.path and self._place == after
        base = self._offset if resumed else 0
        data = recovery.contents(file.path, base)
        last = max(after, file.start)
        for _, end, what in segment.walk(data, file.run, 0 if resumed else None, closed=closed):
            if isinstance(what, Record) and what.place > last:
                last = what.place
                yield what
                # Only once the next one is asked for: what was merely looked at comes again.
                self._place, self._path, self._offset = last, file.path, base + end

    def read(
        self,
        segments: Sequence[Segment],
        after: tuple[Place, Count],
        through: tuple[Place, Count],
        items: int,
        most_bytes: int,
    ) -> Read:
        """The next records to be forwarded, up to `items` and `most_bytes` or one larger. Raises `OSError`."""
        place, entered = after
        taken: list[Record] = []
        losses: list[tuple[Place, Count]] = []
        size = 0
        for found in self.records(segments, place, *through):
            record = found if isinstance(found, Record) else None
            wanted = record is not None and not record.entry.flags & LOCAL
            if record is not None and wanted and _full(taken, size + record.size, items, most_bytes):
                break
            known = found.entered if isinstance(found, End) else found.before
            if known is not None:
                lost = known.beyond(entered)
                if lost.records or lost.requests:
                    losses.append((found.place, lost))
                entered += lost
            place = found.place
            if record is not None:
                entered += record.entry.count
                if wanted:
                    taken.append(record)
                    size += record.size
            elif len(taken) == items:
                break
        return Read(taken, place, entered, losses)

    def read_back(
        self, segments: Sequence[Segment], after: Place, through: tuple[Place, Count], items: int, most_bytes: int
    ) -> Read:
        """The next records of any kind, as `read`; what is missing is not told."""
        taken: list[Record] = []
        place, size = after, 0
        for found in self.records(segments, after, *through):
            if isinstance(found, Record):
                if _full(taken, size + found.size, items, most_bytes):
                    break
                taken.append(found)
                size += found.size
            place = found.place
        return Read(taken, place, through[1], [])


def _full(taken: Sequence[Record], size: int, items: int, most_bytes: int) -> bool:
    return len(taken) == items or (bool(taken) and size > most_bytes)
