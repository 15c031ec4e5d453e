"""One batch to the collector over HTTP, and what came of it as a value (wire.md 5, DAEMON-10)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import msgspec
import treq
import zstandard
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS, IResponse

from bitville_apm import __version__, limits
from bitville_apm.agent.segment import FRAMED, Record
from bitville_apm.agent.worker import Run
from bitville_apm.pools import quiet_pool

FailureKind = Literal["breaker", "slow", "hold", "oversize", "invalid"]
"""What a failure means: the collector is unwell; it does not want us; one of the items is too large, or at fault."""


class Rejected(msgspec.Struct, frozen=True):
    """One item that the collector will never take; `line` counts from 1."""

    line: int
    reason: str = "invalid"
    id: str | None = None
    fields: list[dict[str, Any]] = []


class Delivered(msgspec.Struct, frozen=True):
    """The collector's answer to a batch: every item is stored, known already, or rejected."""

    stored: int
    duplicate: int = 0
    rejected: list[Rejected] = []


@attrs.frozen
class Failed:
    """Why a batch was not taken. `retry_after` is seconds that the collector asks for."""

    kind: FailureKind
    reason: str
    retry_after: float = 0.0


class _TooLong(Exception):
    pass


_answer = msgspec.json.Decoder(Delivered)


def lines(records: Sequence[Record], host: str) -> bytes:
    """The body of a batch: each record in its envelope."""
    name = json.dumps(host).encode()
    return b"".join(
        b'{"k":"%b","id":"%b","seq":[%d,%d],"recv":%d,"host":%b,"framed":%b,"body":%b}\n'
        % (
            r.entry.kind.encode(),
            r.entry.id.encode(),
            r.run,
            r.sequence,
            r.entry.received_ms,
            name,
            b"true" if r.entry.flags & FRAMED else b"false",
            r.entry.body,
        )
        for r in records
    )


def trust(ca: bytes | None) -> IPolicyForHTTPS:
    """Whom to believe: the system's authorities, or only the certificates of `ca` (PEM). Raises `ValueError`."""
    if ca is None:
        return BrowserLikePolicyForHTTPS()
    end = b"-----END CERTIFICATE-----"
    pems = [part + end for part in ca.split(end)[:-1]]
    if not pems:
        raise ValueError("holds no certificate in PEM form")
    try:
        return BrowserLikePolicyForHTTPS(trustRootFromCertificates([Certificate.loadPEM(pem) for pem in pems]))
    except Exception as error:  # noqa: BLE001  # OpenSSL's and Twisted's own kinds
        raise ValueError(f"holds a certificate that cannot be read: {error}") from None


@attrs.define(eq=False)
class Transmitter:
    """Sends batches to one URL; connections are kept between them. `now` is unix seconds."""

    reactor: Any
    run: Run
    now: Callable[[], float]
    url: str
    host: str
    policy: IPolicyForHTTPS
    _pool: HTTPConnectionPool = attrs.field(init=False)
    _client: treq.client.HTTPClient = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = quiet_pool(self.reactor)
        self._pool.cachedConnectionTimeout = int(limits.IDLE_LINK_S)
        agent = Agent(self.reactor, self.policy, connectTimeout=limits.CONNECT_TIMEOUT_S, pool=self._pool)
        self._client = treq.client.HTTPClient(agent)

    async def send(
        self, records: Sequence[Record], key: str, journal_id: bytes, ledger: Mapping[str, int]
    ) -> Delivered | Failed:
        """Send one batch, within 5 s. Never raises for what the network or the collector does."""
        body = await self.run(_compressed, records, self.host)
        clock: IReactorTime = self.reactor
        sending = Deferred.fromCoroutine(self._post(body, key, journal_id, ledger))
        # Whatever comes of cancelling: Twisted wraps it in failures of its own.
        sending.addTimeout(limits.REQUEST_TIMEOUT_S, clock, onTimeoutCancel=lambda *_: Failure(Overdue()))
        try:
            status, retry_after, answer = await sending
        except Overdue:
            return Failed("slow", f"no answer within {limits.REQUEST_TIMEOUT_S:g} s")
        except Exception as error:  # noqa: BLE001  # whatever the network does is a failure to count, not to raise
            return Failed("breaker", _reason(error))
        return _outcome(status, retry_after, answer, len(records))

    async def _post(
        self, body: bytes, key: str, journal_id: bytes, ledger: Mapping[str, int]
    ) -> tuple[int, float, bytes]:
        response = await self._client.post(
            f"{self.url}/ingest",
            data=body,
            headers=Headers(
                {
                    "Authorization": [f"Bearer {key}"],
                    "Content-Type": ["application/x-ndjson"],
                    "Content-Encoding": ["zstd"],
                    "Bitville-Journal": [journal_id.hex()],
                    "Bitville-Sent": [str(int(self.now() * 1000))],
                    "Bitville-Agent": [__version__],
                    **({"Bitville-Ledger": [json.dumps(ledger)]} if ledger else {}),
                }
            ),
            unbuffered=True,
            allow_redirects=False,
        )
        answer = await _body(response.original, limits.ANSWER_BYTES)
        return response.code, _retry_after(response.headers.getRawHeaders("Retry-After", [""])[0]), answer

    async def close(self) -> None:
        """Close the kept connections."""
        await self._pool.closeCachedConnections()


def _compressed(records: Sequence[Record], host: str) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(lines(records, host))


def _outcome(status: int, retry_after: float, answer: bytes, items: int) -> Delivered | Failed:
    if 200 <= status < 300:
        try:
            delivered = _answer.decode(answer)
        except msgspec.MsgspecError as error:
            return Failed("breaker", f"{status} with an answer that cannot be read: {error}")
        if not _adds_up(delivered, items):
            # Somebody else's 200, perhaps a proxy's: nothing may be let go of because of it.
            return Failed("breaker", f"{status} with an answer that does not account for each of {items} items")
        return delivered
    reason = f"{status} {_message(answer)}".strip()
    if status in (408, 429) or status >= 500:
        return Failed("breaker", reason, retry_after)
    if status == 413:
        return Failed("oversize", reason)
    if status == 400 and _message(answer):
        # In the collector's own words: it could not read the body, so one of the items must be at fault.
        return Failed("invalid", reason)
    return Failed("hold", reason)


def _adds_up(answer: Delivered, items: int) -> bool:
    lines = {rejected.line for rejected in answer.rejected}
    return (
        answer.stored >= 0
        and answer.duplicate >= 0
        and answer.stored + answer.duplicate + len(answer.rejected) == items
        and len(lines) == len(answer.rejected)
        and all(1 <= line <= items for line in lines)
    )


def _message(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["message"])[:200]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return ""


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After; 0 for its other form, a date: the clocks of two machines differ."""
    return min(float(text), limits.RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else 0.0


def _reason(error: Exception) -> str:
    """The innermost cause in one line: Twisted wraps network errors in failures of failures."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _reason(reasons[-1].value)
    return f"{type(error).__name__}: {error}".strip(": ")


class _Body(Protocol):
    """Collects an answer up to a length."""

    def __init__(self, most: int, finished: Deferred[bytes]) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._finished: Deferred[bytes] | None = finished

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._most -= len(data)
        if self._most < 0:
            self.give_up(Failure(_TooLong("the answer is too long")))

    def give_up(self, failure: Failure | None) -> None:
        """Stop reading and close the connection."""
        finished, self._finished = self._finished, None
        if self.transport is not None:
            self.transport.loseConnection()
        if finished is not None and failure is not None:
            finished.errback(failure)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        finished, self._finished = self._finished, None
        if finished is None:
            return
        if reason.check(ResponseDone):
            finished.callback(b"".join(self._pieces))
        else:
            finished.errback(reason)


def _body(response: IResponse, most: int) -> Deferred[bytes]:
    """An answer's body; fails when it is cut or too long. Cancelling closes the connection."""
    finished: Deferred[bytes] = Deferred(lambda _: protocol.give_up(None))
    protocol = _Body(most, finished)
    response.deliverBody(protocol)
    return finished
