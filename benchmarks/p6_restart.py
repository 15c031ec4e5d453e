"""P6: an agent replaces itself under 1000 requests a second: who was refused, what was lost, how long clients waited.

A real agent under twistd, clients in threads, each request a begin, an end and its ack on a connection of its own; the
clients keep their own tally, the collector is a stand-in that remembers every id.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bitville_apm.cli import agent as command
from tests.agent.rig import Agent, Collector, wait_until
from tests.faults.tools import clients

PER_SECOND = 1000
CLIENTS = 10
RESTARTS = 10


def restart(agent: Agent) -> float:
    """One restart: how long clients waited, seconds."""
    path = agent.state / command.CONTROL
    before = command.ask(path, "restart")["restarts"]

    def told() -> object:
        try:
            status = command.ask(path, "status")
        except command.NoAnswer:
            return None
        return status if status["stats"]["worker"]["restarts"] > before else None

    status = wait_until(told, 60, "the agent comes back")
    return float(status["last_restart"]["clients_waited_s"])


def main() -> int:
    """Ten restarts, a second of traffic before each."""
    with tempfile.TemporaryDirectory(prefix="bv") as root:
        collector = Collector()
        agent = Agent(Path(root) / "a", collector.url, fsync="interval").start()
        try:
            wait_until(agent.spool.exists)
            pause = CLIENTS / PER_SECOND
            senders = [
                clients.Client(agent.socket, agent.spool, f"c{n}", n, pause=pause, deadline=20.0)
                for n in range(CLIENTS)
            ]
            began = time.monotonic()
            for sender in senders:
                sender.start()
            gaps = []
            for n in range(RESTARTS):
                time.sleep(1)
                gaps.append(restart(agent))
                print(f"restart {n + 1}: clients waited {gaps[-1] * 1000:.0f} ms")
            tally = clients.together(senders)
            took = time.monotonic() - began
            wait_until(lambda: agent.ledger()["pending"] == 0, 60)
            lost = len(tally.whole - collector.items.keys())
            agent.stop()
        finally:
            agent.clean_up()
            collector.close()
    print(
        f"{tally.requests} requests in {took:.0f} s ({tally.requests / took:.0f}/s, {PER_SECOND}/s asked for), "
        f"{RESTARTS} restarts, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(
        f"P6: {tally.refused} refused, {lost} lost; clients waited {statistics.median(gaps) * 1000:.0f} ms "
        f"in the median, {max(gaps) * 1000:.0f} ms at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
