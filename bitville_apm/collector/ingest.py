"""The one handler behind every address that takes records: who sends, what, and what became of each.

Reading happens in threads so that the reactor turns. From there on a batch belongs to us: a sender that hangs up
does not undo the commit, and a stopping collector waits for it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.iweb import IRequest

from bitville_apm import limits
from bitville_apm.checks import Problem
from bitville_apm.collector import bodies
from bitville_apm.collector.agents import Agents, Batch, told
from bitville_apm.collector.bodies import Body, Refusal, Sender
from bitville_apm.http import HttpProblem, inflated
from bitville_apm.interfaces import Caller, IAuth
from bitville_apm.rates import Rates, Taken
from bitville_apm.store.interface import Arrival, IStore, NoSpace, Outcome

T = TypeVar("T")
_log = Logger()
_JOURNAL = re.compile(r"[0-9a-f]{32}\Z")
_BATCH_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_TYPES = ("", "application/json", "text/plain", "application/octet-stream", *_BATCH_TYPES)


async def caller_of(auth: IAuth, request: IRequest, scope: str) -> Caller:
    """Whose key came with a request. Raises `HttpProblem`: 401 without a known one, 403 without the scope."""
    header = request.getHeader(b"authorization")
    challenge = {"WWW-Authenticate": 'Bearer realm="Bitville APM"'}
    if header is None:
        raise HttpProblem(401, "Missing Authorization header", headers=challenge)
    scheme, _, key = header.decode("latin-1").partition(" ")
    caller = await auth.by_key(key.strip()) if scheme.lower() == "bearer" else None
    if caller is None:
        raise HttpProblem(401, "Invalid API key", headers=challenge)
    if not caller.may(scope):
        raise HttpProblem(403, f"{caller.name} has no scope {scope}")
    return caller


@attrs.define(eq=False)
class Ingest:
    """Takes bodies. `reactor` tells the time (wall clock) and is where threads report back; `rates` count by key."""

    store: IStore
    auth: IAuth
    agents: Agents
    reactor: Any
    rates: Rates = attrs.field(factory=Rates)
    stored: Callable[[Sequence[Arrival], Sequence[Outcome]], None] = lambda arrivals, outcomes: None
    """Told of each batch that was committed, before its sender is; returns at once."""
    counted: Counter[str] = attrs.field(factory=Counter)
    """Records since the start, by what became of them: stored, duplicate, or why they were rejected."""
    _threads: ThreadPool = attrs.field(factory=lambda: ThreadPool(0, limits.PARSERS, "bitville-parsers"))
    _batches: int = 0
    _bytes: int = 0
    _stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Start the threads."""
        self._threads.start()

    async def stop(self) -> None:
        """Take nothing more, and wait for what was taken."""
        self._stopped = Deferred()
        if self._batches:
            self._stopped.addTimeout(limits.STOP_S, self.reactor)
            try:
                await self._stopped
            except Exception:  # noqa: BLE001 - a time-out: what is not committed was not acknowledged either
                _log.warn("stopping with {n} batches not committed; their senders keep them", n=self._batches)
        self._threads.stop()

    async def handle(self, request: IRequest, postgres: bool = False) -> bytes:
        """Take one body; the JSON of wire.md 5. `postgres`: bare records here are observations of a database."""
        caller = await caller_of(self.auth, request, "ingest")
        project, pace = self.admit(caller)
        for name, value in pace.headers.items():
            request.setHeader(name.encode(), value.encode())
        sender = _sender(request, project, self.reactor.seconds(), postgres)
        read, outcomes = await self.take(request.content.read(), request.getHeader(b"content-encoding"), sender)
        answer = _answer(read, outcomes)
        if sender.journal is not None:
            self.agents.saw(_batch(request, sender, sender.journal, read, outcomes))
        request.setHeader(b"Content-Type", b"application/json")
        return json.dumps(answer).encode() + b"\n"

    def admit(self, caller: Caller) -> tuple[str, Taken]:
        """The project that a caller may send for, and the pace it keeps. Raises `HttpProblem` 403, 429."""
        if not caller.may("ingest") or caller.projects is None or len(caller.projects) != 1:
            raise HttpProblem(403, f"{caller.name} stands for no single project; use an ingest key")
        pace = self.rates.take(caller.name, self.reactor.seconds())
        if pace.wait:
            raise HttpProblem(429, f"{caller.name} sends too often; wait {pace.wait} s", headers=pace.headers)
        return next(iter(caller.projects)), pace

    def take(self, body: bytes, encoding: bytes | None, sender: Sender) -> Deferred[tuple[Body, Sequence[Outcome]]]:
        """Read and store one body. Raises `HttpProblem` 429, 503 when it is not even looked at."""
        if self._stopped is not None:
            raise HttpProblem(
                503, "the collector is stopping; send again in a moment", headers=_after(limits.RETRY_SOON_S)
            )
        if self._batches >= limits.COMMITS_WAITING or self._bytes + len(body) > limits.BODIES_WAITING_BYTES:
            raise _too_many()
        return _shielded(self._taken(body, encoding, sender))

    async def _taken(self, body: bytes, encoding: bytes | None, sender: Sender) -> tuple[Body, Sequence[Outcome]]:
        """Read and store; counted as work in hand until it is done, whoever still waits for it."""
        size = len(body)
        self._batches += 1
        self._bytes += size
        try:
            name = encoding.decode("latin-1") if encoding else None
            read, inside = await deferToThreadPool(self.reactor, self._threads, _read, body, name, sender)
            self._bytes += inside - size
            size = inside
            if self._bytes > limits.BODIES_WAITING_BYTES:
                raise _too_many()
            arrivals = [arrival for _, arrival in read.arrivals]
            outcomes = await self._stored(arrivals)
            self._tell(arrivals, outcomes)
            self.counted.update(outcomes)
            self.counted.update(refusal.reason for refusal in read.refused)
            return read, outcomes
        finally:
            self._batches -= 1
            self._bytes -= size
            if self._stopped is not None and not self._batches and not self._stopped.called:
                self._stopped.callback(None)

    def _tell(self, arrivals: Sequence[Arrival], outcomes: Sequence[Outcome]) -> None:
        try:
            self.stored(arrivals, outcomes)
        except Exception:  # noqa: BLE001 - what is committed is answered for, whoever cannot use it
            _log.failure("a batch that was stored could not be looked at")

    async def _stored(self, arrivals: list[Arrival]) -> Sequence[Outcome]:
        if not arrivals:
            return []
        try:
            return await self.store.write(arrivals)
        except NoSpace:
            raise HttpProblem(
                507,
                "the collector's disk is full; nothing was stored, send again",
                headers=_after(limits.RETRY_TROUBLE_S),
            ) from None
        except Exception:  # noqa: BLE001 - whatever the store has, the sender must keep its records
            _log.failure("a batch of {n} records was not stored", n=len(arrivals))
            raise HttpProblem(
                503, "the records could not be stored; send them again", headers=_after(limits.RETRY_TROUBLE_S)
            ) from None


def _sender(request: IRequest, project: str, now: float, postgres: bool) -> Sender:
    """What the headers say. Raises `HttpProblem` 415."""
    given = (request.getHeader(b"content-type") or b"").decode("latin-1")
    content_type = given.partition(";")[0].strip().lower()
    if content_type not in _TYPES:
        raise HttpProblem(415, f"Content-Type {content_type} is not taken; send application/json or x-ndjson")
    journal = (request.getHeader(b"bitville-journal") or b"").decode("latin-1").lower()
    known = journal if _JOURNAL.match(journal) else None
    batch = known is not None or content_type in _BATCH_TYPES
    return Sender(project=project, now=now, journal=known, batch=batch, postgres=postgres)


def _batch(request: IRequest, sender: Sender, journal: str, read: Body, outcomes: Sequence[Outcome]) -> Batch:
    """What a batch says of its agent."""
    sent = _milliseconds(request.getHeader(b"bitville-sent"))
    taken = [record for (_, record), outcome in zip(read.arrivals, outcomes, strict=True) if outcome != "expired"]
    return Batch(
        project=sender.project,
        journal=journal,
        host=read.arrivals[0][1].host if read.arrivals else "",
        version=(request.getHeader(b"bitville-agent") or b"").decode("latin-1")[: limits.PROBLEM_CHARACTERS],
        now=sender.now,
        places=[record.seq for record in taken if record.seq is not None],
        stored=outcomes.count("stored"),
        duplicate=outcomes.count("duplicate"),
        rejected=len(read.refused) + outcomes.count("expired"),
        sent=None if sent is None else sent / 1000,
        told=told(request.getHeader(b"bitville-ledger")),
    )


def _read(body: bytes, encoding: str | None, sender: Sender) -> tuple[Body, int]:
    """In a thread: the body read, and how long it was once decompressed."""
    plain = inflated(body, encoding)
    return bodies.read(plain, sender), len(plain)


def _answer(read: Body, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The answer of wire.md 5. Raises `HttpProblem` 400 for a single bare record that is not taken."""
    refused = list(read.refused)
    for (line, arrival), outcome in zip(read.arrivals, outcomes, strict=True):
        if outcome == "expired":
            field = "recv" if arrival.frame is None else "body.at"
            refused.append(Refusal(line, arrival.id, "expired", [Problem(field, "its day is no longer kept")]))
    if read.single and refused:
        details = [{"line": refused[0].line, **field} for field in _fields(refused[0].problems)]
        raise HttpProblem(400, f"the record was not taken: {refused[0].reason}", details)
    counts = {"stored": outcomes.count("stored"), "duplicate": outcomes.count("duplicate")}
    if read.single:
        arrival = read.arrivals[0][1]
        return {
            "success": True,
            "row_id": arrival.id,
            "correlation_id": arrival.client_id or arrival.id,
            **counts,
            "rejected": [],
        }
    rejected, told = [], 0
    for refusal in sorted(refused, key=lambda refusal: refusal.line):
        problems = refusal.problems if told < limits.ANSWER_PROBLEMS else refusal.problems[:1]
        told += len(problems)
        rejected.append({"line": refusal.line, "id": refusal.id, "reason": refusal.reason, "fields": _fields(problems)})
    return {"success": True, **counts, "rejected": rejected}


def _fields(problems: Sequence[Problem]) -> list[dict[str, str]]:
    most = limits.PROBLEM_CHARACTERS
    return [{"field": problem.field[:most], "problem": problem.problem[:most]} for problem in problems]


def _too_many() -> HttpProblem:
    return HttpProblem(
        429,
        "the collector is behind; send again in a moment",
        headers={
            **_after(limits.RETRY_SOON_S),
            "X-RateLimit-Limit": str(limits.COMMITS_WAITING),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(limits.RETRY_SOON_S),
        },
    )


def _after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def _milliseconds(header: bytes | None) -> float | None:
    try:
        value = float(header) if header else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e14 else None


def _shielded(work: Any) -> Deferred[Any]:
    """A coroutine's result whose cancellation does not reach the coroutine.

    Klein cancels a handler when the client hangs up; a commit in progress is not the client's to cancel.
    """
    outer: Deferred[Any] = Deferred()
    Deferred.fromCoroutine(work).addCallbacks(outer.callback, outer.errback)
    return outer
