"""A real agent on a machine with twenty burners a core: names, seconds, and how much of the load has a name."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.host.rig import BURN, named, schedstat
from tests.agent.rig import Agent, Collector, running, wait_until
from tests.faults.tools import cgroups, disks
from tests.faults.tools.counts import say
from tests.faults.tools.spike import AGENT_WEIGHT
from tests.tools import lacking

SECONDS = 30


def column(frame: dict[str, Any], dimension: str, name: str) -> dict[str, float]:
    """One column of a frame, by value."""
    table = frame["cells"].get(dimension, {"values": [], "columns": {}})
    return dict(zip(table["values"], table["columns"].get(name) or [0] * len(table["values"]), strict=True))


@pytest.mark.full
def test_twenty_burners_a_core(tmp_path: Path) -> None:
    """PG-04, wire 6: beside a writer on a frozen disk, burners have their seconds on a CPU and waiting for one within
    10 % of the kernel's own accounting, the writer is blocked all the time; what has a name is 90 % of all tasks that
    ran or were blocked; each second was looked at, and a frame stays small.
    """
    collector = Collector()
    work = (
        "import os, sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nsys.stdin.readline()\n"
        "while True: open('x', 'w').write('x' * 100)"
    )
    with contextlib.ExitStack() as stack:
        stack.callback(collector.close)
        mounted = stack.enter_context(disks.ext4(tmp_path / "disk", 32))
        writer = stack.enter_context(named("bv-writer", work, tmp_path, str(mounted)))
        agent = Agent(tmp_path / "a", collector.url)
        stack.enter_context(running(agent))
        assert agent.process is not None
        try:
            group = stack.enter_context(cgroups.group("cpu"))
            group.weigh(AGENT_WEIGHT)
            group.add(agent.process.pid)
        except OSError as error:
            lacking(f"a weight of its unit's: {error}")
        count = 20 * (os.cpu_count() or 1)
        burners = [stack.enter_context(named("bv-burner", BURN, tmp_path)) for _ in range(count)]
        stack.enter_context(disks.frozen(mounted))
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
        time.sleep(12 - time.time() % 10)  # a window begins
        before, began = [schedstat(p.pid) for p in burners], time.time()
        time.sleep(SECONDS - 1)
        after, ended = [schedstat(p.pid) for p in burners], time.time()
        host = agent.health()["stats"]["sources"]["host"]
        subprocess.run(["kill", "-9", *(str(p.pid) for p in burners)], check=True)
        wait_until(lambda: agent.ledger()["pending"] == 0, 60)
        assert agent.stop(60) == 0
    first = int(began // 10 + 1) * 10
    frames = [f["body"] for f in collector.frames.values() if first <= f["body"]["at"] < int(ended // 10) * 10]
    windows = sorted({frame["at"] for frame in frames})
    span = len(windows) * 10 / (ended - began)
    true_cpu = sum(b[0] - a[0] for a, b in zip(before, after, strict=True)) * span
    true_queue = sum(b[1] - a[1] for a, b in zip(before, after, strict=True)) * span
    cpu = sum(column(f, "process", "cpu_us").get("bv-burner", 0) for f in frames) / 1e6
    queue = sum(column(f, "process", "queue_us").get("bv-burner", 0) for f in frames) / 1e6
    blocked = sum(column(f, "process", "blocked_s").get("bv-writer", 0) for f in frames)
    whole = named_s = 0.0
    for frame in frames:
        whole += (frame["load"].get("running", 0) + frame["load"].get("blocked", 0)) * frame["secs"]
        for dimension in ("process", "endpoint"):
            for name in column(frame, dimension, "cpu_us"):
                if not name.startswith("~"):
                    named_s += column(frame, dimension, "cpu_us")[name] / 1e6
                    named_s += column(frame, dimension, "queue_us")[name] / 1e6
                    named_s += column(frame, dimension, "blocked_s")[name]
    looked = sum(x is not None for frame in frames for x in frame["seconds"]["tasks"])
    size = max(len(json.dumps(frame, separators=(",", ":"))) for frame in frames)
    places = {(p["name"], p["wait_channel"]) for f in frames for p in f["load"].get("blocked_in", [])}
    say(
        f"{count} burners: cpu {cpu:.1f} s of {true_cpu:.1f}, queue {queue:.0f} s of {true_queue:.0f}; writer blocked "
        f"{blocked:.1f} s of {len(windows) * 10}; named {named_s / whole:.1%} of {whole:.0f} task-seconds; {looked} of "
        f"{len(windows) * 10} seconds looked at; a look {host['look_ms']} ms; a frame at most {size} bytes; {places}"
    )
    assert len(windows) >= 2
    assert abs(cpu - true_cpu) <= 0.1 * true_cpu
    assert abs(cpu + queue - true_cpu - true_queue) <= 0.1 * (true_cpu + true_queue)
    assert 0.9 <= blocked / (10 * len(windows)) <= 1.1
    assert named_s >= 0.9 * whole
    assert looked >= 0.9 * len(windows) * 10
    assert any(name == "bv-writer" and channel for name, channel in places)
    assert size < 20_000
