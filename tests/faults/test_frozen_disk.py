"""Fault row 32: the disk below the agent's state hangs under traffic of real PHP workers."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.agent.rig import Agent, Collector, running, wait_until
from tests.faults.test_php_client import pool, site
from tests.faults.tools import disks, judge
from tests.faults.tools.counts import Progress, counts, say
from tests.php.peer import Site

__all__ = ["site"]

NOISE_PAGES = 60


@pytest.mark.parametrize("seconds", counts("32 seconds frozen"))
def test_a_frozen_disk(tmp_path: Path, site: Site, seconds: int) -> None:
    """Row 32, I1, I3, I5: while the state's disk hangs health answers, a page waits 55 ms at most, soon not at all;
    afterwards every record is stored once.

    One worker, so that a page also waits for what the client does after the page before it. The spool is elsewhere:
    no client can bound a write to a disk that hangs.
    """
    collector = Collector()
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        state = stack.enter_context(disks.ext4(tmp_path / "a" / "state"))
        agent = Agent(tmp_path / "a", collector.url, fsync="interval")
        spool = tmp_path / "spool"
        text = agent.config.read_text().replace("[limits]", f"spool = {spool}\n[limits]")
        agent.config.write_text(text.replace(f"{agent.directory}/alive", f"{agent.socket.parent}/alive"))
        stack.enter_context(running(agent))
        site.configure(profiling_threshold_ms=0, daemon_socket_path=agent.socket, disk_buffer_path=spool)
        server = stack.enter_context(pool(children=1))
        sent = site.root / "sent"
        code = f'file_put_contents({str(sent)!r}, bitville_apm_correlation_id() . "\\n", FILE_APPEND);'

        def page() -> float:
            began, waited = time.monotonic(), judge.run_delay()
            server.get(site, code)
            return (time.monotonic() - began) * 1000 - (judge.run_delay() - waited)

        noise = max(page() for _ in range(NOISE_PAGES))
        took: list[float] = []
        progress = Progress(32, seconds, "seconds frozen")
        watch = stack.enter_context(judge.Watch(agent))
        with disks.frozen(state):
            began = time.monotonic()
            while (passed := time.monotonic() - began) < seconds:
                took.append(page())
                progress.at(int(passed), pages=len(took))
                time.sleep(0.01)
        for _ in range(20):
            page()
        told = f"{judge.told(took)}; without a fault at most {noise:.1f} ms"
        say(f"row 32: pages {told}; health {judge.told(watch.took)}")
        watch.judge()
        judge.waits(took, judge.CLIENT_MS + noise)
        # The first three wait their 50 ms; then the heartbeat is old and nobody waits.
        assert sum(ms > 40 + noise for ms in took) <= 12 + seconds / 3, told
        ids = sent.read_text().split()
        assert len(ids) == len(set(ids)) == NOISE_PAGES + len(took) + 20
        wait_until(lambda: set(ids) <= collector.items.keys(), 60, "records are missing at the collector")
        wait_until(lambda: agent.ledger()["pending"] == 0)
        assert set(ids) == collector.items.keys()
        judge.balanced(agent)
