"""Row 31 and P17: many more runnable processes than cores, with real PHP workers and honest clients among them.

The agent has the weight that its unit ships with, in a group of its own. So have the visitors, the collector's
stand-in and the judge, which on a real site are other machines. All others, burners and PHP alike, are single
processes of weight 100 beside these two groups, which is harder than services of which each is one group. A kernel
that has no weights for us: nobody has one, and `Outcome.weighted` says so.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.agent.rig import Agent, Collector, running, wait_until
from tests.faults.tools import cgroups, judge
from tests.faults.tools.clients import Client, Tally, together
from tests.php.peer import Fpm, Site

AGENT_WEIGHT = 1000
"""CPUWeight of etc/bitville-apm-daemon.service."""
VISITORS = 24
CLIENTS = 4
SHORT = 0.9
CALM_S = 120.0
"""How long what is left over may take once the load is gone."""

# Children of one process, which ends them all with itself: its standard input closes when the check ends, however.
HERD = """
import os, signal, sys
def burn():
    while True: pass
def write():
    open(sys.argv[3] + "/" + str(os.getpid()), "w").write("x")
    signal.pause()
for _ in range(int(sys.argv[2])):
    if not os.fork(): {"burn": burn, "write": write}[sys.argv[1]]()
print(flush=True)
sys.stdin.read()
os.killpg(0, signal.SIGKILL)
"""

PAGE = """<?php
function work($ms) { $until = hrtime(true) + $ms * 1e6; while (hrtime(true) < $until) md5('x'); }
work(2);
echo bitville_apm_correlation_id();
"""


@contextlib.contextmanager
def herd(what: str, count: int, directory: Path | None = None) -> Iterator[None]:
    """So many processes that `burn` a CPU, or `write` into a directory."""
    command = [sys.executable, "-S", "-c", HERD, what, str(count), str(directory or "")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


class Visitor(threading.Thread):
    """Asks real PHP for one page after another, each endpoint its own; `tally` may be read at the end.

    Which short pages were acked only the workers know: all are `unsure` here, and the ledger's `unconfirmed` bounds
    how many may be missing.
    """

    def __init__(self, server: Fpm, site: Site, inis: tuple[Path, Path], name: str, pause: float) -> None:
        super().__init__(daemon=True, name=name)
        self.tally = Tally()
        self.failed: list[str] = []
        self._server, self._site, self._pause = server, site, pause
        self._short, self._whole = inis
        self._over = threading.Event()

    def run(self) -> None:
        chance = random.Random(self.name)
        while not self._over.wait(chance.uniform(0.5, 1.5) * self._pause):
            try:
                self._visit(chance.random() < SHORT)
            except (OSError, AssertionError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")

    def _visit(self, short: bool) -> None:
        page = {"SCRIPT_FILENAME": str(self._site.root / "page.php")}
        page["BITVILLE_APM_INI"] = str(self._short if short else self._whole)
        answer = self._server.get(self._site, "", f"/{self.name}", **page)
        id_ = answer.body.decode()
        assert (answer.status, len(id_)) == (200, 36), (answer.status, id_, answer.errors)
        if short:
            self.tally.unsure[f"GET /{self.name}"] += 1
        else:
            self.tally.whole.add(id_)
            self.tally.whole_at[f"GET /{self.name}"] += 1

    def end(self) -> None:
        """No more visits after this one."""
        self._over.set()


@attrs.frozen
class Outcome:
    """What a spike left behind. `clients` and `pages` are the senders' tallies, `counted` requests by endpoint in
    frames, `stored` the ids of whole records, `unconfirmed` and `spooled` what the PHP workers left in the spool
    (sent and not acked; records), `looks` and `seconds` how many of how many seconds were looked at, `error` the
    ledger's, `failed` pages without an answer.
    """

    clients: Tally
    pages: Tally
    counted: dict[str, int]
    stored: list[str]
    unconfirmed: int
    spooled: int
    looks: int
    seconds: int
    error: int
    failed: list[str]
    weighted: bool
    load1: float

    @property
    def made(self) -> int:
        """Pages of real PHP."""
        return len(self.pages.whole) + self.pages.unsure.total()

    @property
    def tally(self) -> Tally:
        """Everybody's."""
        both = Tally()
        both.add(self.clients)
        both.add(self.pages)
        return both

    @property
    def missing(self) -> int:
        """Requests that were made and are in no cell: none but unconfirmed ones may be."""
        tally = self.tally
        return tally.requests + tally.unsure.total() - sum(self.counted.values())

    @property
    def looked(self) -> float:
        """Which share of the seconds was looked at."""
        return self.looks / self.seconds

    def told(self) -> str:
        """The figures in words."""
        return (
            f"load {self.load1:.0f}: {self.made} pages ({len(self.pages.whole)} whole), "
            f"{self.clients.requests} requests of other clients; {self.missing} not counted, "
            f"{self.unconfirmed} pages unconfirmed, {self.spooled} spooled; "
            f"{self.looks} of {self.seconds} seconds looked at"
        )

    def judge(self) -> None:
        """I1, I2, at any load."""
        assert not self.failed, f"{len(self.failed)} pages failed, such as {self.failed[:3]}"
        judge.stored_once(self.tally, self.stored)
        judge.counted_once(self.tally, self.counted)
        unsure = self.unconfirmed + self.clients.unsure.total()
        assert self.missing <= unsure, f"{self.missing} in no cell, {unsure} unconfirmed"
        assert self.error == 0, f"ledger error {self.error}"


def run(directory: Path, site: Site, server: Fpm, burners: int, seconds: float, blocked: Path | None = None) -> Outcome:
    """Load the host with that many burners (and 50 writers into a frozen directory) for so long, then let it calm."""
    collector = Collector()
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        agent = stack.enter_context(running(Agent(directory, collector.url, fsync="interval")))
        inis = _settings(site, agent)
        with contextlib.ExitStack() as load:
            load.enter_context(herd("burn", burners))
            if blocked is not None:
                load.enter_context(herd("write", 50, blocked))
            assert agent.process is not None
            weighted = _weighted(stack, agent.process.pid, os.getpid())
            visitors = [Visitor(server, site, inis, f"visitor-{n}", 0.5) for n in range(VISITORS)]
            clients = [
                Client(agent.socket, agent.spool, f"client-{n}", n, short=SHORT, pause=0.1) for n in range(CLIENTS)
            ]
            began = time.time()
            for one in (*visitors, *clients):
                one.start()
            time.sleep(seconds)
            ended, load1 = time.time(), os.getloadavg()[0]
            for visitor in visitors:
                visitor.end()
            for visitor in visitors:
                visitor.join(CALM_S)
            tally = together(clients)
        pages = Tally()
        for visitor in visitors:
            pages.add(visitor.tally)
        wait_until(lambda: not _spooled(agent.spool), CALM_S, "the spool is not imported")
        wait_until(lambda: agent.ledger()["pending"] == 0, CALM_S, "records are pending")
        source = agent.health()["stats"]["sources"]["php"]
        ledger = agent.ledger()
        assert agent.stop() == 0
        frames = [frame["body"] for frame in collector.frames.values()]
        looked = {
            frame["at"] + n
            for frame in frames
            for n, value in enumerate(frame["seconds"].get("in_flight", []))
            if value is not None
        }
        due = range(math.ceil(began), math.floor(ended))
        return Outcome(
            clients=tally,
            pages=pages,
            counted=dict(judge.counted([*collector.items.values(), *collector.frames.values()])),
            stored=judge.whole(collector.items.values()),
            unconfirmed=ledger["unconfirmed"] - tally.unsure.total(),
            spooled=source["spool"]["imported"] - ledger["unconfirmed"] - tally.spooled,
            looks=len(looked & set(due)),
            seconds=len(due),
            error=judge.ledger_error(ledger),
            failed=[line for visitor in visitors for line in visitor.failed],
            weighted=weighted,
            load1=load1,
        )


def _settings(site: Site, agent: Agent) -> tuple[Path, Path]:
    """Two settings of the client: every record short, every record whole. The page that is visited, too."""
    (site.root / "page.php").write_text(PAGE)
    paths = []
    for name, threshold in (("short.ini", 3_600_000), ("whole.ini", 0)):
        site.ini = site.root / name
        site.configure(profiling_threshold_ms=threshold, daemon_socket_path=agent.socket, disk_buffer_path=agent.spool)
        paths.append(site.ini)
    return paths[0], paths[1]


def _weighted(stack: contextlib.ExitStack, *pids: int) -> bool:
    """Give each of these processes the agent's weight in a group of its own, if the kernel lets us."""
    with contextlib.suppress(OSError):
        for pid in pids:
            one = stack.enter_context(cgroups.group("cpu"))
            one.weigh(AGENT_WEIGHT)
            one.add(pid)
        return True
    return False


def _spooled(spool: Path) -> list[str]:
    return [name for name in os.listdir(spool) if name.startswith(("profile_", "short_"))]
