"""P3: what one held connection costs the agent's listener, against an epoll server in C that does the same.

Each request: connect, a begin line, 20 ms, an end line of 6 KB, the answer, close; 64 at once. Neither side reads
what the lines say. Sides alternate; CPU seconds of the serving process, as the scheduler counts them.

    python benchmarks/p3_connections.py [--requests 4000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from twisted.internet.protocol import Factory

from benchmarks import peers
from bitville_apm.agent.connection import PhpConnection
from bitville_apm.agent.crowd import Crowd
from bitville_apm.agent.framing import Oversize

HELD = 64
HOLD_MS = 20.0
BYTES = 6 * 1024


class Answering:
    """Takes the place of `Lines`: answers each end at once."""

    def line(self, connection: PhpConnection, line: bytes | Oversize) -> None:
        """One line: what the C server does with it."""
        if isinstance(line, bytes) and line.startswith(b'{"t":"end"'):
            connection.settle(connection.owe(), b"+", "")

    def acks_read(self, ids: object) -> None:
        """Nothing to note."""

    def finished(self, connection: PhpConnection, mid_line: bool) -> None:
        """Nothing to note."""


def serve(path: str, endpoint: str) -> None:
    """The agent's listener, behind its own endpoint or Twisted's."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import UNIXServerEndpoint

    from bitville_apm.agent.streams import StreamEndpoint

    crowd = Crowd("php", reactor, lambda: 0)
    factory = Factory.forProtocol(partial(PhpConnection, Answering(), crowd))
    if endpoint == "twisted":
        UNIXServerEndpoint(reactor, path, backlog=1024).listen(factory)
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.setblocking(False)
        listening.listen(1024)
        StreamEndpoint(reactor, listening, crowd.make_room).listen(factory)
    reactor.run()


def main() -> None:
    """Measure, and print the figure last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", nargs=2)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with tempfile.TemporaryDirectory(prefix="bv") as name:
        directory = Path(name)
        program = peers.compiled(directory)
        begin, end = peers.begin_line(directory / "begin"), peers.end_line(directory / "end", BYTES)
        me = [sys.executable, os.path.abspath(__file__), "--serve"]
        sides = {side: directory / side for side in ("C", "agent", "twisted")}
        found: dict[str, list[float]] = {side: [] for side in sides}
        with (
            peers.running([program, "serve", str(sides["C"])], sides["C"]) as c,
            peers.running([*me, str(sides["agent"]), "agent"], sides["agent"]) as agent,
            peers.running([*me, str(sides["twisted"]), "twisted"], sides["twisted"]) as twisted,
        ):
            pids = {"C": c, "agent": agent, "twisted": twisted}
            for warm in range(-1, options.rounds):
                for side, path in sides.items():
                    before = peers.cpu_s(pids[side])
                    answered = peers.asked(program, path, HELD, options.requests, HOLD_MS, end, begin)
                    if answered != options.requests:
                        raise SystemExit(f"{side}: {answered} of {options.requests} answered")
                    if warm >= 0:
                        found[side].append((peers.cpu_s(pids[side]) - before) / options.requests * 1e6)
    print(peers.machine())
    held = f"{HELD} held at once for {HOLD_MS:.0f} ms"
    print(f"{options.rounds} rounds of {options.requests}; {held}; an end of {BYTES} bytes")
    print("CPU µs a request, median (least to most):")
    for side, figures in found.items():
        print(f"  {side:8} {peers.told(figures)}")
    ratios = {side: [a / b for a, b in zip(found["C"], found[side], strict=True)] for side in ("twisted", "agent")}
    print(f"behind UNIXServerEndpoint: {statistics.median(ratios['twisted']):.0%} of the C server")
    print(f"P3: {statistics.median(ratios['agent']):.0%} of the C server (goal 60 %)")


if __name__ == "__main__":
    main()
