"""What is killed: an agent and a collector, with clients; a loop that kills; and what must hold after it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from tests.collector import rig as collectors
from tests.faults.tools import clients, holder, judge


class Mortal(Protocol):
    """What can be killed and started again: an agent, a collector."""

    def spawn(self) -> object:
        """Start it without waiting."""

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""


@attrs.frozen
class Pair:
    """A collector, and an agent on a held socket that delivers to it under `key`."""

    collector: collectors.Rig
    key: str
    agent: holder.Quick

    def senders(self, many: int, chance: random.Random) -> list[clients.Client]:
        """Clients that have begun: they wait 3 s for an ack, longer than an heir takes to start."""
        made = [
            clients.Client(self.agent.socket, self.agent.spool, f"client-{n}", chance.getrandbits(32), deadline=3.0)
            for n in range(many)
        ]
        for one in made:
            one.start()
        return made

    def judge(self, tally: clients.Tally, seconds: float) -> judge.Verdict:
        """I1, I2, nobody refused: once everything is delivered, within that time each."""
        judge.delivered(self.agent, seconds)
        judge.balanced(self.agent)
        assert tally.refused == 0
        return judge.kept_once(tally, self.collector, self.key)


@contextlib.contextmanager
def pair(directory: Path) -> Iterator[Pair]:
    """Both running, and surely gone at the end."""
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(collectors.running(directory / "collector"))
        key = collector.key(scopes="ingest,read")
        listening = stack.enter_context(holder.held(directory / "agent" / "run" / "daemon.sock"))
        agent = holder.Quick(directory / "agent", collector.url, key=key, listening=listening)
        stack.callback(agent.clean_up)
        agent.start()
        yield Pair(collector, key, agent)


def kills(
    whom: Mortal, times: int, chance: random.Random, between: tuple[float, float], lived: Callable[[], object]
) -> Iterator[int]:
    """SIGKILL `whom` so often, each time after a random while in `between` (seconds); gives back each kill's number.

    Some starts are killed while they still recover. Every tenth is let live until `lived` says so (an answer to
    `/health`, say), so that what recovery left is worked on too. The last heir lives.
    """
    for n in range(1, times + 1):
        if n % 10 == 0:
            lived()
        time.sleep(chance.uniform(*between))
        whom.kill()
        whom.spawn()
        yield n
    lived()


def spread(senders: Sequence[clients.Client], n: int, of: int, endpoints: int) -> None:
    """What is sent from now on has the endpoint of this part of a run: `endpoints` of them a client in all."""
    for sender in senders:
        sender.round = n * endpoints // (of + 1)
