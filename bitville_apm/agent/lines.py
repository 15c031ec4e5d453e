"""What each line of a client leads to (wire.md 1): journalled and answered, noted of a request in flight, or refused.

`+` says that the journal has it, `-` that it never will (kept in quarantine). No answer at all, because the disk
did not take it, leaves the record with its sender, who has a spool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits, reading
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.connection import Owed, PhpConnection
from bitville_apm.agent.framing import Oversize
from bitville_apm.agent.inflight import InFlight
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.checks import Problem, Refused
from bitville_apm.records import Line
from bitville_apm.repeated import Repeated

_log = Logger()
_UNANSWERED = re.compile(rb'\s*\{\s*"t"\s*:\s*"(?:begin|route|spooled|count)"')
"""A client waits for one answer, to its end line: an answer to one of these would be taken for that.

Looked for in refused lines, which often are no JSON; every client writes `t` first.
"""


@attrs.define(eq=False)
class Lines:
    """Those of one section's connections: what `connection.Listening` is told.

    `boottime` is seconds on the clock on which the kernel tells when a process started; `relieved` is called when the
    disk has taken something.
    """

    name: str
    clock: IReactorTime
    pipeline: Pipeline
    in_flight: InFlight
    boottime: Callable[[], float]
    relieved: Callable[[], None]
    lines: int = 0
    oversize: int = 0
    _repeated: Repeated = attrs.Factory(Repeated)

    def line(self, connection: PhpConnection, line: bytes | Oversize) -> None:
        """One line came."""
        self.lines += 1
        if isinstance(line, Oversize):
            self.oversize += 1
            why = Refused([Problem("", f"{line.length} bytes, longer than {limits.LINE_BYTES}")], "oversize")
            self._refuse(connection, why, line.beginning)
            return
        received_ms = self.pipeline.stamp()
        try:
            read = reading.read_line(line, received_ms)
        except Refused as refused:
            self._refuse(connection, refused, line)
            return
        if read.kind in ("end", "v1"):
            self._take(connection, read, received_ms)
        else:
            self._note(connection, read)

    def _note(self, connection: PhpConnection, read: Line) -> None:
        if read.kind == "begin":
            connection.begun_next()
            if not connection.over:
                self.in_flight.begun(connection, read.message, read.body, connection.peer, self.boottime())
        elif read.kind == "route":
            self.in_flight.routed(connection, read.id, read.message.route)
        elif read.kind == "spooled":
            self.in_flight.ended(connection, read.id)
        elif read.kind == "count":
            self.pipeline.ledger.count(read.message)

    def _take(self, connection: PhpConnection, read: Line, received_ms: int) -> None:
        self.in_flight.ended(connection, read.id)
        self._answer(connection, self.pipeline.take(read, received_ms), b"+", read.id)

    def _refuse(self, connection: PhpConnection, refused: Refused, line: bytes) -> None:
        n = self._repeated.due(refused.reason, self.clock.seconds())
        if n:
            fields = ", ".join(p.field or "line" for p in refused.problems)
            _log.warn(
                "{name}: {n} lines refused: {why} ({fields})", name=self.name, n=n, why=refused.reason, fields=fields
            )
        kept = self.pipeline.refuse(refused, line)
        if _UNANSWERED.match(line):
            kept.addErrback(lambda failure: failure.trap(OSError))
            return
        self._answer(connection, kept, b"-", "")

    def _answer(self, connection: PhpConnection, written: Deferred[None], byte: bytes, id_: str) -> None:
        """Answer with the byte once it is written; not at all if it cannot be."""
        owed = connection.owe()
        written.addCallbacks(self._written, _unwritten, (connection, owed, byte, id_), errbackArgs=(connection, owed))
        written.addErrback(_unanswered)

    def _written(self, _: None, connection: PhpConnection, owed: Owed, byte: bytes, id_: str) -> None:
        connection.settle(owed, byte, id_)
        self.relieved()

    def finished(self, connection: PhpConnection, mid_line: bool) -> None:
        """The client will say no more: its begun request has no end."""
        self.in_flight.closed(connection, self.boottime(), mid_line)

    def acks_read(self, ids: Sequence[str]) -> None:
        """The client has read these."""
        for id_ in ids:
            self.pipeline.unread.read(id_)


def _unwritten(failure: Failure, connection: PhpConnection, owed: Owed) -> None:
    connection.settle(owed, None)
    failure.trap(NotWritten, OSError)


def _unanswered(failure: Failure) -> None:
    _log.failure("an answer failed", failure)
