"""What one process of the agent leaves to the next when it re-executes itself: descriptors and the words said on them.

Nothing here touches a descriptor: a source fills a `SourceState` (`PhpSource.suspend`) and takes one up again
(`PhpSource.resume`); `lifecycle.py` carries the encoded `Handover` over the `exec`. What waits in the journal needs
no handing over: it is on disk.

The listening socket goes on by way of `SocketFile.inherited`, for which `PhpSource.listen` looks; `resume` comes after
`listen` and takes up what the state holds beside it.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Held(Struct, frozen=True, kw_only=True):
    """One connection. `unfinished` are the bytes of its started line, `begin` the line of the request it is in.

    `since` is when that began (seconds of CLOCK_BOOTTIME), `route` what a framework said since. `over`: one
    connection more than are held. `dropped`: the length so far of a line too long, of which `unfinished` is the
    beginning. `watched`: a line must come within 5 s. `silent`: a line of it went without an answer, so there are
    none any more.
    """

    descriptor: int
    unfinished: bytes = b""
    dropped: int = 0
    begin: bytes | None = None
    since: float = 0.0
    route: str | None = None
    over: bool = False
    watched: bool = False
    silent: bool = False


class Waiting(Struct, frozen=True, kw_only=True):
    """A begun request whose connection is gone `at` a time and whose end may still turn up in the spool."""

    begin: bytes
    pid: int
    uid: int
    since: float
    at: float
    mid_line: bool
    route: str | None = None


class SourceState(Struct, frozen=True, kw_only=True):
    """One `[php NAME]` section: its sockets, its connections, its requests that wait to be judged."""

    name: str
    listening: int
    datagrams: list[int] = []
    held: list[Held] = []
    waiting: list[Waiting] = []


class Handover(Struct, frozen=True, kw_only=True):
    """Everything. `why` is the reason of the restart, `restarts` how many there have been since a real start.

    `at` is when it was (unix seconds), `since` from when on clients waited (monotonic seconds). `locks` are the
    descriptors of held lock files, by the path of what they lock. `lent` are the paths of sockets that a supervisor
    made, and the names he gave them. `health` is a TCP socket that listens at `health_address`; -1 for none.
    """

    why: str
    restarts: int
    at: float
    since: float = 0.0
    sources: list[SourceState] = []
    locks: dict[str, int] = {}
    lent: dict[str, str] = {}
    health: int = -1
    health_address: str = ""


class Holds(Struct, frozen=True, kw_only=True):
    """What a running agent has: what a check of a new configuration need not find free. Addresses and paths.

    `lent` are sockets that a supervisor made, each with the name he gave it.
    """

    health: str = ""
    state: str = ""
    sockets: list[str] = []
    lent: dict[str, str] = {}


VERSION = 1
"""To be raised when a process of the version before would be misunderstood: it then leaves restarts to others."""


_decoder = msgspec.msgpack.Decoder(Handover)


def encoded(handover: Handover) -> bytes:
    """As bytes, for a pipe or an anonymous file."""
    return msgspec.msgpack.encode(handover)


def decoded(data: bytes) -> Handover:
    """Back again. Raises `msgspec.DecodeError` (another version's words are one)."""
    return _decoder.decode(data)


def descriptors(handover: Handover) -> list[int]:
    """All that must stay open over the `exec`."""
    kept = [held.descriptor for source in handover.sources for held in source.held]
    kept += [n for source in handover.sources for n in (source.listening, *source.datagrams)]
    kept += handover.locks.values()
    return kept if handover.health < 0 else [*kept, handover.health]
