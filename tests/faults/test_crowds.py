"""Fault row 20, the agent's side: no descriptors, thousands of silent connections, and lines a byte at a time."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from bitville_apm import limits
from tests.agent.rig import Agent, Collector, running
from tests.faults.tools import clients, crowd, judge
from tests.faults.tools.counts import counts, say
from tests.tools import require

CLOSED_S = limits.LINE_START_S + 2.0
"""Five seconds by the agent's tick of one, and a busy machine."""
FEW = 64
"""Descriptors left to an agent; about a third are its own."""


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("idle", counts("20 idle connections"))
def test_honest_clients_are_served_in_a_crowd(tmp_path: Path, collector: Collector, idle: int, few: bool) -> None:
    """Row 20, I1, I3: among silent connections and drippers, also without a descriptor left, honest clients are
    acked, and the others are closed after 5 s; one whose request has begun may stay.
    """
    before: list[str] = []
    if few:
        require("prlimit")
        before = ["prlimit", f"--nofile={FEW}:{FEW}"]
        idle = min(idle, limits.LISTEN_BACKLOG // 2)
    with running(Agent(tmp_path / "a", collector.url, before=before)) as agent, contextlib.ExitStack() as stack:
        begun = stack.enter_context(agent.connect(30))
        begun.sendall(b'{"t":"begin","v":2,"id":"7d444840-9dc0-11d1-b245-5ffdce74fad2","at":1,"uri":"/"}\n')
        honest = clients.Client(agent.socket, agent.spool, "honest", 1, short=0.5, pause=0.02, deadline=10.0)
        honest.start()
        gathered = stack.enter_context(crowd.gathered(agent.socket, idle, dripping=20))
        stack.callback(gathered.kill)
        told, _ = gathered.communicate(timeout=6 * CLOSED_S)
        tally = honest.finish()
        lived = [1000 * seconds for seconds in json.loads(told)]
        say(f"row 20: {idle} silent, {FEW if few else 'enough'} descriptors: honest {judge.told(tally.took)}")
        say(f"row 20: closed after, {judge.told(lived)}")
        # With few descriptors the crowd waits in the backlog, not yet accepted: closed five seconds after that.
        judge.waits(lived, 1000 * CLOSED_S * (2 if few else 1))
        assert tally.refused == 0
        # Without descriptors one that has not said its first line yet may be closed for the next; it has its spool.
        assert tally.late <= (len(tally.took) / 20 if few else 0)
        assert len(tally.took) > 50
        judge.waits(tally.took, 1000 * CLOSED_S if few else judge.CLIENT_MS)
        begun.sendall(
            b'{"t":"end","v":2,"id":"7d444840-9dc0-11d1-b245-5ffdce74fad2","at":1,"ms":1,"request":'
            b'{"method":"GET","uri":"/"}}\n'
        )
        assert begun.recv(1) == b"+"
        begun.close()
        judge.delivered(agent, 30)
        judge.balanced(agent)
        judge.stored_once(tally, judge.whole(collector.items.values()))
