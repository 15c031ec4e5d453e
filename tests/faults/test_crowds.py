"""Fault row 20, the agent's side: no descriptors, thousands of silent connections, and lines a byte at a time."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm import limits
from tests.agent.rig import Agent, Collector, running, wait_until
from tests.faults.tools import clients, judge
from tests.faults.tools.counts import counts, say
from tests.tools import require

CLOSED_S = limits.LINE_START_S + 2.0
"""Five seconds by the agent's tick of one, and a busy machine."""
FEW = 64
"""Descriptors left to an agent; about a third are its own."""


class Crowd(threading.Thread):
    """Connections that say nothing, or a byte a second of a line that does not end: how long each one lived.

    Those that are closed at once, because there are too many, count as closed.
    """

    def __init__(self, path: Path, silent: int, dripping: int) -> None:
        super().__init__(daemon=True)
        self.lived: dict[str, list[float]] = {"silent": [], "dripping": []}
        self._path = str(path)
        self._counts = {"silent": silent, "dripping": dripping}
        self._over = threading.Event()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            left = 0
            for kind, count in self._counts.items():
                for _ in range(count):
                    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    one.connect(self._path)  # blocks while the queue is full
                    one.setblocking(False)
                    selector.register(one, selectors.EVENT_READ, (kind, time.monotonic()))
                    left += 1
            dripped = 0.0
            while left and not self._over.is_set():
                for key, _ in selector.select(0.2):
                    kind, since = key.data
                    selector.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    key.fileobj.close()
                    self.lived[kind].append(time.monotonic() - since)
                    left -= 1
                if time.monotonic() - dripped >= 1.0:
                    dripped = time.monotonic()
                    for key in selector.get_map().values():
                        if key.data[0] == "dripping":
                            with contextlib.suppress(OSError):
                                key.fileobj.send(b"x")  # type: ignore[union-attr]
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def finish(self) -> None:
        self._over.set()
        self.join(10)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A stand-in."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    """As many connections as the row wants; fewer are said."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


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
        crowd = Crowd(agent.socket, silent=idle, dripping=20)
        stack.callback(crowd.finish)
        crowd.start()
        honest = clients.Client(agent.socket, agent.spool, "honest", 1, short=0.5, pause=0.02, deadline=10.0)
        honest.start()
        wait_until(lambda: not crowd.is_alive(), 4 * CLOSED_S, f"{len(crowd.lived['silent'])} of {idle} closed")
        tally = honest.finish()
        say(f"row 20: {idle} silent, {FEW if few else 'enough'} descriptors: honest {judge.told(tally.took)}")
        lived = [1000 * s for kind in crowd.lived.values() for s in kind]
        say(f"row 20: closed after, {judge.told(lived)}")
        # With few descriptors the crowd waits in the backlog, not yet accepted: closed five seconds after that.
        judge.waits(lived, 1000 * CLOSED_S * (2 if few else 1))
        assert tally.refused == tally.late == 0
        assert len(tally.took) > 50
        judge.waits(tally.took, 1000 * CLOSED_S if few else judge.CLIENT_MS)
        begun.sendall(
            b'{"t":"end","v":2,"id":"7d444840-9dc0-11d1-b245-5ffdce74fad2","at":1,"ms":1,"request":'
            b'{"method":"GET","uri":"/"}}\n'
        )
        assert begun.recv(1) == b"+"
        begun.close()
        wait_until(lambda: agent.ledger()["pending"] == 0, 30, "everything delivered")
        judge.balanced(agent)
        judge.stored_once(tally, judge.whole(collector.items.values()))
