"""Sending to a collector that misbehaves in every way: over real HTTP, with a clock that only the test moves."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from bitville_apm import limits
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.forward import Forward
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.segment import Entry
from bitville_apm.agent.totals import Count, Totals
from bitville_apm.agent.transmitter import Transmitter, trust
from tests.agent.certificate import certified
from tests.agent.rig import KEY, Collector, end_line, free_port
from tests.agent.test_journal import at_once

NOW = 1_795_231_261.5


class ForwardRig:
    """A journal and its forwarder in the test's directory; `flush` waits for one flush to end."""

    def __init__(self, directory: Path, url: str, key_file: Path | None = None, ca: bytes | None = None) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.wall = NOW
        self.key_file = key_file
        self.journal = Journal(Disk(directory / "journal", "never"), at_once, self.clock, lambda: NOW)
        self.frames = Journal(Disk(directory / "journal" / "frames", "never"), at_once, self.clock, lambda: NOW)
        self.transmitter = Transmitter(reactor, at_once, lambda: NOW, url, "web1", trust(ca))
        self.quarantine = Quarantine(directory / "quarantine")
        self.forward = Forward(
            journals=[Outgoing(self.frames, at_once=True), Outgoing(self.journal)],
            transmitter=self.transmitter,
            quarantine=self.quarantine,
            run=at_once,
            clock=self.clock,
            now=lambda: self.wall,
            read_key=self.read_key,
            state_file=directory / "circuit-breaker-state" / "central_listener.state",
            flush_seconds=5.0,
        )

    def read_key(self) -> str:
        if self.key_file is None:
            return KEY
        try:
            return self.key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    async def start(self) -> ForwardRig:
        await self.journal.start()
        await self.frames.start()
        await self.forward.start()
        await self.settled()
        return self

    async def settled(self) -> None:
        while self.forward._flushing is not None:
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]

    async def flush(self, seconds: float = 5.0) -> None:
        self.wall += seconds
        self.clock.pump([seconds])
        await self.settled()

    def append(self, *lines: bytes, frames: bool = False) -> list[str]:
        ids = []
        for line in lines:
            ids.append(json.loads(line)["id"])
            (self.frames if frames else self.journal).append(Entry("end", ids[-1], int(NOW * 1000), line))
        self.clock.advance(0)
        return ids

    def records(self, n: int) -> list[str]:
        return self.append(*(end_line() for _ in range(n)))

    @property
    def became(self) -> Totals:
        return self.journal.books.totals

    @property
    def status(self) -> tuple[str, str, int]:
        breaker = self.forward.breaker
        return self.forward.status, breaker.state, breaker.failure_count

    async def close(self) -> None:
        if self.forward._loop is not None and self.forward._loop.running:
            self.forward._loop.stop()
        await self.settled()
        await self.transmitter.close()


class ForwardTests(TestCase):
    """Each test has a collector of its own."""

    timeout = 60

    def setUp(self) -> None:
        self.collector = Collector()
        self.addCleanup(self.collector.close)
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)

    async def rig(self, directory: Path | None = None, url: str = "", key_file: Path | None = None) -> ForwardRig:
        rig = await ForwardRig(directory or self.directory, url or self.collector.url, key_file).start()
        self.addCleanup(lambda: Deferred.fromCoroutine(rig.close()))
        return rig

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

    async def test_five_failures_open_it_and_one_probe_of_one_item_closes_it(self) -> None:
        """COMM-04, DAEMON-08, DAEMON-09, DAEMON-10: five times 500, 60 s of silence, one probe, then all in order."""
        rig = await self.rig()
        ids = rig.records(7)
        self.collector.behaviour = lambda items: (500, {}, b"")
        for n in range(1, 6):
            await rig.flush()
            assert len(self.collector.batches) == n
        assert rig.status == ("degraded", "open", 5)
        assert rig.forward.pending == 7
        told = rig.forward.told()
        assert (told["listener_url"], told["timeout"], told["failed_batches"]) == (self.collector.url, 5.0, 5)
        assert told["circuit_breaker"]["state"] == "open"
        for _ in range(11):
            await rig.flush()
        assert len(self.collector.batches) == 5, "nothing is sent while it is open"
        await rig.flush(6.0)
        assert self.collector.batches[5:] == [1], "the probe"
        assert rig.status == ("degraded", "open", 6)
        self.collector.behaviour = lambda items: None
        await rig.flush(61.0)
        assert self.collector.batches[6:] == [1, 6]
        assert self.collector.order == ids
        assert rig.status == ("ok", "closed", 0)

    async def test_its_state_survives_a_restart_and_never_waits_longer_than_a_minute(self) -> None:
        """DAEMON-09: restored from its file; a wall clock that jumped back two days adds nothing to the wait."""
        rig = await self.rig()
        rig.records(1)
        self.collector.behaviour = lambda items: (503, {}, b"")
        for _ in range(5):
            await rig.flush()
        state = json.loads(rig.forward.state_file.read_text())
        assert (state["state"], state["failure_count"]) == ("open", 5)
        assert rig.forward.state_file.stat().st_mode & 0o777 == 0o600
        again = ForwardRig(self.directory, self.collector.url)
        again.wall = NOW - 2 * 86_400
        await again.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(again.close()))
        assert again.status == ("degraded", "open", 5)
        await again.flush(30.0)
        assert len(self.collector.batches) == 5
        self.collector.behaviour = lambda items: None
        await again.flush(31.0)
        assert again.status == ("ok", "closed", 0)
        assert len(self.collector.items) == 1

    async def test_a_corrupt_state_file_is_closed(self) -> None:
        """DAEMON-09: an unreadable state is closed, and the agent says nothing of it but goes on."""
        path = self.directory / "circuit-breaker-state" / "central_listener.state"
        path.parent.mkdir()
        for rubbish in (b"\x00\xff", b"{}", b'{"state":"open","failure_count":"x"}', b"[" * 5000):
            path.write_bytes(rubbish)
            rig = ForwardRig(self.directory, self.collector.url)
            await rig.start()
            assert rig.forward.breaker.state == "closed"
            await rig.close()

    async def test_retry_after_is_honoured(self) -> None:
        """429 with Retry-After: not before that, however many flushes come."""
        rig = await self.rig()
        rig.records(1)
        self.collector.behaviour = lambda items: (429, {"Retry-After": "17"}, b'{"message":"slower"}')
        await rig.flush()
        self.collector.behaviour = lambda items: None
        for _ in range(3):
            await rig.flush()
        assert self.collector.batches == [1]
        await rig.flush()
        assert self.collector.batches == [1, 1]
        assert rig.status == ("ok", "closed", 0)

    async def test_a_refused_key_holds_the_pipeline_without_touching_the_breaker(self) -> None:
        """401, 403, 404: health fails, the breaker stays closed, tried again each 60 s or when the key changes."""
        key_file = self.directory / "key"
        key_file.write_text("bv_old\n")
        rig = await self.rig(key_file=key_file)
        for status in (401, 403, 404):
            (id_,) = rig.records(1)
            before = len(self.collector.batches)
            self.collector.behaviour = lambda items, status=status: (status, {}, b'{"message":"no"}')
            for _ in range(6):
                await rig.flush()
            assert len(self.collector.batches) == before + 1
            assert rig.status == ("failing", "closed", 0)
            self.collector.behaviour = lambda items: None
            if status == 401:
                key_file.write_text("bv_new\n")
                await rig.flush()
                assert self.collector.headers[-1]["authorization"] == "Bearer bv_new"
            else:
                await rig.flush(61.0)
            assert id_ in self.collector.items
            assert rig.status == ("ok", "closed", 0)

    async def test_a_missing_key_waits_for_its_file(self) -> None:
        """No key yet: nothing is sent, health is degraded, and the file is looked for at each flush."""
        key_file = self.directory / "key"
        rig = await self.rig(key_file=key_file)
        rig.records(1)
        await rig.flush()
        assert self.collector.batches == []
        assert rig.status[0] == "degraded"
        key_file.write_text(KEY)
        await rig.flush()
        assert self.collector.batches == [1]
        assert rig.status[0] == "ok"

    async def test_a_batch_too_large_is_halved_and_one_item_too_large_set_aside(self) -> None:
        """413: the good ones beside it arrive, the one that never fits is in quarantine, nothing blocks."""
        rig = await self.rig()
        ids = rig.records(9)
        poison = ids[4]

        def too_large(items: list[dict[str, Any]]) -> Any:
            return (413, {}, b"") if any(item["id"] == poison for item in items) else None

        self.collector.behaviour = too_large
        await rig.flush()
        assert self.collector.order == [i for i in ids if i != poison]
        (kept,) = (self.directory / "quarantine").glob("*.json")
        assert poison in json.loads(kept.read_text())["body"]
        assert (rig.became.dropped_oversize, rig.forward.pending) == (Count(1, 1), 0)
        assert rig.status == ("ok", "closed", 0)

    async def test_rejected_items_are_kept_for_a_person_and_block_nobody(self) -> None:
        """faults 9: rejected items go to quarantine with their reason, are counted, and are no failure."""
        rig = await self.rig()
        ids = rig.records(4)
        fields = [{"field": "ms", "problem": "missing"}]
        rejected = [{"line": n, "id": ids[n - 1], "reason": "invalid", "fields": fields} for n in (2, 4)]
        self.collector.behaviour = lambda items: (
            200,
            {},
            json.dumps({"success": True, "stored": 2, "duplicate": 0, "rejected": rejected}).encode(),
        )
        await rig.flush()
        kept = [json.loads(p.read_text()) for p in sorted((self.directory / "quarantine").iterdir())]
        assert {k["reason"] for k in kept} == {"invalid"}
        assert all(k["details"] == fields for k in kept)
        assert {json.loads(k["body"])["id"] for k in kept} == {ids[1], ids[3]}
        assert (rig.became.stored, rig.became.quarantined, rig.forward.pending) == (Count(2, 2), Count(2, 2), 0)
        assert rig.status == ("ok", "closed", 0)

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

    async def test_an_answer_that_does_not_account_for_each_item_is_none(self) -> None:
        """A proxy's own 200, or a line nobody sent: nothing is let go of, and it counts as a failure."""
        rig = await self.rig()
        ids = rig.records(2)
        answers: list[Any] = [
            {"stored": 0},
            {"stored": 3},
            {"stored": 3, "duplicate": -1},
            {"stored": 0, "rejected": [{"line": 1}, {"line": 1}]},
        ]
        for n, answer in enumerate(answers, 1):
            self.collector.behaviour = lambda items, answer=answer: (200, {}, json.dumps(answer).encode())
            await rig.flush()
            assert rig.status == ("degraded", "closed", n)
        assert rig.forward.pending == 2
        self.collector.behaviour = lambda items: None
        await rig.flush()
        assert self.collector.order == ids

    async def test_something_on_the_way_that_refuses_everything_does_not_empty_the_journal(self) -> None:
        """A proxy that lets nothing large through answers 413 to single items too: after ten in a row it is not
        their fault. Health fails, one a minute is tried, and what is left arrives when the proxy is mended.
        """
        for status in (413, 400):
            rig = await self.rig(self.directory / str(status))
            ids = rig.records(60)
            self.collector.behaviour = lambda items, status=status: (status, {}, b'{"message":"too large"}')
            for _ in range(11):
                await rig.flush()
            assert rig.status == ("failing", "closed", 0)
            refused = limits.REFUSED_IN_A_ROW
            assert rig.forward.pending == 60 - refused
            await rig.flush(61.0)
            refused += 1
            assert rig.forward.pending == 60 - refused
            self.collector.behaviour = lambda items: None
            await rig.flush(61.0)
            assert rig.status == ("ok", "closed", 0)
            assert self.collector.order[-60 + refused :] == ids[refused:]
            lost = Count(refused, refused)
            assert (rig.became.dropped_oversize, rig.became.quarantined)[status == 400] == lost

    async def test_answers_that_cannot_be_read_are_failures_and_the_batch_is_sent_again(self) -> None:
        """An answer cut, too long, or no JSON: who knows what was stored; the same records come again."""
        rig = await self.rig()
        (id_,) = rig.records(1)
        answers = [b"<html>", b'{"success":true,"sto', b"x" * (limits.ANSWER_BYTES + 10)]
        for n, answer in enumerate(answers, 1):
            self.collector.behaviour = lambda items, answer=answer: (200, {}, answer)
            await rig.flush()
            assert rig.status == ("degraded", "closed", n)
        self.collector.behaviour = lambda items: None
        await rig.flush()
        await rig.flush()
        assert self.collector.order == [id_]
        assert rig.status == ("ok", "closed", 0)

    async def test_nobody_there_is_a_failure(self) -> None:
        """Connection refused: counted, and sent when somebody is."""
        port = free_port()
        rig = await self.rig(url=f"http://127.0.0.1:{port}")
        rig.records(1)
        await rig.flush()
        assert rig.status == ("degraded", "closed", 1)
        late = Collector(port)
        self.addCleanup(late.close)
        await rig.flush()
        assert rig.status == ("ok", "closed", 0)
        assert len(late.items) == 1

    async def test_a_collector_that_never_answers_is_given_up_after_five_seconds(self) -> None:
        """DAEMON-10: 5 s in all, also when the answer's beginning came; the connection is closed then, and the next
        batch is half: over a slow line the whole one would never get through.
        """
        for beginning in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"):
            with socket.create_server(("127.0.0.1", 0)) as server:
                closed = threading.Event()

                def hang(server: socket.socket = server, beginning: bytes = beginning, closed: Any = closed) -> None:
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(20)
                        connection.sendall(beginning)
                        with contextlib.suppress(ConnectionResetError):
                            while connection.recv(65536):
                                pass
                        closed.set()

                thread = threading.Thread(target=hang)
                thread.start()
                rig = await self.rig(self.directory / uuid.uuid4().hex, f"http://127.0.0.1:{server.getsockname()[1]}")
                rig.records(8)
                started = time.monotonic()
                with capturedLogs() as events:
                    await rig.flush()
                assert 4 < time.monotonic() - started < 15
                assert "sending failed 1 times: no answer within 5 s" in [formatEvent(event) for event in events]
                assert rig.status == ("degraded", "closed", 1)
                assert rig.forward.journals[-1].most == 4
                for _ in range(400):
                    if closed.is_set():
                        break
                    await deferLater(reactor, 0.01)  # type: ignore[arg-type]
                assert closed.is_set()
                thread.join()

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

    async def test_a_quarantine_that_cannot_be_written_keeps_the_record(self) -> None:
        """A refused item is only let go once it is written down: a full disk loses nothing."""
        rig = await self.rig()
        ids = rig.records(1)
        (self.directory / "quarantine").write_text("in the way")
        answer = {"success": True, "stored": 0, "duplicate": 0, "rejected": [{"line": 1, "reason": "invalid"}]}
        self.collector.behaviour = lambda items: (200, {}, json.dumps(answer).encode())
        await rig.flush()
        assert rig.forward.pending == 1
        (self.directory / "quarantine").unlink()
        await rig.flush()
        assert rig.forward.pending == 0
        (kept,) = (self.directory / "quarantine").iterdir()
        assert ids[0] in kept.read_text()

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


def test_quarantine_is_bounded_oldest_out_first(tmp_path: Path, monkeypatch: Any) -> None:
    """Bounded in files and in bytes, also over restarts; what is newest stays."""
    monkeypatch.setattr(limits, "QUARANTINE_FILES", 5)
    quarantine = Quarantine(tmp_path)
    for n in range(12):
        if n == 7:
            quarantine = Quarantine(tmp_path)
        quarantine.keep(1_795_231_261_000 + n, "invalid", [], b"%d" % n)
    kept = sorted(tmp_path.iterdir())
    assert [json.loads(p.read_text())["body"] for p in kept] == ["7", "8", "9", "10", "11"]
    monkeypatch.setattr(limits, "QUARANTINE_BYTES", 300)
    quarantine.keep(1_795_231_262_000, "invalid", [], b"x" * 200)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 300
    quarantine.keep(1_795_231_263_000, "invalid", [], b"x" * 2000)
    assert len(list(tmp_path.iterdir())) == 1
