"""Forwarding to a collector that fails: the breaker, keys that are refused, answers that are none."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from bitville_apm import limits
from tests.agent.forward_rig import NOW, ForwardCase, ForwardRig
from tests.agent.rig import KEY, Collector, free_port


class BreakerTests(ForwardCase):
    """DAEMON-09: failures open it, a probe closes it, and a refused key has nothing to do with it."""

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
