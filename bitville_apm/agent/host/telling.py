"""What one look at the host says into the frames of one pipeline."""

from __future__ import annotations

from collections.abc import Mapping

from bitville_apm.agent.host.host import HostSeen
from bitville_apm.agent.host.scan import Spent
from bitville_apm.agent.listener import PhpSource
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.rollup import PHP_OUTSIDE
from bitville_apm.cells import Columns, Tables

OTHER_PHP = "php (other project)"


def tell(pipeline: Pipeline, now: float, seen: HostSeen) -> None:
    """Processes by name as cells, `seconds.tasks` and `load`. `now` is unix seconds.

    PHP of this pipeline's requests is in its endpoints already, but for the other threads of such a process; PHP of
    other pipelines is somebody else's, and has one name here.
    """
    processes = cells(seen.processes)
    tables: Tables = {"process": processes}
    for sums in (seen.php, seen.helpers):
        for source, spent in sums.items():
            assert isinstance(source, PhpSource)  # noqa: S101 - the keys are those of the looks
            if source.pipeline is not pipeline:
                processes.setdefault(OTHER_PHP, Columns()).add(_columns(spent))
            elif sums is seen.helpers:
                tables.setdefault("endpoint", {}).setdefault(PHP_OUTSIDE, Columns()).add(_columns(spent))
    sealing = pipeline.sealing
    sealing.cells(now, tables)
    sealing.second(now, tasks=seen.running + seen.blocked)
    load = sealing.load(now)
    load.add(seen.numbers.add)
    load.mean({"running": seen.running, "blocked": seen.blocked, **seen.numbers.mean}, seen.elapsed)
    load.last(seen.numbers.last)
    for (name, channel, cgroup), seconds in seen.stuck.items():
        load.blocked_in(name, channel, cgroup, seconds)


def cells(processes: Mapping[str, Spent]) -> dict[str, Columns]:
    """Processes as a frame has them."""
    return {name: _columns(spent) for name, spent in processes.items()}


def _columns(spent: Spent) -> Columns:
    return Columns(cpu_us=spent.cpu_ns // 1000, queue_us=spent.queue_ns // 1000, blocked_s=spent.blocked_s)
