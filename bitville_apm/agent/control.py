"""The control socket: what `bitville agent …` asks of a running agent (DAEMON-17).

One line of JSON each way: `{"do": "status"}`, and `{"ok": true, …}` or `{"ok": false, "error": "…"}`. It lies in the
state directory, mode 0600, and answers root and the agent's own user: nobody else, by the kernel's word, even where
the file lets them.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.agent.socketfile import CannotListen

_log = Logger()
CONTROL = "control.sock"
"""Its name in the state directory."""
_UCRED = struct.Struct("3i")

Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Given the question's fields, gives those of the answer. Raises `Refused` with what the asker is told."""


class Refused(Exception):
    """Why a command was not done, in one line."""


@attrs.define(eq=False)
class Control:
    """The socket and its commands, by name. There is one agent to a state directory: a file in the way is stale."""

    path: Path
    reactor: Any
    commands: Mapping[str, Command]
    connections: int = 0
    _port: IListeningPort | None = None

    def listen(self) -> None:
        """Take the socket. Blocks shortly, so before the reactor runs. Raises `CannotListen`."""
        factory = Factory.forProtocol(lambda: _Asked(self))
        factory.noisy = False
        endpoint = UNIXServerEndpoint(self.reactor, str(self.path), mode=0o600, wantPID=False)
        outcome: list[IListeningPort | Failure] = []
        before = os.umask(0o177)
        try:
            self.path.unlink(missing_ok=True)
            endpoint.listen(factory).addBoth(outcome.append)
        except OSError as error:
            raise CannotListen(f"{self.path}: {error.strerror}; the agent's user must own {self.path.parent}") from None
        finally:
            os.umask(before)
        (port,) = outcome
        if isinstance(port, Failure):
            raise CannotListen(f"{self.path}: {port.getErrorMessage()}")
        self._port = port

    async def stop(self) -> None:
        """Close it; its file is gone then."""
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    async def answer(self, line: bytes) -> Mapping[str, Any]:
        """What a line is answered."""
        try:
            asked = json.loads(line)
            command = self.commands[asked["do"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"ok": False, "error": f'{{"do": …}} is wanted, one of {", ".join(self.commands)}'}
        try:
            return {"ok": True, **await command(asked)}
        except Refused as refused:
            return {"ok": False, "error": str(refused)}


class _Asked(LineOnlyReceiver):
    """One connection: one question, one answer."""

    delimiter = b"\n"
    MAX_LENGTH = limits.CONTROL_LINE_BYTES

    def __init__(self, control: Control) -> None:
        self._control = control
        self._answering = False
        self._late: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._control.connections += 1
        handle = self.transport.getHandle()  # type: ignore[union-attr]
        _, uid, _ = _UCRED.unpack(handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, os.geteuid()):
            self._say({"ok": False, "error": "only root and the agent's own user may ask"})
        elif self._control.connections > limits.CONTROL_CONNECTIONS:
            self._say({"ok": False, "error": "too many ask at once; try again"})
        else:
            self._late = self._control.reactor.callLater(limits.CONTROL_S, self.transport.loseConnection)  # type: ignore[union-attr]

    def lineReceived(self, line: bytes) -> None:
        if self._answering:
            return
        self._answering = True
        self._in_time()
        answering = Deferred.fromCoroutine(self._control.answer(line))
        answering.addErrback(self._broken)
        answering.addCallback(self._say)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._say({"ok": False, "error": "the question is too long"})

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._control.connections -= 1
        self._in_time()

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def _broken(self, failure: Failure) -> Mapping[str, Any]:
        _log.failure("a command failed", failure)
        return {"ok": False, "error": f"it failed: {failure.getErrorMessage()}; the agent's log has more"}

    def _say(self, answer: Mapping[str, Any]) -> None:
        self._answering = True
        if self.connected:
            self.transport.write(json.dumps(answer).encode() + b"\n")  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]
