"""What one look at all tasks adds up to, by the name of their process. Pure."""

from __future__ import annotations

import attrs
from msgspec import Struct

from bitville_apm.agent.host.task import Group, Task


class Spent(Struct):
    """Nanoseconds on a CPU and runnable without one, seconds in uninterruptible sleep."""

    cpu_ns: int = 0
    queue_ns: int = 0
    blocked_s: float = 0.0

    @property
    def task_s(self) -> float:
        """All of it, in seconds."""
        return (self.cpu_ns + self.queue_ns) / 1e9 + self.blocked_s


class Stuck(Struct, frozen=True):
    """One task that is in uninterruptible sleep: since the last look for `seconds`."""

    task: Task
    seconds: float


@attrs.define(eq=False)
class Scan:
    """One look at everything, begun `at` (monotonic; `boottime` on that clock), `elapsed` seconds after the one before.

    `groups` are processes by name, `php` first threads of PHP's processes by their key, `helpers` the other threads
    of those. `children_ns` is what children had used that are gone, beyond what was seen of them, by the parent's name.
    """

    at: float
    boottime: float
    elapsed: float
    groups: dict[str, Spent] = attrs.Factory(dict)
    php: dict[Group, Spent] = attrs.Factory(dict)
    helpers: dict[Group, Spent] = attrs.Factory(dict)
    children_ns: dict[str, int] = attrs.Factory(dict)
    stuck: list[Stuck] = attrs.Factory(list)

    def spent(self, task: Task) -> Spent:
        """The sum that a task's time belongs to."""
        process = task.process
        if process.group is None:
            sums, key = self.groups, process.name
        else:
            sums, key = self.php if task is process.first else self.helpers, process.group
        found = sums.get(key)
        if found is None:
            found = sums[key] = Spent()
        return found

    def blocked(self, task: Task, seconds: float) -> None:
        """A task is in uninterruptible sleep, since the last look for so long."""
        self.spent(task).blocked_s += seconds
        self.stuck.append(Stuck(task, seconds))
