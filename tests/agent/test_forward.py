"""Sending to a collector: what a batch is, what goes first, what becomes of each record."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent

from bitville_apm import limits
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.totals import Count, Totals
from tests.agent.certificate import certified
from tests.agent.forward_rig import NOW, ForwardCase, ForwardRig
from tests.agent.rig import KEY, Collector, end_line


class ForwardTests(ForwardCase):
    """What waits, and in which order it is sent."""

    async def test_a_flush_sends_what_waits_with_all_that_the_wire_wants(self) -> None:
        """DAEMON-08, DAEMON-10: every 5 s, over one connection, with key, journal, time and version."""
        rig = await self.rig()
        ids = rig.records(3)
        assert self.collector.items == {}
        await rig.flush()
        assert self.collector.order == ids
        item = self.collector.items[ids[0]]
        assert (item["k"], item["seq"], item["recv"], item["host"], item["framed"]) == (
            "end",
            [1, 1],
            int(NOW * 1000),
            "web1",
            False,
        )
        assert item["body"]["t"] == "end"
        (headers,) = self.collector.headers
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["content-encoding"] == "zstd"
        assert headers["bitville-journal"] == rig.journal.journal_id.hex()
        assert headers["bitville-sent"] == str(int(NOW * 1000))
        assert headers["bitville-agent"]
        assert (rig.forward.pending, rig.became.stored) == (0, Count(3, 3))

    async def test_a_full_batch_does_not_wait(self) -> None:
        """500 records, or 1 MiB, go at once; what is left waits for the next flush."""
        rig = await self.rig()
        rig.records(limits.BATCH_ITEMS + 20)
        await rig.settled()
        assert sum(self.collector.batches) == limits.BATCH_ITEMS + 20 or self.collector.batches
        assert max(self.collector.batches) <= limits.BATCH_ITEMS
        await rig.flush()
        sent = len(self.collector.items)
        assert sent == limits.BATCH_ITEMS + 20
        rig.append(end_line(size=700_000), end_line(size=700_000))
        await rig.settled()
        assert len(self.collector.items) > sent
        assert self.collector.batches[-1] == 1

    async def test_frames_go_first_and_each_batch_is_of_one_journal(self) -> None:
        """design.md 4: a backlog of records does not hold up a frame; each journal has its own id and cursor, both
        share one breaker, and what became of them is told apart.
        """
        rig = await self.rig()
        self.collector.behaviour = lambda items: (500, {}, b"")
        records = rig.records(3)
        (first,) = rig.append(end_line(), frames=True)
        await rig.settled()
        assert self.collector.batches == [1], "a frame does not wait for the next flush"
        for _ in range(4):
            await rig.flush()
        assert rig.status == ("degraded", "open", 5)
        second = rig.append(end_line(), end_line(), frames=True)
        await rig.flush(61.0)
        assert self.collector.batches[5:] == [1], "one probe of one item, of all journals together"
        self.collector.behaviour = lambda items: None
        await rig.flush(61.0)
        assert self.collector.order == [first, *second, *records]
        assert self.collector.batches[6:] == [1, 2, 3]
        named = [headers["bitville-journal"] for headers in self.collector.headers]
        assert named[6:] == [rig.frames.journal_id.hex()] * 2 + [rig.journal.journal_id.hex()]
        frames, whole = (journal.journal.books.totals.stored.records for journal in rig.forward.journals)
        assert (frames, whole, rig.forward.pending) == (3, 3, 0)

    async def test_a_frame_overtakes_a_backlog(self) -> None:
        """Between two batches of records a frame that has come meanwhile is next."""
        rig = await self.rig()
        late: list[str] = []

        def during(items: list[dict[str, Any]]) -> None:
            if len(self.collector.batches) == 2:
                reactor.callFromThread(lambda: late.extend(rig.append(end_line(), frames=True)))  # type: ignore[attr-defined]
                time.sleep(0.1)

        self.collector.behaviour = during
        rig.forward.journals[1].most = 2
        ids = rig.records(8)
        await rig.flush()
        assert self.collector.order.index(late[0]) < len(ids)
        assert [i for i in self.collector.order if i not in late] == ids

    async def test_a_journal_that_cannot_be_read_does_not_stop_the_other(self) -> None:
        """An unreadable disk under one of them: the other is sent, and health says that something is wrong."""
        rig = await self.rig()
        rig.append(end_line(), frames=True)
        await rig.settled()
        rig.records(2)

        take = Journal.take

        async def unreadable(journal: Journal, items: int, most_bytes: int) -> list[Any]:
            if journal is rig.frames:
                raise OSError(5, "Input/output error")
            return await take(journal, items, most_bytes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "take", unreadable)
            late = rig.append(end_line(), frames=True)
            await rig.flush()
            assert (len(self.collector.items), rig.status[0], rig.forward.pending) == (3, "degraded", 1)
        await rig.flush()
        assert (self.collector.order[-1:], rig.status) == (late, ("ok", "closed", 0))

    async def test_what_became_of_each_record_is_told_apart(self) -> None:
        """faults 9: stored, known, rejected, too large, expired; only what a person can mend goes to quarantine."""
        rig = await self.rig()
        ids = rig.records(9)
        reasons = {2: "invalid", 3: "expired", 5: "oversize", 8: "clock", 9: "expired"}
        answer = {
            "stored": 3,
            "duplicate": 1,
            "rejected": [{"line": n, "id": None, "reason": why} for n, why in reasons.items()],
        }
        self.collector.behaviour = lambda items: (200, {}, json.dumps(answer).encode())
        await rig.flush()
        assert rig.became == Totals(
            stored=Count(3, 3),
            duplicate=Count(1, 1),
            quarantined=Count(2, 2),
            dropped_oversize=Count(1, 1),
            dropped_expired=Count(2, 2),
        )
        kept = {json.loads(json.loads(p.read_text())["body"])["id"] for p in (self.directory / "quarantine").iterdir()}
        assert kept == {ids[1], ids[4], ids[7]}
        assert rig.status == ("ok", "closed", 0)

    async def test_a_private_certificate_is_trusted_by_its_file_only(self) -> None:
        """LIST-03: `ca` names whom to believe; without it a private certificate is refused, and so is another one."""
        certificate, context = certified(self.directory / "one")
        stranger, _ = certified(self.directory / "other")
        secure = Collector(tls=context)
        self.addCleanup(secure.close)
        url = secure.url.replace("http:", "https:")
        for ca, delivered in ((None, 0), (stranger, 0), (stranger + certificate, 1)):
            rig = ForwardRig(self.directory / uuid.uuid4().hex, url, ca=ca)
            await rig.start()
            rig.records(1)
            await rig.flush()
            assert len(secure.items) == delivered
            assert rig.forward.breaker.failure_count == 1 - delivered
            await rig.close()

    async def test_what_happens_is_logged_with_counts_and_a_repeated_failure_once_a_minute(self) -> None:
        """DAEMON-14: n sent, m failed; breaker opened, half-open, closed, restored; never a record's content."""
        with capturedLogs() as events:
            rig = await self.rig()
            rig.append(end_line(context="precious"), end_line())
            self.collector.behaviour = lambda items: (500, {}, b"")
            for _ in range(5):
                await rig.flush()
            await ForwardRig(self.directory, self.collector.url).forward.start()
            self.collector.behaviour = lambda items: None
            await rig.flush(61.0)
        said = [text for text in (formatEvent(e) for e in events) if text]
        breaker = [text for text in said if text.startswith("breaker")]
        assert breaker == [
            "breaker central_listener opened",
            "breaker central_listener restored: open, 5 failures",
            "breaker central_listener half-open",
            "breaker central_listener closed",
        ]
        assert said.count("0 sent, 2 failed") == 5
        assert said.count("2 sent, 0 failed") == 1
        assert [text for text in said if text.startswith("sending failed")] == ["sending failed 1 times: 500"]
        assert not any("precious" in text for text in said)

    async def test_stopping_flushes_and_keeps_the_rest(self) -> None:
        """DAEMON-04: SIGTERM sends what the breaker allows; what cannot be sent stays on disk for the next start."""
        rig = await self.rig()
        rig.records(3)
        await rig.forward.stop()
        assert len(self.collector.items) == 3
        self.collector.behaviour = lambda items: (500, {}, b"")
        other = await ForwardRig(self.directory / "other", self.collector.url).start()
        other.records(2)
        await other.forward.stop()
        assert other.forward.pending == 2
        again = await self.rig(self.directory / "other")
        assert again.journal.replayed == 2
