"""Fault row 1: an agent killed again and again under its clients, short requests and whole ones."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.agent.rig import wait_until
from tests.collector import rig as collectors
from tests.faults.tools import clients, holder, judge
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.faults.tools.kills import kills

BETWEEN = (0.0, 0.35)
"""Seconds an agent lives: some die while they still look through their journal."""
ROUNDS = 45
"""Endpoints of each client, one after the other: four times this, and `~php`, are fewer than the 200 the API tells."""


@pytest.mark.parametrize("times", counts("1 kills"))
def test_killed_at_random(tmp_path: Path, times: int) -> None:
    """Row 1, I1, I2: SIGKILLs at random under four clients, 90 % short: none lost, none double, nobody refused."""
    random = chance(1)
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(collectors.running(tmp_path / "collector"))
        key = collector.key(scopes="ingest,read")
        listening = stack.enter_context(holder.held(tmp_path / "agent" / "run" / "daemon.sock"))
        agent = holder.Quick(tmp_path / "agent", collector.url, key=key, listening=listening)
        stack.callback(agent.clean_up)
        agent.start()
        senders = [
            clients.Client(agent.socket, agent.spool, f"client-{n}", random.getrandbits(32), deadline=3.0)
            for n in range(4)
        ]
        for sender in senders:
            sender.start()
        progress = Progress(1, times, "kills")
        began = time.monotonic()
        for n in kills(agent, times, random, BETWEEN, lambda: wait_until(agent.answers)):
            for sender in senders:
                sender.round = n * ROUNDS // (times + 1)
            tallies = [sender.tally for sender in senders]
            progress.at(n, requests=sum(t.requests for t in tallies), refused=sum(t.refused for t in tallies))
        tally = clients.together(senders)
        say(f"row 1: {times} kills in {time.monotonic() - began:.0f} s; {judge.told(tally.took)}")
        wait_until(lambda: not [*agent.spool.glob("profile_*"), *agent.spool.glob("*.ndjson")], 60, "spool imported")
        wait_until(lambda: agent.ledger()["pending"] == 0, 60, "everything delivered")
        judge.balanced(agent)
        assert tally.refused == 0
        # A request that was begun may be told as died, and its end follows.
        stored = [item["id"] for item in collector.stored(key) if not item["died"]]
        verdict = judge.stored_once(tally, stored)
        judge.counted_soon(tally, lambda: collector.counted(key))
        say(
            f"row 1: {tally.requests} requests, {len(tally.whole)} whole, {tally.spooled} spooled, "
            f"{tally.unsure.total()} unsure, {tally.refused} refused, {verdict.lost} lost, {verdict.doubled} doubled"
        )
