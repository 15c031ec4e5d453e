"""Fault row 1: an agent killed again and again under its clients, short requests and whole ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.agent.rig import wait_until
from tests.faults.tools import clients, judge
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.faults.tools.kills import kills, pair, spread

BETWEEN = (0.0, 0.35)
"""Seconds an agent lives: some die while they still look through their journal."""
ENDPOINTS = 45
"""Of each client, one after the other: four times this, and `~php`, are fewer than the 200 the API tells."""


@pytest.mark.parametrize("times", counts("1 kills"))
def test_killed_at_random(tmp_path: Path, times: int) -> None:
    """Row 1, I1, I2: SIGKILLs at random under four clients, 90 % short: none lost, none double, nobody refused."""
    random = chance(1)
    with pair(tmp_path) as both:
        senders = both.senders(4, random)
        progress = Progress(1, times, "kills")
        began = time.monotonic()
        for n in kills(both.agent, times, random, BETWEEN, lambda: wait_until(both.agent.answers)):
            spread(senders, n, times, ENDPOINTS)
            tallies = [sender.tally for sender in senders]
            progress.at(n, requests=sum(t.requests for t in tallies), refused=sum(t.refused for t in tallies))
        tally = clients.together(senders)
        say(f"row 1: {times} kills in {time.monotonic() - began:.0f} s; {judge.told(tally.took)}")
        verdict = both.judge(tally, 60)
        say(
            f"row 1: {tally.requests} requests, {len(tally.whole)} whole, {tally.spooled} spooled, "
            f"{tally.unsure.total()} unsure, {tally.refused} refused, {verdict.lost} lost, {verdict.doubled} doubled"
        )
