"""What every way to Graylog has in common: messages go in, in order; it returns when they got there, or fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class NotSent(Exception):
    """Why messages did not get there: a few words for a person. `sent`: so many of them did before."""

    def __init__(self, why: str, sent: int = 0) -> None:
        super().__init__(why)
        self.sent = sent


class Sender(Protocol):
    """One way. `hold_s`: what was sent is there for certain when the connection has outlived it by so many seconds; 0
    where the receiver says so itself, or nobody ever will.
    """

    hold_s: float

    @property
    def connected(self) -> bool:
        """Whether what was sent last may still be on its way to its goal: False once a connection is cut."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages as JSON. Raises `NotSent`: then some of them may have got there, and some not."""

    async def close(self) -> None:
        """Let go of connections."""


def reason_of(error: BaseException | None) -> str:
    """What went wrong with a connection, in one line: the innermost cause, and OpenSSL's own words out of its list."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reason_of(reasons[-1].value)
    arguments = getattr(error, "args", ())
    if type(error).__module__ == "OpenSSL.SSL" and arguments and isinstance(arguments[0], list):
        return "; ".join(str(entry[-1]) for entry in arguments[0]) or "TLS failed"
    return str(error).strip().rstrip(".") or type(error).__name__
