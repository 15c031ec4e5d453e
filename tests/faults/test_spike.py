"""Row 31: the spike itself, twenty times as many runnable processes as there are cores, and a disk that hangs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.faults.test_php_client import pool, site
from tests.faults.tools import disks, judge, spike
from tests.faults.tools.counts import counts, say
from tests.php.peer import Site

__all__ = ["site"]

WORKERS = 200
A_CORE = 20


@pytest.mark.parametrize("seconds", counts("31 seconds of spike"))
def test_a_spike(tmp_path: Path, site: Site, seconds: int) -> None:
    """Row 31, I1, I2: under 20 burners a core and 50 blocked writers every acked request is counted once and every
    whole one stored, nothing is spooled while acks arrive, and 95 % of the seconds are looked at.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(pool(children=WORKERS))
        other = stack.enter_context(disks.ext4(tmp_path / "other"))
        stack.enter_context(disks.frozen(other))
        burners = A_CORE * (os.cpu_count() or 1)
        found = spike.run(tmp_path / "a", site, server, burners, seconds, blocked=other)
    say(f"row 31: {burners} burners, {found.told()}; clients' acks {judge.told(found.clients.took)}")
    found.judge()
    assert found.made > 2 * seconds, "hardly a page was served"
    assert found.unconfirmed + found.spooled <= 0.01 * found.made
    assert found.looked >= 0.95
