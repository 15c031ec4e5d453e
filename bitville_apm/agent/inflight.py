"""Requests that have begun and not ended, paired by connection: no I/O, time is an argument.

    begin ──▶ in flight ──end──▶ done
                 │ └──spooled──▶ done (its record is in the spool, and is imported)
                 └──connection closed──▶ waiting 10 s ──▶ its record came after all: done
                                                     ├──▶ the process is gone: died
                                                     └──▶ the process lives: its end was lost

A connection that closed within a line was sending its end: that end is lost, whatever became of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.records import Begin, Died, canonical_id


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end, by the kernel's word (SO_PEERCRED)."""

    pid: int
    uid: int


@attrs.define(eq=False)
class Open:
    """One begun request. `since` is monotonic seconds on the clock that also counts a suspended machine.

    `state` of its process (as in /proc) is what the last of `looks` saw.
    """

    id: str
    begin: Begin
    body: bytes
    peer: Peer
    since: float
    route: str | None = None
    state: str | None = None
    looks: int = 0


@attrs.frozen(eq=False)
class Closed:
    """A begun request whose connection is gone, `at` monotonic seconds. `mid_line`: it was sending a line."""

    request: Open
    at: float
    mid_line: bool


Alive = Callable[[int, float], bool]
"""Whether process `pid` lives and had started by `since` (monotonic seconds): else its pid was reused."""


@attrs.define(eq=False)
class InFlight:
    """All begun requests of one socket. A connection is any hashable that names it.

    `begun_by` are the processes that began one since the last look, which empties it.
    """

    died: int = 0
    end_lost: int = 0
    begun_by: set[int] = attrs.Factory(set)
    _open: dict[Hashable, Open] = attrs.Factory(dict)
    _closed: dict[str, Closed] = attrs.Factory(dict)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Requests whose connection closed and whose end may still be found in the spool."""
        return len(self._closed)

    def request_of(self, connection: Hashable) -> Open | None:
        """The request that a connection is in."""
        return self._open.get(connection)

    def begun_before(self, connection: Hashable, request: Open) -> None:
        """A request that began in this agent's process before."""
        self._open[connection] = request

    def closed_before(self, closed: Closed) -> None:
        """A request whose connection closed in this agent's process before."""
        self._closed[closed.request.id] = closed

    def taken_out(self) -> list[Closed]:
        """Those that wait for a spool file; nothing is in flight or waiting here after that."""
        closed = list(self._closed.values())
        self._open.clear()
        self._closed.clear()
        return closed

    def begun(self, connection: Hashable, begin: Begin, body: bytes, peer: Peer, now: float) -> None:
        """A begin line. One that follows another without an end says that the first one's end was lost."""
        self.closed(connection, now)
        request = Open(canonical_id(begin.id), begin, body, peer, now)
        self._closed.pop(request.id, None)
        self._open[connection] = request
        self.begun_by.add(peer.pid)

    def routed(self, connection: Hashable, id_: str, route: str) -> None:
        """A framework knows its route; a line for another request than the connection's is ignored."""
        request = self._open.get(connection)
        if request is not None and request.id == id_:
            request.route = route

    def open(self) -> list[Open]:
        """All that are in flight now."""
        return list(self._open.values())

    def over(self, request: Open, now: float) -> None:
        """Its process is gone or in another request, though something holds its connection open."""
        for connection, held in self._open.items():
            if held is request:
                self.closed(connection, now)
                return

    def ended(self, connection: Hashable, id_: str) -> Open | None:
        """An end or a spooled line: the request it ends, None when no begin came before it."""
        self._closed.pop(id_, None)
        request = self._open.get(connection)
        if request is None or request.id != id_:
            return None
        return self._open.pop(connection)

    def found(self, id_: str) -> None:
        """The record of this id came by another way: the spool."""
        self._closed.pop(id_, None)

    def closed(self, connection: Hashable, now: float, mid_line: bool = False) -> None:
        """A connection is gone; what it held begun waits for a spool file."""
        request = self._open.pop(connection, None)
        if request is not None:
            self._closed[request.id] = Closed(request, now, mid_line)

    def due(self, now: float) -> list[Closed]:
        """Those that have waited long enough, to be judged. Oldest first; each is given out once."""
        ready = []
        for id_, closed in list(self._closed.items()):
            if now - closed.at < limits.DIED_AFTER_S:
                break
            ready.append(self._closed.pop(id_))
        return ready

    def judged(self, closed: Closed, alive: bool) -> Died | None:
        """The verdict: what a request that died leaves, None where only its end was lost. Both are counted."""
        if alive or closed.mid_line:
            self.end_lost += 1
            return None
        self.died += 1
        request, begin = closed.request, closed.request.begin
        return Died(
            id=begin.id,
            at=begin.at,
            ms=round(max(0.0, closed.at - request.since) * 1000, 3),
            pid=begin.pid,
            method=begin.method,
            uri=begin.uri,
            route=request.route,
            client=begin.client,
            agent=begin.agent,
            release=begin.release,
            ss=begin.ss,
            state=request.state,
            looks=request.looks or None,
        )


def died_body(closed: Closed, died: Died) -> bytes:
    """The body of a died record: the begin line with its unknown fields, and what is known of its end."""
    fields = msgspec.json.decode(closed.request.body)
    fields.pop("t", None)
    known = {k: v for k, v in msgspec.to_builtins(died).items() if v is not None}
    return msgspec.json.encode({**fields, **known})
