"""Ten seconds of one host and project while they are being added up (wire.md 6). Pure: no clock, no I/O.

Whatever is folded here, in whatever order and however often values are put together, the sums over a dimension
stay what came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from bitville_apm import cells, limits
from bitville_apm.agent.links import Links
from bitville_apm.agent.lived import Lived
from bitville_apm.agent.load import Load
from bitville_apm.cells import NOT_LOOKED, OTHER, Columns, Looked, Tables, cell
from bitville_apm.profile import Own
from bitville_apm.requests import Request, network


def window_of(at: float) -> int:
    """The beginning of the window that a time lies in, unix seconds."""
    return int(at // limits.WINDOW_S) * limits.WINDOW_S


@attrs.define(eq=False)
class Window:
    """`at` is its beginning. `looked` is what looks saw of begun requests, added when their names are known best.

    `secs` is the time really looked at, `seconds` one number a second (None where nobody looked), `load` and `lost`
    as in the frame.
    """

    at: int
    tables: Tables = attrs.Factory(dict)
    links: Links = attrs.Factory(Links)
    looked: dict[str, tuple[Lived, Looked]] = attrs.Factory(dict)
    secs: float = 0.0
    seconds: dict[str, list[float | None]] = attrs.Factory(dict)
    load: Load = attrs.Factory(Load)
    lost: dict[str, float] = attrs.Factory(dict)
    _wall_us: int = 0
    _task_us: int = 0

    @property
    def requests(self) -> int:
        """How many requests it counts."""
        return sum(columns.requests for columns in self.tables.get("endpoint", {}).values())

    def add(self, request: Request, functions: Sequence[Own], looked: Looked = NOT_LOOKED) -> None:
        """A finished request (`cells.add_request`)."""
        cells.add_request(self.tables, request, functions, looked)
        us = round(request.ms * 1000)
        cpu = max(0, (request.cpu_us or 0) - looked.cpu_us)
        queue = max(0, (request.queue_us or 0) - looked.queue_us)
        self.links.add(request, network(request.client), cpu + queue)
        if looked is NOT_LOOKED:
            self.links.functions(request.endpoint, functions, cpu + queue, ended=True)
        self._wall_us += us
        self._task_us += cpu + queue
        # What is below its share of the part of the window so far is below it in the end, too.
        heavy = us >= limits.REQUEST_SHARE * self._wall_us or cpu + queue >= limits.REQUEST_SHARE * self._task_us
        held = cell(self.tables, "request", request.id if heavy or looked is not NOT_LOOKED else OTHER)
        held.requests += 1
        held.wall_us += us
        held.cpu_us += cpu
        held.queue_us += queue
        held.sql_us += round(request.sql_ms * 1000)
        held.errors += request.failed
        held.max_us = max(held.max_us, us)
        self.bound()

    def functions(self, endpoint: str, functions: Sequence[Own], spent: Looked, ended: bool) -> None:
        """The functions of a request that lived through several windows, and what it spent in this one."""
        cells.add_functions(self.tables, functions, spent, ended)
        task_us = spent.cpu_us + spent.queue_us + round(spent.blocked_s * 1e6)
        self.links.functions(endpoint, functions, task_us, ended)
        self.bound()

    def merge(self, tables: Tables) -> None:
        """Add cells that were made elsewhere."""
        for dimension, table in tables.items():
            for value, columns in table.items():
                cell(self.tables, dimension, value).add(columns)
        self.bound()

    def look(self, lived: Lived, part: Looked) -> None:
        """What one look saw of a begun request."""
        held = self.looked.get(lived.id)
        if held is None:
            held = self.looked[lived.id] = (lived, Looked())
        lived.looked(self.at, held[1], part)

    def second(self, now: float, numbers: Mapping[str, float]) -> None:
        """What one look counted, under the second it was in."""
        for name, number in numbers.items():
            held = self.seconds.setdefault(name, [None] * limits.WINDOW_S)
            held[int(now) - self.at] = round(number, 3)

    def flush(self) -> None:
        """Add what looks saw, under the names that are known now."""
        looked, self.looked = self.looked, {}
        for lived, part in looked.values():
            task_us = part.cpu_us + part.queue_us + round(part.blocked_s * 1e6)
            self._task_us += task_us
            for dimension, value in lived.names:
                cells.add_looked(cell(self.tables, dimension, value), part)
                if dimension in ("client", "release"):
                    self.links.look(dimension, value, lived.endpoint, task_us)
        self.bound()

    def bound(self) -> None:
        """Put the lighter half of a dimension that holds too many values into `~other`."""
        for table in self.tables.values():
            if len(table) > limits.VALUES_HELD:
                fold(table, ranked(table)[limits.VALUES_HELD // 2 :])
        self.links.bound()


def fold(table: dict[str, Columns], values: Iterable[str]) -> None:
    """Put values into `~other`."""
    other = table.setdefault(OTHER, Columns())
    for value in values:
        other.add(table.pop(value))


def shares(table: dict[str, Columns]) -> dict[str, float]:
    """What each value but `~other` has of all: its largest share of task-seconds, wall, CPU or waiting."""
    task = wall = cpu = waiting = 0.0
    for c in table.values():
        task += c.cpu_us + c.queue_us + c.blocked_s * 1e6
        wall += c.wall_us
        cpu += c.cpu_us
        waiting += c.waiting_s
    task, wall, cpu, waiting = task or 1.0, wall or 1.0, cpu or 1.0, waiting or 1.0
    return {
        value: max(
            (c.cpu_us + c.queue_us + c.blocked_s * 1e6) / task, c.wall_us / wall, c.cpu_us / cpu, c.waiting_s / waiting
        )
        for value, c in table.items()
        if value != OTHER
    }


def ranked(table: dict[str, Columns]) -> list[str]:
    """Values but `~other`, heaviest first; of equals the one with more requests, then by name."""
    share = shares(table)
    return sorted(share, key=lambda value: (-share[value], -table[value].requests, value))
