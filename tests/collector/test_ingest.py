"""The handler with a store that the test holds: back pressure, a full disk, trouble, clients that hang up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import treq
from treq.testing import StubTreq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from bitville_apm import limits
from bitville_apm.collector.agents import Agents
from bitville_apm.collector.alerts import Alerts
from bitville_apm.collector.app import App
from bitville_apm.collector.cleanup import Cleanup
from bitville_apm.collector.explainer import Explainer
from bitville_apm.collector.ingest import Ingest
from bitville_apm.collector.nightly import Nightly
from bitville_apm.collector.spikes import Spikes
from bitville_apm.garbage import Garbage
from bitville_apm.interfaces import Caller
from bitville_apm.rates import Rates
from bitville_apm.store.interface import Arrival, NoSpace
from tests.store.make import end_body, new_id

URL = "http://collector.invalid/ingest"


@attrs.define
class HeldStore:
    """A store that answers when the test says so."""

    waiting: list[tuple[Sequence[Arrival], Deferred[Any]]] = attrs.field(factory=list)
    problem: bool = False

    def write(self, batch: Sequence[Arrival]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((batch, done))
        return done

    def commit(self) -> None:
        batch, done = self.waiting.pop(0)
        done.callback(["stored"] * len(batch))

    def keys(self) -> Deferred[Any]:
        return succeed([])

    def health(self) -> dict[str, Any]:
        return {"ok": not self.problem, "problems": ["the disk is full"] if self.problem else []}


class EverybodyMaySend:
    """An `IAuth` for which every key is one of project `shop`."""

    def by_key(self, key: str) -> Deferred[Any]:
        return succeed(Caller("test", frozenset(key.split("+")), frozenset({"ingest", "read"})))


class IngestTests(TestCase):
    """See the module."""

    def setUp(self) -> None:
        self.store: Any = HeldStore()
        auth: Any = EverybodyMaySend()
        self.ingest = Ingest(self.store, auth, Agents(), reactor)
        self.ingest.start()
        self.addCleanup(self.stop)
        agents = Agents()
        app = App(
            self.store,
            self.store,
            auth,
            self.ingest,
            Cleanup(self.store, reactor, 7),
            dict,
            agents,
            Spikes(self.store, Explainer(self.store, agents, reactor), reactor),
            Nightly(self.store, reactor),
            Alerts((), "", reactor, Rates()),
            None,
            Garbage(),
            reactor,
            Path(),
            0,
            started=0.0,
        )
        self.client = StubTreq(app.resource(None))

    def stop(self) -> Any:
        return Deferred.fromCoroutine(self.ingest.stop()) if self.ingest._stopped is None else None

    async def pause(self, until: Any = lambda: True, seconds: float = 10.0) -> None:
        """Let the reactor turn until something holds."""
        for _ in range(int(seconds / 0.01)):
            self.client.flush()
            await self.turn()
            if until():
                return
        self.fail("did not happen")

    async def turn(self) -> None:
        turned: Deferred[None] = Deferred()
        reactor.callLater(0.01, turned.callback, None)
        await turned

    def post(self, *records: Any, key: str = "shop") -> Deferred[Any]:
        body = b"\n".join(json.dumps(r).encode() for r in records or [end_body(new_id(), 1.0)])
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        answer: Deferred[Any] = self.client.post(URL, data=body, headers=headers)
        return answer

    async def answered(self, answer: Deferred[Any]) -> Any:
        got: list[Any] = []
        answer.addBoth(got.append)
        await self.pause(lambda: bool(got))
        return got[0]

    async def test_the_answer_comes_after_the_commit(self) -> None:
        """design 5: nothing is answered before the store has committed."""
        answer = self.post()
        await self.pause(lambda: bool(self.store.waiting))
        await self.pause()
        self.assertNoResult(answer)
        self.store.commit()
        assert (await self.answered(answer)).code == 200

    async def test_a_full_disk_is_507(self) -> None:
        """Faults 11, wire.md 5: with a full disk the sender is told 507 and when to come back."""
        answer = self.post()
        await self.pause(lambda: bool(self.store.waiting))
        self.store.waiting.pop()[1].errback(NoSpace())
        response = await self.answered(answer)
        assert response.code == 507
        assert response.headers.getRawHeaders("Retry-After") == ["10"]
        assert "disk is full" in (await treq.json_content(response))["message"]

    async def test_trouble_in_the_store_is_503_without_internals(self) -> None:
        """wire.md 5: any other trouble leaves the records with their sender, and says nothing of our insides."""
        answer = self.post()
        await self.pause(lambda: bool(self.store.waiting))
        self.store.waiting.pop()[1].errback(ValueError("secret path /x"))
        response = await self.answered(answer)
        assert response.code == 503
        assert "secret" not in await treq.text_content(response)
        assert len(self.flushLoggedErrors(ValueError)) == 1

    async def test_too_many_batches_wait(self) -> None:
        """LIST-06, wire.md 5: beyond limits.COMMITS_WAITING senders are told 429 with its headers; later they may."""
        self.patch(limits, "COMMITS_WAITING", 2)
        answers = [self.post(), self.post()]
        await self.pause(lambda: len(self.store.waiting) == 2)
        response = await self.answered(self.post())
        assert response.code == 429
        for name in ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
            assert response.headers.hasHeader(name), name
        self.store.commit()
        assert (await self.answered(answers[0])).code == 200
        again = self.post()
        await self.pause(lambda: len(self.store.waiting) == 2)
        self.store.commit()
        self.store.commit()
        assert (await self.answered(again)).code == 200

    async def test_too_many_bytes_wait(self) -> None:
        """limits.BODIES_WAITING_BYTES: what waits is bounded by its size too, before and after it is unpacked."""
        self.patch(limits, "BODIES_WAITING_BYTES", 1000)
        answers = [self.post(end_body(new_id(), 1.0, context="x" * 500))]
        await self.pause(lambda: len(self.store.waiting) == 1)
        assert (await self.answered(self.post(end_body(new_id(), 1.0, context="x" * 500)))).code == 429
        self.store.commit()
        assert (await self.answered(answers[0])).code == 200
        assert (self.ingest._batches, self.ingest._bytes) == (0, 0)

    async def test_a_client_that_hangs_up(self) -> None:
        """design 5: Klein cancels the handler of a client that is gone; the commit in progress goes on."""
        answer = self.post()
        answer.addErrback(lambda _: None)
        await self.pause(lambda: bool(self.store.waiting))
        answer.cancel()
        await self.pause()
        assert self.ingest._batches == 1
        self.store.commit()
        await self.pause(lambda: self.ingest._batches == 0)

    async def test_stopping_waits_for_the_commits_in_hand(self) -> None:
        """LIST-07: a graceful stop takes nothing more and waits for what was taken."""
        answer = self.post()
        await self.pause(lambda: bool(self.store.waiting))
        stopping = Deferred.fromCoroutine(self.ingest.stop())
        assert (await self.answered(self.post())).code == 503
        self.assertNoResult(stopping)
        self.store.commit()
        assert (await self.answered(answer)).code == 200
        await stopping

    async def test_a_key_of_no_single_project(self) -> None:
        """LIST-03: the key decides the project, so a caller with none or several cannot send."""
        assert (await self.answered(self.post(key="shop+blog"))).code == 403

    async def test_not_ready(self) -> None:
        """LIST-07: /ready is 503 while the store cannot store, and says why; /health stays."""
        self.store.problem = True
        response = await self.answered(self.client.get("http://collector.invalid/ready"))
        assert response.code == 503
        assert (await treq.json_content(response))["database"]["problems"] == ["the disk is full"]
        assert (await self.answered(self.client.get("http://collector.invalid/health"))).code == 200

    async def test_without_pages_unknown_routes_are_named(self) -> None:
        """LIST-04: 404 names the route."""
        response = await self.answered(self.client.get("http://collector.invalid/no/such"))
        assert response.code == 404
        assert (await treq.json_content(response))["message"] == "no route GET /no/such"
