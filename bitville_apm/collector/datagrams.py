"""Records by UDP, off by default (LIST-01): for senders that can neither wait nor keep a connection.

A datagram is one line and a body, signed because anybody can send one in another's name:

    BV1 <key id> <unix ms> <HMAC-SHA256 in hex>\\n<body>

The signature covers the first three words, the newline and the body, under the SHA-256 of the key's secret (which is
all that the collector keeps of it). The body is what `/ingest` takes, plain or as one zstd frame. There is no answer:
what does not arrive is lost, what is wrong is counted. A datagram that is repeated within its minute stores nothing
twice, since records have ids.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from bitville_apm import limits
from bitville_apm.collector.bodies import Sender
from bitville_apm.collector.ingest import Ingest
from bitville_apm.http import HttpProblem
from bitville_apm.interfaces import Caller
from bitville_apm.peers import Peers

_log = Logger()
_HEAD = re.compile(rb"BV1 ([A-Za-z0-9]{1,64}) ([0-9]{1,14}) ([0-9a-f]{64})\n")
_ZSTD = b"\x28\xb5\x2f\xfd"


@attrs.frozen
class Datagram:
    """One that has the right form; whether it was signed by its key is still to be seen."""

    key_id: str
    sent_ms: int
    signature: bytes
    signed: bytes = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


def decoded(data: bytes) -> Datagram | None:
    """What a datagram says; None when it has not the form above."""
    head = _HEAD.match(data)
    if head is None:
        return None
    signed = b"BV1 %s %s\n" % head.group(1, 2) + data[head.end() :]
    return Datagram(head[1].decode(), int(head[2]), bytes.fromhex(head[3].decode()), signed, data[head.end() :])


@attrs.define(eq=False, slots=False)
class Datagrams(DatagramProtocol):
    """The socket. `by_signature` tells whose key it was; `now` is unix seconds."""

    ingest: Ingest
    by_signature: Callable[[str, bytes, bytes], Coroutine[Any, Any, Caller | None]]
    peers: Peers
    now: Callable[[], float]
    received: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    _under_way: int = 0

    def datagramReceived(self, data: bytes, address: Any) -> None:
        """One datagram, from anybody."""
        self.received += 1
        if not self.peers.admits(address[0]):
            self.errors["network"] += 1
        elif self._under_way >= limits.DATAGRAMS_WAITING:
            self.errors["busy"] += 1
        else:
            self._under_way += 1
            Deferred.fromCoroutine(self._take(data)).addErrback(self._failed).addCallback(self._done)

    async def _take(self, data: bytes) -> None:
        datagram = decoded(data)
        if datagram is None:
            self.errors["form"] += 1
            return
        now = self.now()
        if abs(now - datagram.sent_ms / 1000) > limits.DATAGRAM_AGE_S:
            self.errors["clock"] += 1
            return
        caller = await self.by_signature(datagram.key_id, datagram.signed, datagram.signature)
        if caller is None:
            self.errors["signature"] += 1
            return
        project, _ = self.ingest.admit(caller)
        encoding = b"zstd" if datagram.body.startswith(_ZSTD) else None
        sender = Sender(project=project, now=now, journal=None, batch=True, postgres=False)
        read, _ = await self.ingest.take(datagram.body, encoding, sender)
        self.errors["record"] += len(read.refused)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, HttpProblem):
            self.errors[str(failure.value.status)] += 1
        else:
            self.errors["internal"] += 1
            _log.failure("a datagram failed", failure=failure)

    def _done(self, _: None) -> None:
        self._under_way -= 1

    def state(self, port: int) -> dict[str, Any]:
        """For `/ready`: `errors` in all, and by what was wrong."""
        by_kind = {kind: n for kind, n in sorted(self.errors.items()) if n}
        return {
            "enabled": True,
            "port": port,
            "received": self.received,
            "errors": sum(by_kind.values()),
            "by_error": by_kind,
        }
