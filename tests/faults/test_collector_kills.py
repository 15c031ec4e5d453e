"""Fault row 3: a collector killed while it stores, again and again: nothing is lost, nothing counted twice."""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.collector.rig import item, running
from tests.faults.tools.counts import Progress, chance, counts
from tests.faults.tools.kills import kills
from tests.store.make import end_body, new_id

BETWEEN = (0.0, 0.7)
"""Seconds a collector lives, starting included: some die before they listen, some between a commit and its answer."""


class Sender(threading.Thread):
    """Sends its batches until each is answered, as an agent does; keeps its own tally of what it sent."""

    def __init__(self, rig: Any, key: str, number: int) -> None:
        super().__init__()
        self.rig, self.key, self.number = rig, key, number
        self.sent: list[dict[str, Any]] = []
        self.unanswered = 0
        self.over = threading.Event()
        self.wrong: list[Any] = []

    def run(self) -> None:
        at = time.time() - 60
        while not self.over.is_set():
            ids = [new_id() for _ in range(20)]
            ms = float(self.number + 1)
            records = [end_body(id, at, ms, request={"method": "GET", "uri": f"/s{self.number}"}) for id in ids]
            # The envelope is made once: its recv is the time the record entered the journal, on every retry.
            batch = [item(record, n=len(self.sent) + i) for i, record in enumerate(records)]
            self.sent += batch
            self._deliver(batch)

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        while True:
            try:
                answer = self.rig.post(self.key, *batch, Bitville_Journal=f"{self.number:032x}")
            except (OSError, http.client.HTTPException):
                self.unanswered += 1
                time.sleep(0.02)
                continue
            if answer.status != 200 or answer.json["stored"] + answer.json["duplicate"] != len(batch):
                self.wrong.append(answer)
            return


@pytest.mark.parametrize("times", counts("3 kills"))
def test_killed_in_ingest(tmp_path: Path, times: int) -> None:
    """Row 3, I1: over SIGKILLs in ingest every record of the senders' own tally is stored once; rolls are exact."""
    with running(tmp_path) as rig:
        key = rig.key("shop", "ingest,read")
        senders = [Sender(rig, key, number) for number in range(3)]
        for sender in senders:
            sender.start()
        progress = Progress(3, times, "kills")
        try:
            for n in kills(rig, times, chance(3), BETWEEN, rig.wait):
                progress.at(n, sent=sum(len(s.sent) for s in senders), unanswered=sum(s.unanswered for s in senders))
        finally:
            for sender in senders:
                sender.over.set()
            for sender in senders:
                sender.join()
        assert sum(sender.unanswered for sender in senders) >= times // 2
        assert [sender.wrong for sender in senders] == [[], [], []]
        stored: list[str] = []
        after: str | None = ""
        while after is not None:
            page = rig.ask("GET", f"/api/search?limit=100{after and '&after=' + after}", key=key).json
            stored += [row["id"] for row in page["items"]]
            after = page["cursor"]
        assert sorted(stored) == sorted(line["id"] for sender in senders for line in sender.sent)
        now = time.time()
        rows = rig.ask("GET", f"/api/top?dimension=endpoint&from={now - 3600}&to={now}", key=key).json["items"]
        counted = {row["value"]: (row["requests"], row["wall_ms"]) for row in rows}
        assert counted == {
            f"GET /s{sender.number}": (len(sender.sent), len(sender.sent) * (sender.number + 1)) for sender in senders
        }
        rig.stop()
