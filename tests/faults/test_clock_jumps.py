"""Fault row 17: the wall clock jumps two days back, two days on, to 1970, under a running agent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bitville_apm import limits
from tests.agent.rig import KEY, Agent, Collector, end_line, wait_until
from tests.faults.tools import clients, judge
from tests.faults.tools.clock import FalseClock, false_clock
from tests.faults.tools.counts import Progress, chance, counts, say

DAY_S = 86_400.0
CYCLES = 5
MARGIN_S = 5.0
"""Beyond the breaker's time: the next flush, the probe's answer, and a busy machine."""


def offsets() -> list[float]:
    """Where the clock jumps to, seconds from the truth; the last is 1970."""
    return [-2 * DAY_S, 2 * DAY_S, 60.0 - time.time()]


@pytest.fixture
def clock(tmp_path: Path) -> FalseClock:
    """A clock that only the agent believes."""
    return false_clock(tmp_path / "clock")


@pytest.mark.parametrize("jumps", counts("17 jumps"))
def test_a_jump_deletes_nothing_young(tmp_path: Path, collector: Collector, clock: FalseClock, jumps: int) -> None:
    """Row 17, I1, I2: what waits in the journal through jumps and restarts is not too old for it.

    What came in while the clock said 1970 is: its day is over, for the collector too. It may be dropped, and counted.
    """
    random = chance(17)
    agent = Agent(tmp_path / "a", collector.url, key="", environment=clock.environment)
    senders = [clients.Client(agent.socket, agent.spool, f"client-{n}", n, pause=0.01) for n in range(2)]
    try:
        agent.start()
        for sender in senders:
            sender.start()
        wait_until(lambda: len(senders[0].tally.took) > 5)
        agent.kill()
        agent.start()
        progress = Progress(17, jumps, "jumps")
        of_1970: set[str] = set()

        def whole() -> set[str]:
            return set().union(*(sender.tally.whole for sender in senders))

        for n in range(jumps):
            before = whole()
            clock.jump(offsets()[n % 3])
            acked = len(senders[0].tally.took)
            wait_until(lambda acked=acked: len(senders[0].tally.took) > acked + 5, 10, "acks after a jump")  # type: ignore[misc]
            if n == 1 or (n % 3 == 2 and random.random() < 0.4):
                # A restart looks through a journal from another time, and soon at its age.
                agent.kill()
                agent.start()
                time.sleep(1.5)
            if n % 3 == 2:
                clock.jump(0)
                # The request that is under way may still bear the wrong time.
                rounds = [len(sender.tally.took) for sender in senders]
                wait_until(
                    lambda rounds=rounds: all(len(s.tally.took) > n for s, n in zip(senders, rounds, strict=True)),  # type: ignore[misc]
                    10,
                    "acks after 1970",
                )
                of_1970 |= whole() - before
            progress.at(n + 1, requests=sum(s.tally.requests for s in senders))
        clock.jump(0)
        agent.kill()
        agent.start()
        tally = clients.together(senders)
        # The age of segments is looked at when one is added or after a while, whichever comes first.
        wait_until(lambda: not [*agent.spool.glob("*.json"), *agent.spool.glob("*.ndjson")], 30, "spool imported")
        judge.balanced(agent)
        assert not collector.items
        aged = agent.ledger()["dropped_age"]
        (agent.directory / "key").write_text(KEY)
        wait_until(lambda: agent.ledger()["pending"] == 0, 60, "everything delivered")
        judge.balanced(agent)
    finally:
        agent.clean_up()
    tally.whole -= of_1970
    judge.stored_once(tally, judge.whole(collector.items.values()))
    say(
        f"row 17: {jumps} jumps, {tally.requests} requests; {len(tally.whole)} whole ones, 0 lost, besides "
        f"{len(of_1970)} of 1970, of which {len(of_1970 - collector.items.keys())} are too old ({aged} with short ones)"
    )
    assert len(of_1970 - collector.items.keys()) <= aged


@pytest.mark.full
def test_the_breaker_recovers_through_jumps(tmp_path: Path, collector: Collector, clock: FalseClock) -> None:
    """Row 17, DAEMON-09: an open breaker probes 60 s later by the monotonic clock, wherever the wall clock went."""
    agent = Agent(tmp_path / "a", collector.url, environment=clock.environment)
    try:
        agent.start()
        for cycle in range(CYCLES):
            collector.behaviour = lambda items: (500, {}, b"")
            assert agent.send(end_line()) == b"+"
            wait_until(lambda: agent.health()["stats"]["circuit_breaker"]["state"] == "open", 30, "the breaker opens")
            opened = time.monotonic()
            collector.behaviour = lambda items: None
            for n in range(10):
                clock.jump(offsets()[n % 3])
                time.sleep(0.2)
                if n == 5 and cycle % 2:
                    agent.kill()
                    agent.start()
            wait_until(lambda: agent.ledger()["pending"] == 0, limits.BREAKER_RETRY_S + MARGIN_S + 15, "delivered")
            took = time.monotonic() - opened
            say(f"row 17: {10 * (cycle + 1)} of {10 * CYCLES} jumps, the breaker recovered after {took:.1f} s")
            # A restart while open begins the wait anew: it knows only the wall clock, which nobody may believe.
            assert took <= limits.BREAKER_RETRY_S + MARGIN_S + (5 if cycle % 2 else 0)
            clock.jump(0)
        assert len(collector.items) == CYCLES
    finally:
        agent.clean_up()
