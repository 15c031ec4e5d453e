"""Fault row 19, the agent's side: what clients put into the spool while it hung is there once. The client's side, with
real PHP, is in `test_php_client.py`.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent import rig
from tests.faults.tools.clients import Client, together
from tests.faults.tools.counts import say
from tests.faults.tools.judge import balanced, stored_once


@pytest.mark.full
@pytest.mark.parametrize("seconds", [2, 30])
def test_what_was_spooled_while_it_hung_is_imported_once(tmp_path: Path, seconds: int) -> None:
    """Row 19, I1, wire.md 4: a stopped agent finds two copies of most records when it goes on, one in its socket and
    one in the spool, since nobody saw an ack: each is journalled once and sent once, and the spool is empty.
    """
    collector = rig.Collector()
    places: dict[str, set[int]] = {}

    def noted(items: list[dict[str, Any]]) -> None:
        for item in items:
            places.setdefault(item["id"], set()).add(item["seq"][1])

    collector.behaviour = noted
    agent = rig.Agent(tmp_path / "a", collector.url)
    try:
        agent.start()
        clients = [Client(agent.socket, agent.spool, f"client{n}", n, short=0.5, deadline=0.05) for n in range(3)]
        for client in clients:
            client.start()
        rig.wait_until(lambda: len(collector.items) > 100)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        agent.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        tally = together(clients)
        assert tally.spooled > 20
        assert tally.unsure.total() > 20
        rig.wait_until(lambda: not [p for p in agent.spool.iterdir() if p.suffix in (".json", ".ndjson")], 60)
        rig.wait_until(lambda: agent.ledger()["pending"] == 0, 60)
        whole = [id_ for id_, item in collector.items.items() if not item["body"].get("short")]
        stored_once(tally, whole)
        assert set(whole) == tally.whole
        assert {len(its) for its in places.values()} == {1}, "journalled twice"
        ledger = agent.ledger()
        assert ledger["unconfirmed"] == tally.unsure.total()
        assert ledger["duplicate"] > 10, "the copies in the spool"
        balanced(agent)
        say(f"row 19: {tally.requests} requests, {tally.spooled} spooled, {ledger['duplicate']} known already")
    finally:
        agent.clean_up()
        collector.close()
