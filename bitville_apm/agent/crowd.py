"""Who is connected to one socket, and the bounds on all of them together (wire.md 1).

Time is counted in ticks of one second that only pass while lines are being read: a suspended agent, or one that
holds its senders back, must not blame them for being late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

from bitville_apm import limits
from bitville_apm.agent.connection import PhpConnection
from bitville_apm.repeated import Repeated

_log = Logger()
_TICKS = int(limits.LINE_START_S) + 1


@attrs.define(eq=False)
class Crowd:
    """All connections, each with its user. `waiting_bytes` is what has been read and is not on disk yet.

    slow: closed because a line did not come or end in time. large: because unfinished lines were too many bytes
    together. shed: because no descriptor was left. turned_away: more than are held. `descriptors` is how many files
    this process may have open.
    """

    name: str
    clock: Any
    waiting_bytes: Callable[[], int]
    descriptors: int = limits.DESCRIPTORS
    connections: dict[PhpConnection, int] = attrs.Factory(dict)
    slow: int = 0
    large: int = 0
    shed: int = 0
    turned_away: int = 0
    unfinished: int = 0
    paused: bool = False
    _per_uid: Counter[int] = attrs.Factory(Counter)
    _watched: dict[PhpConnection, int] = attrs.Factory(dict)
    _ticks: int = 0
    _repeated: Repeated = attrs.Factory(Repeated)

    # --- one connection -------------------------------------------------------------------------------------

    def opened(self, connection: PhpConnection) -> None:
        """A client connected."""
        connection.over = (
            len(self.connections) >= limits.CONNECTIONS_HELD
            or self._per_uid[connection.peer.uid] >= limits.CONNECTIONS_PER_UID
        )
        self.turned_away += connection.over
        self._enter(connection)
        self._watched[connection] = self._ticks + _TICKS
        # The kernel gives the lowest number that is free, so this one says how many are taken.
        handle: Any = connection.transport.getHandle()  # type: ignore[union-attr]
        if handle.fileno() >= self.descriptors - limits.OWN_DESCRIPTORS:
            self.make_room()

    def taken_up(self, connection: PhpConnection, watched: bool) -> None:
        """A connection of this agent's process before; the time for its line begins again."""
        self._enter(connection)
        self.unfinished += connection.framer.unfinished
        if watched:
            self._watched[connection] = self._ticks + _TICKS

    def _enter(self, connection: PhpConnection) -> None:
        self.connections[connection] = connection.peer.uid
        self._per_uid[connection.peer.uid] += 1
        if self.paused:
            connection.transport.pauseProducing()  # type: ignore[union-attr]

    def held_back(self, connection: PhpConnection, more: int, complete: bool) -> None:
        """Bytes came: `more` of them wait for their newline, `complete` says that some line ended."""
        if complete and not connection.over:
            self._watched.pop(connection, None)
        if more or connection.framer.inside_line:
            self._line_started(connection, more)
        if self.waiting_bytes() > limits.APPENDS_WAITING_BYTES:
            self._pause(True)

    def _line_started(self, connection: PhpConnection, more: int) -> None:
        self.unfinished += more
        if connection.framer.inside_line and connection not in self._watched:
            self._watched[connection] = self._ticks + _TICKS
        if self.unfinished > limits.LINES_UNFINISHED_BYTES:
            self.large += 1
            self._drop(max(self.connections, key=lambda c: c.framer.unfinished), "holds too much of an unfinished line")

    def finished(self, connection: PhpConnection) -> None:
        """The client will say no more."""
        self._watched.pop(connection, None)
        self.unfinished -= connection.framer.unfinished

    def gone(self, connection: PhpConnection) -> None:
        """The connection is closed, or let go of."""
        uid = self.connections.pop(connection, None)
        if uid is not None:
            self._per_uid[uid] -= 1
            if not self._per_uid[uid]:
                del self._per_uid[uid]

    def watches(self, connection: PhpConnection) -> bool:
        """Whether a line of it must come soon."""
        return connection in self._watched

    # --- all of them ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """A second has passed in which lines could be read."""
        if self.paused:
            self.relieved()
            return
        self._ticks += 1
        while self._watched:
            connection, until = next(iter(self._watched.items()))
            if until > self._ticks:
                break
            self.slow += not connection.over
            self._drop(connection, "did not finish a line in time")

    def make_room(self) -> bool:
        """No descriptor is left: close the connection that has kept its line waiting longest, if there is one."""
        if not self._watched:
            return False
        self.shed += 1
        self._drop(next(iter(self._watched)), "was closed for another: no descriptor left (LimitNOFILE)")
        return True

    def relieved(self) -> None:
        """The disk has caught up, perhaps."""
        if self.paused and self.waiting_bytes() <= limits.APPENDS_WAITING_BYTES // 2:
            self._pause(False)

    def _pause(self, paused: bool) -> None:
        if self.paused != paused:
            self.paused = paused
            for connection in self.connections:
                if not connection.ended:
                    transport: Any = connection.transport
                    (transport.pauseProducing if paused else transport.resumeProducing)()

    def _drop(self, connection: PhpConnection, why: str) -> None:
        self._watched.pop(connection, None)
        n = 0 if connection.over else self._repeated.due(why, self.clock.seconds())
        if n:
            _log.warn("{name}: {n} connections closed: a client {why}", name=self.name, n=n, why=why)
        connection.transport.abortConnection()  # type: ignore[union-attr]
