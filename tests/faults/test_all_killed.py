"""Fault row 4: agent, collector and PHP workers killed at random, one or several at once, under pages and clients."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.agent.rig import wait_until
from tests.faults.test_php_client import pool, site
from tests.faults.tools import clients
from tests.faults.tools.clients import Tally
from tests.faults.tools.counts import Progress, chance, counts, say
from tests.faults.tools.kills import pair, spread
from tests.php.peer import Fpm, Site

__all__ = ["site"]

BETWEEN = (0.0, 0.7)
"""Seconds between two rounds: some are killed while they start."""
ENDPOINTS = 45
"""Of each client: three times this and the visitors' are fewer than the 200 the API tells."""
WORKERS = 4
SHORT = 0.7
CALM_S = 120.0
PAGE = "<?php usleep(random_int(0, 30000)); echo bitville_apm_correlation_id(), ' ', getmypid();"


class Visitor(threading.Thread):
    """Asks PHP for pages. Of one whose worker answered another one later it is certain that its record was handed over;
    of a worker's last one only where nobody killed it.
    """

    def __init__(self, server: Fpm, site: Site, inis: tuple[Path, Path], name: str, seed: int) -> None:
        super().__init__(daemon=True, name=name)
        self.asked = 0
        self.whole: dict[int, list[str]] = {}
        """Ids of whole records by worker, in order; "" for a page with a short one."""
        self._server, self._site, self._inis, self._chance = server, site, inis, random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            self.asked += 1
            with contextlib.suppress(OSError, AssertionError, ValueError, LookupError):  # its worker was killed
                self._visit(self._chance.random() < SHORT)

    def _visit(self, short: bool) -> None:
        page = {"SCRIPT_FILENAME": str(self._site.root / "page.php"), "BITVILLE_APM_INI": str(self._inis[not short])}
        answer = self._server.get(self._site, "", f"/{self.name}", **page)
        id_, pid = answer.body.decode().split()
        assert len(id_) == 36
        self.whole.setdefault(int(pid), []).append("" if short else id_)

    def finish(self) -> None:
        """No more visits."""
        self._over.set()
        self.join(30)
        assert not self.is_alive(), "a visitor hangs"


def tally_of(visitors: list[Visitor], killed: set[int]) -> Tally:
    """What is certain of the pages: which whole records must be stored, and how many pages may count."""
    tally = Tally()
    by_worker: dict[int, list[str]] = {}
    for visitor in visitors:
        for pid, ids in visitor.whole.items():
            by_worker.setdefault(pid, []).extend(ids[:-1] if pid in killed else ids)
        tally.unsure[f"GET /{visitor.name}"] += visitor.asked
    tally.whole = {id_ for ids in by_worker.values() for id_ in ids if id_}
    return tally


@pytest.mark.parametrize("rounds", counts("4 rounds"))
def test_everything_is_killed(tmp_path: Path, site: Site, rounds: int) -> None:
    """Row 4, I1, I2: SIGKILLs of agent, collector and PHP workers: every acked request is counted once, every whole
    record of a client or a page is stored once, and nobody is refused.
    """
    draw = chance(4)
    with pair(tmp_path) as both, pool(children=WORKERS) as server:
        agent, collector = both.agent, both.collector
        inis = _settings(site, agent.socket, agent.spool)
        senders = both.senders(3, draw)
        visitors = [Visitor(server, site, inis, f"visitor-{n}", draw.getrandbits(32)) for n in range(2)]
        for visitor in visitors:
            visitor.start()
        killed: set[int] = set()
        progress = Progress(4, rounds, "rounds")
        for n in range(1, rounds + 1):
            time.sleep(draw.uniform(*BETWEEN))
            whom = draw.sample(("agent", "collector", "php"), draw.choice((1, 1, 2, 3)))
            if "php" in whom:
                killed.add(_kill_worker(server, draw))
            if "collector" in whom:
                collector.kill()
                collector.spawn()
            if "agent" in whom:
                agent.kill()
                agent.spawn()
            if n % 10 == 0 or n == rounds:  # so that what recovery left is worked on too
                collector.wait()
                wait_until(agent.answers)
            spread(senders, n, rounds, ENDPOINTS)
            tallies = [sender.tally for sender in senders]
            progress.at(n, requests=sum(t.requests for t in tallies), pages=sum(v.asked for v in visitors))
        for visitor in visitors:
            visitor.finish()
        pages = tally_of(visitors, killed)
        assert len(pages.whole) > rounds / 5, "hardly a page was served"
        tally = clients.together(senders)
        tally.add(pages)
        verdict = both.judge(tally, CALM_S)
        say(
            f"row 4: {rounds} rounds, {len(killed)} workers killed; {tally.requests} requests for certain, of them"
            f" {len(pages.whole)} whole pages of {sum(pages.unsure.values())}; {verdict.lost} lost,"
            f" {verdict.doubled} doubled"
        )


def _settings(site: Site, socket: Path, spool: Path) -> tuple[Path, Path]:
    """The page, and two settings of the client: every record short, every record whole."""
    (site.root / "page.php").write_text(PAGE)
    paths = []
    for name, threshold in (("short.ini", 3_600_000), ("whole.ini", 0)):
        site.ini = site.root / name
        site.configure(profiling_threshold_ms=threshold, daemon_socket_path=socket, disk_buffer_path=spool)
        paths.append(site.ini)
    return paths[0], paths[1]


def _kill_worker(server: Fpm, draw: random.Random) -> int:
    """SIGKILL one of the pool's workers: its pid."""
    parent = server.process.pid
    children = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    if not children:
        return 0
    pid = draw.choice(children)
    os.kill(pid, signal.SIGKILL)
    return pid
