"""Fault row 24: Graylog is away, connections are cut within messages, the collector is killed: every record arrives."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.collector.graylog.receiver import Receiver, settings
from tests.collector.graylog.records import end, posted
from tests.collector.rig import running
from tests.faults.tools.counts import Progress, chance, counts

ROUNDS = 25
WAIT_S = 300.0


@pytest.mark.parametrize("rows", counts("24 rows"))
def test_graylog_away_and_cut(tmp_path: Path, rows: int) -> None:
    """GELF-01, GELF-02, GELF-04, GELF-05, row 24: of the sender's own tally every record arrives at least once, whole,
    with its project, in the order in which it was stored; what arrives twice has the same id; over outages, cuts within
    messages, and SIGKILLs and restarts of the collector.
    """
    dice = chance(24)
    cuts: list[int] = []
    """Bytes after which the next connections are cut."""
    receiver = Receiver(cut=lambda: cuts.pop() if cuts else None)
    receiver.open()
    outages = kills = restarts = 0
    wanted: list[str] = []
    progress = Progress(24, rows, "rows")
    try:
        with running(tmp_path, extra=settings(receiver)) as rig:
            key = rig.key("shop")
            while len(wanted) < rows:
                cuts[:] = [dice.randint(1, 60_000) for _ in range(dice.randint(0, 2))]
                fault = dice.choice(["outage", "kill", "restart"])
                if fault == "outage":
                    receiver.close()
                    outages += 1
                wanted += posted(rig, key, [end(ms=float(len(wanted) + n)) for n in range(max(rows // ROUNDS, 100))])
                time.sleep(dice.uniform(0, 3))
                if fault == "outage":
                    receiver.open()
                elif fault == "kill":
                    rig.kill()
                    rig.start()
                    kills += 1
                else:
                    rig.stop()
                    rig.start()
                    restarts += 1
                progress.at(
                    len(wanted), arrived=len(receiver.once()), repeated=receiver.repeated(), cuts=receiver.cuts,
                    outages=outages, kills=kills, restarts=restarts,
                )  # fmt: skip
            receiver.wait(len(wanted), WAIT_S)
            rig.stop()
    finally:
        receiver.close()
    assert receiver.once() == wanted
    assert {message["_project"] for message in receiver.messages} == {"shop"}
    texts = {message["_bv_id"]: message["full_message"] for message in receiver.messages}
    assert all(message["full_message"] == texts[message["_bv_id"]] for message in receiver.messages)
    progress.at(rows, arrived=len(receiver.once()), repeated=receiver.repeated(), cuts=receiver.cuts, missing=0)
