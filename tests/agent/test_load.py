"""The `load` of a frame: what becomes of a number said ten times in a window, and what sources tell."""

from __future__ import annotations

import msgspec

from bitville_apm import limits
from bitville_apm.agent.load import Load
from bitville_apm.agent.rollup import Rollup
from bitville_apm.cells import Columns
from bitville_apm.records import Frame

T = 1_700_000_000


def test_each_number_has_its_way() -> None:
    """Wire 6: bytes add, tasks are a mean by time, in flight is the most, the kernel's average the last."""
    load = Load()
    for n in (1, 3, 2):
        load.add({"disk": {"read_bytes": n, "busy_s": n / 10}, "died": 1})
        load.mean({"running": n}, seconds=n)
        load.most({"in_flight": n, "db": {"main": {"active": n}}})
        load.last({"load1": n / 4, "cores": 2, "swap": {"used_bytes": None}})
        load.pool("www", {"busy": n, "listen_queue": 5 - n})
    assert load.told() == {
        "disk": {"read_bytes": 6, "busy_s": 0.6},
        "died": 3,
        "running": round(14 / 6, 3),
        "in_flight": 3,
        "db": {"main": {"active": 3}},
        "load1": 0.5,
        "cores": 2,
        "pools": [{"name": "www", "busy": 3, "listen_queue": 4}],
    }


def test_places_where_tasks_were_blocked_are_few() -> None:
    """Wire 6: the ten heaviest are told, and a storm of names does not fill the memory."""
    load = Load()
    for n in range(1000):
        load.blocked_in(f"writer{n}", "io_schedule", None, 1.0 + n % 100)
    told = load.told()["blocked_in"]
    assert [place["seconds"] for place in told] == sorted((p["seconds"] for p in told), reverse=True)
    assert len(told) == limits.BLOCKED_SHOWN
    assert told[0] == {"name": "writer199", "wait_channel": "io_schedule", "cgroup": None, "seconds": 100.0}


def test_what_a_source_tells() -> None:
    """Wire 6: cells, links, seconds, load and losses of a source are in the frame of their window; late ones follow."""
    rollup = Rollup()
    rollup.cells(T + 1, T + 1, 0, {"wait": {"Lock:tuple": Columns(waiting_s=2.0)}, "blocker": {"a": Columns()}})
    rollup.link(T + 1, T + 1, 0, ("wait", "Lock:tuple", "blocker", "a"), 0, None, 1_500_000)
    rollup.second(T + 3.2, 0, {"db": 4.0})
    rollup.load(T + 3, 0).add({"died": 1})
    rollup.lost(T + 3, 0, looks=2)
    rollup.cells(T - 5, T + 4, 0, {"wait": {"CPU": Columns(cpu_us=7)}})
    epoch = rollup.due(T + 100, 100)
    assert epoch is not None
    late, frame = (msgspec.json.decode(part.body, type=Frame) for part in rollup.parts(epoch, str))
    assert (late.at, late.late, late.cells["wait"].columns) == (T - 10, True, {"cpu_us": [7]})
    assert frame.cells["wait"].columns == {"waiting_s": [2.0]}
    assert frame.links == [("wait", "Lock:tuple", "blocker", "a", 0, None, 1.5)]
    assert frame.seconds == {"db": [None, None, None, 4.0, *[None] * 6]}
    assert (frame.load, frame.lost) == ({"died": 1}, {"looks": 2})
