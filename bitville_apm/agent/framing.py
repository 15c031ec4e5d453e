"""Bytes in, complete lines out: no I/O, no clock.

A line may come in thousands of pieces (8 MiB through a socket that gives 4 KiB at a time). Every byte is
looked at once and copied at most twice, whatever the pieces: they are kept apart until their newline comes.
"""

from __future__ import annotations

import attrs

from bitville_apm import limits


@attrs.frozen
class Oversize:
    """A line longer than the limit, dropped up to its newline: how long it was, and how it began."""

    length: int
    beginning: bytes


@attrs.define(eq=False)
class LineFramer:
    """The lines of one connection. `unfinished` is how many bytes are held of a line without a newline yet."""

    most: int = limits.LINE_BYTES
    unfinished: int = 0
    _pieces: list[bytes] = attrs.Factory(list)
    _dropped: int = 0
    _beginning: bytes = b""

    @property
    def inside_line(self) -> bool:
        """Whether a line has begun and not ended, be it one that is being dropped."""
        return bool(self.unfinished or self._dropped)

    @property
    def started(self) -> tuple[bytes, int]:
        """The started line, or the beginning of one that is being dropped and its length so far, else 0."""
        return (self._beginning if self._dropped else b"".join(self._pieces)), self._dropped

    @classmethod
    def again(cls, started: bytes, dropped: int) -> LineFramer:
        """A framer that goes on where another one was."""
        framer = cls()
        if dropped:
            framer._beginning, framer._dropped = started, dropped
        else:
            framer._add(started)
        return framer

    def feed(self, data: bytes) -> list[bytes | Oversize]:
        """The lines that `data` completes, in order and without their newlines."""
        if not self.unfinished and not self._dropped and 0 < data.find(b"\n") + 1 == len(data) <= self.most:
            return [data[:-1]]  # one whole line, as nearly always
        first, *rest = data.split(b"\n")
        self._add(first)
        if not rest:
            return []
        lines = [self._taken()]
        for line in rest[:-1]:
            self._add(line)
            lines.append(self._taken())
        self._add(rest[-1])
        return lines

    def _add(self, piece: bytes) -> None:
        if self._dropped:
            self._dropped += len(piece)
        elif self.unfinished + len(piece) > self.most:
            self._beginning = b"".join(self._pieces)[: limits.OVERSIZE_KEPT_BYTES]
            self._beginning += piece[: limits.OVERSIZE_KEPT_BYTES - len(self._beginning)]
            self._dropped = self.unfinished + len(piece)
            self._pieces, self.unfinished = [], 0
        elif piece:
            self._pieces.append(piece)
            self.unfinished += len(piece)

    def _taken(self) -> bytes | Oversize:
        if self._dropped:
            oversize = Oversize(self._dropped, self._beginning)
            self._dropped, self._beginning = 0, b""
            return oversize
        line = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self.unfinished = [], 0
        return line
