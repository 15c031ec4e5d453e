"""P11: a spike of 90 s explained against the hour before it, every dimension at its cap, by a process just started.

A store gets an hour of frames of one host that keep as many values as a frame may, then nine in which one endpoint,
its function and its statement rise. A new process opens the store, reads the frames through `IStore`, and makes the
report as the collector does, with requests to look at and earlier spikes; what it takes from opening on is told, in
wall time and in CPU time of all its threads. Python's own imports are told apart.

    python benchmarks/p11_explain.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

from twisted.internet import defer, task  # noqa: E402 - what importing takes is told, too

from bitville_apm import limits  # noqa: E402
from bitville_apm.clock import WallClock  # noqa: E402
from bitville_apm.collector.agents import Agents  # noqa: E402
from bitville_apm.collector.explainer import Asked, Explainer  # noqa: E402
from bitville_apm.garbage import Garbage  # noqa: E402
from bitville_apm.store.sqlite import SqliteStore  # noqa: E402
from tests.store.make import frame  # noqa: E402

IMPORTED = time.perf_counter()
TIMES = 5
BUSY = {"endpoint": "endpoint 7", "function": "function 7", "statement": "statement 7"}


def table(chance: random.Random, dimension: str, rise: float) -> dict[str, Any]:
    """One dimension at its cap, the last value the rest."""
    n = limits.DIMENSION_CAPS[dimension]
    values = [f"{dimension} {i}" for i in range(n - 1)] + ["~other"]
    columns: dict[str, list[Any]] = {
        name: [chance.randrange(most) for _ in values]
        for name, most in (("requests", 40), ("executions", 90), ("wall_us", 9**6), ("cpu_us", 20_000),
                           ("queue_us", 2000), ("sql_us", 40_000), ("max_us", 900_000), ("errors", 2))
    }  # fmt: skip
    for name in ("blocked_s", "waiting_s"):
        columns[name] = [chance.randrange(9) / 1000 for _ in values]
    if dimension in ("endpoint", "statement"):
        columns["histogram"] = [
            [[i, chance.randrange(1, 9)] for i in sorted(chance.sample(range(80, 150), 8))] for _ in values
        ]
    if rise and dimension in BUSY:
        row = values.index(BUSY[dimension])
        columns["cpu_us"][row] += int(rise * 1e7)
        columns["requests"][row] += int(rise * 50)
    return {"values": values, "columns": columns}


def frames(onset: float, end: float) -> Iterator[Any]:
    """An hour before a spike, and the spike."""
    chance = random.Random(11)
    at = onset - 3600
    while at < end:
        rise = 12.0 if at >= onset else 0.0
        cells = {dimension: table(chance, dimension, rise) for dimension in limits.DIMENSION_CAPS}
        links = [
            ["endpoint", f"endpoint {i % 199}", other, f"{other} {i % 199}", 3, 4, rise * 10 if i == 7 else 0.01]
            for other in ("function", "statement")
            for i in range(199)
        ]
        tasks = [2.0 + rise + chance.random() for _ in range(10)]
        load = {"running": 2.5 + rise, "blocked": 0.1, "cores": 8, "cpu": {"user_s": 20 + 10 * rise, "system_s": 2}}
        seconds = {"tasks": tasks, "in_flight": [5 + rise] * 10}
        yield frame(at, project="shop", cells=cells, links=links, seconds=seconds, load=load)
        at += 10


async def made(reactor: Any, directory: Path, onset: float) -> None:
    """Fill a store."""
    store = SqliteStore.open(directory, WallClock(reactor))
    for arrival in frames(onset, onset + 90):
        await store.write([arrival])
    await store.close()


async def asked(reactor: Any, directory: Path, onset: float) -> None:
    """Explain, in this process."""
    began, spent = time.perf_counter(), time.process_time()
    clock: Any = WallClock(reactor)
    store = SqliteStore.open(directory, clock)
    opened = time.perf_counter()
    explainer = Explainer(store, Agents(), clock)
    Garbage().start()  # as a collector does
    try:
        report = await explainer.report(Asked("shop", onset - 1, onset + 90, hosts=["web1"]))
    except BaseException:
        await store.close()
        raise
    ended, spent = time.perf_counter(), time.process_time() - spent
    first = report.causes[0].value if report.causes else None
    told = {
        "imports_ms": 1000 * (IMPORTED - BEGAN), "open_ms": 1000 * (opened - began),
        "explain_ms": 1000 * (ended - opened),
        "cpu_ms": 1000 * spent,
        "first": first, "frames": report.quality.frames + report.quality.baseline_frames,
    }  # fmt: skip
    print(json.dumps(told))
    await store.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--onset", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()

    def run(work: Coroutine[Any, Any, None]) -> Any:
        return defer.Deferred.fromCoroutine(work)

    if given.ask:
        task.react(lambda reactor: run(asked(reactor, given.ask, given.onset)))
    onset = time.time() // 10 * 10 - 200
    with tempfile.TemporaryDirectory() as directory:
        try:
            task.react(lambda reactor: run(made(reactor, Path(directory), onset)))
        except SystemExit as done:
            if done.code:
                raise
        command = [sys.executable, __file__, "--ask", directory, "--onset", str(onset)]
        found = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(TIMES)]
    assert all(one["first"] in BUSY.values() for one in found), found
    print(f"{found[0]['frames']} frames, {sum(limits.DIMENSION_CAPS.values())} values each, {TIMES} processes")
    for name in ("imports_ms", "open_ms", "explain_ms", "cpu_ms"):
        values = [one[name] for one in found]
        print(f"{name[:-3]:>8}: {statistics.median(values):.0f} ms (least {min(values):.0f}, most {max(values):.0f})")
    print(f"P11: {statistics.median(one['open_ms'] + one['explain_ms'] for one in found):.0f} ms; goal 500")


if __name__ == "__main__":
    main()
