"""`bitville gelf-sink`: prints what arrives as GELF, so that `[graylog]` can be tried without Graylog."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import attrs
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from bitville_apm import ini, limits
from bitville_apm.collector.graylog import receiving
from bitville_apm.collector.graylog.receiving import Unreadable


def add_to(commands: Any) -> None:
    """The command."""
    sink = commands.add_parser(
        "gelf-sink",
        help="print what arrives as GELF",
        description="Listens for GELF over TCP and UDP and prints a line for each message, to try [graylog] in "
        "collector.ini. Says what is wrong with a message. Exit code 0 when all that arrived were messages that "
        "Graylog takes, and as many as --count asked for; 1 otherwise, or when it cannot listen.",
    )
    sink.add_argument(
        "--listen", type=_address, default=ini.Address("127.0.0.1", limits.GRAYLOG_PORT), metavar="HOST:PORT",
        help="where (default: 127.0.0.1:%d)" % limits.GRAYLOG_PORT,  # noqa: UP031 - argparse's own % follows
    )  # fmt: skip
    sink.add_argument("--json", action="store_true", help="print each message as it came, one a line")
    sink.add_argument("--count", type=_positive, metavar="N", help="end after so many messages")
    sink.add_argument("--seconds", type=_positive, metavar="N", help="end after so many seconds")
    sink.set_defaults(run=_run)


def _address(text: str) -> ini.Address:
    try:
        return ini.address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError("a whole number above 0 is wanted")
    return int(text)


def _run(given: argparse.Namespace) -> int:
    sink = Sink(given.json, given.count)
    try:
        task.react(lambda reactor: Deferred.fromCoroutine(sink.serve(reactor, given.listen, given.seconds)))
    except SystemExit as done:
        if done.code:
            return 1
    return sink.told()


@attrs.define(eq=False)
class Sink:
    """What arrived so far."""

    as_json: bool
    wanted: int | None
    messages: int = 0
    wrong: int = 0
    failed: str = ""
    """Why it could not listen."""
    _datagrams: receiving.Datagrams = attrs.field(factory=receiving.Datagrams)
    _over: Deferred[None] = attrs.field(factory=Deferred)

    async def serve(self, reactor: Any, address: ini.Address, seconds: int | None) -> None:
        """Listen until there are enough messages, or the time is over."""
        factory = Factory.forProtocol(lambda: _Connection(self))
        factory.noisy = False
        server = TCP6ServerEndpoint if ":" in address.host else TCP4ServerEndpoint
        try:
            listening = server(reactor, address.port, interface=address.host)
            port = await listening.listen(factory)  # type: ignore[no-untyped-call]
            reactor.listenUDP(port.getHost().port, _Datagrams(self, reactor), address.host, maxPacketSize=65_536)
        except CannotListenError as error:
            self.failed = f"cannot listen on {address}: {getattr(error.socketError, 'strerror', error.socketError)}"
            return
        print(f"listening on {attrs.evolve(address, port=port.getHost().port)}, TCP and UDP", file=sys.stderr)
        if seconds is not None:
            reactor.callLater(seconds, self._end)
        await self._over
        await port.stopListening()

    def took(self, message: bytes) -> None:
        """One message."""
        if self._over.called or not message:
            return
        try:
            found, wrong = receiving.read(message)
        except Unreadable as why:
            self.complain(str(why))
            return
        self.messages += 1
        print(message.decode("utf-8", "replace") if self.as_json else receiving.shown(found), flush=True)
        for problem in wrong:
            self.complain(problem)
        if self.messages == self.wanted:
            self._end()

    def datagram(self, data: bytes, now: float) -> None:
        """One datagram."""
        try:
            message = self._datagrams.took(data, now)
        except Unreadable as why:
            self.complain(str(why))
            return
        if message is not None:
            self.took(message)

    def complain(self, problem: str) -> None:
        """Something is not as Graylog wants it."""
        self.wrong += 1
        print(f"bitville: {problem}", file=sys.stderr)

    def told(self) -> int:
        """The exit code, and what leads to it on stderr."""
        if self.failed:
            print(f"bitville: {self.failed}", file=sys.stderr)
            return 1
        short = self.wanted is not None and self.messages < self.wanted
        print(f"{self.messages} messages, {self.wrong} problems", file=sys.stderr)
        return 1 if short or self.wrong or self._datagrams.incomplete else 0

    def _end(self) -> None:
        if not self._over.called:
            self._over.callback(None)


class _Connection(Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._stream = receiving.Stream()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of messages."""
        try:
            messages = self._stream.took(data)
        except Unreadable as why:
            self._sink.complain(str(why))
            if self.transport is not None:
                self.transport.loseConnection()
            return
        for message in messages:
            self._sink.took(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """A message may have no end."""
        if self._stream.torn:
            self._sink.complain(f"a connection ended within a message, after {self._stream.torn} bytes of it")


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, sink: Sink, clock: Any) -> None:
        self._sink, self._clock = sink, clock

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """One."""
        self._sink.datagram(datagram, self._clock.seconds())
