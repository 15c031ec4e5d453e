"""Which values are one story: client → endpoint → function → statement → blocker, joined by links. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bitville_apm import limits
from bitville_apm.analysis import rules
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.score import Scored
from bitville_apm.analysis.stretch import Stretch

CHAIN = (
    "memory", "pool", "client", "agent", "release", "process", "endpoint", "request", "function", "external",
    "statement", "blocker",
)  # fmt: skip
"""The order in which a story is told."""

_LINKED = {
    ("client", "endpoint"),
    ("release", "endpoint"),
    ("endpoint", "function"),
    ("endpoint", "statement"),
    ("statement", "blocker"),
}
_ALIKE = {frozenset(pair) for pair in (
    ("request", "endpoint"), ("request", "function"), ("request", "client"), ("agent", "client"),
    ("agent", "endpoint"), ("request", "agent"), ("external", "endpoint"), ("external", "function"),
    ("function", "statement"), ("function", "client"), ("agent", "function"), ("request", "statement"),
)}  # fmt: skip
"""Dimensions that no link joins: values of them that rose by the same, in the same windows, are one thing."""


@attrs.define(eq=False)
class Story:
    """Values that rose together, the best first; `beside` are more values of dimensions that it has already."""

    members: list[Scored]
    beside: list[Scored] = attrs.Factory(list)

    @property
    def head(self) -> Scored:
        """The value that explains it best."""
        return self.members[0]

    def has(self, dimension: str) -> Scored | None:
        """Its value of a dimension."""
        return next((m for m in self.members if m.dimension == dimension), None)

    def chain(self) -> list[Scored]:
        """Its values in the order in which they are told."""
        return sorted(self.members, key=lambda m: CHAIN.index(m.dimension) if m.dimension in CHAIN else len(CHAIN))


def told(scored: Sequence[Scored], evidence: Sequence[Evidence]) -> list[Story]:
    """Stories of some values, given best first."""
    stories: list[Story] = []
    for value in scored:
        for story in stories:
            if any(joined(member, value, evidence) for member in story.members):
                if story.has(value.dimension) is None:
                    story.members.append(value)
                else:
                    story.beside.append(value)
                break
        else:
            stories.append(Story([value]))
    return stories


def shared(story: Story, others: Sequence[Story], evidence: Sequence[Evidence], rise: float) -> float:
    """The share of a rise that a story has in common with others, as far as links say: a crawler reads many pages."""
    common = 0.0
    for other in others:
        found = [_risen(a, b, one) for one in evidence for a in story.members for b in other.members]
        common += max(found, default=0.0)
    return common / rise if rise > 0 else 0.0


def _risen(a: Scored, b: Scored, evidence: Evidence) -> float:
    """What the link of two values rose by, task-seconds a second; 0 without one."""
    if (b.dimension, a.dimension) in _LINKED or b.dimension in rules.ASKING:
        a, b = b, a
    if a.dimension in rules.ASKING and b.dimension == "statement":
        return _asked_for(a, b, evidence)
    if a.dimension == "agent" and b.dimension in ("endpoint", "function", "release"):
        return a.rise * b.share  # no link says: as much of it as of all
    key = (a.dimension, a.value, b.dimension, b.value)
    if (a.dimension, b.dimension) not in _LINKED or b.dimension in ("statement", "blocker"):
        return 0.0
    spike, base = evidence.spike, evidence.base
    now, before = spike.links.get(key, [0.0, 0.0, 0.0]), base.links.get(key, [0.0, 0.0, 0.0])
    # Links tell of running tasks, levels of what was consumed: in a crowd only a part of the former.
    row = spike.row(b.dimension, b.value)
    part = min(1.0, (row.cpu_us / 1e6 + row.blocked_s) / row.task_s) if row.task_s > 0 else 1.0
    return max(0.0, spike.rate(now[2]) * part - base.rate(before[2]))


def _asked_for(client: Scored, statement: Scored, evidence: Evidence) -> float:
    """What a client has of a statement's rise: no link says, so as much as of all waiting for statements."""
    spike, base = evidence.spike, evidence.base
    mine = spike.rate(spike.row(client.dimension, client.value).sql_us) - base.rate(
        base.row(client.dimension, client.value).sql_us
    )
    whole = [s.sums["endpoint"].sql_us if "endpoint" in s.sums else 0.0 for s in (spike, base)]
    more = spike.rate(whole[0]) - base.rate(whole[1])
    return statement.rise * min(1.0, max(0.0, mine / more)) if more > 0 else 0.0


def joined(a: Scored, b: Scored, evidence: Sequence[Evidence]) -> bool:
    """Whether two values are one story."""
    if (b.dimension, a.dimension) in _LINKED:
        a, b = b, a
    if (a.dimension, b.dimension) in _LINKED:
        return any(_common(a, b, one) >= limits.STORY_LINK for one in evidence)
    if frozenset((a.dimension, b.dimension)) in _ALIKE:
        small, large = sorted((a.rise, b.rise))
        alike = large > 0 and small / large >= limits.STORY_LINK
        # Calls to other hosts are told when a request ends, however long it has waited.
        return alike and ("external" in (a.dimension, b.dimension) or any(_together(a, b, one) for one in evidence))
    return False


def _common(a: Scored, b: Scored, evidence: Evidence) -> float:
    """The part of the smaller that two linked values have in common (0..1).

    By the time that links tell, of which nothing is told by executions or requests; by what both rose by since before,
    or where that is little by what they have now.
    """
    spike, base = evidence.spike, evidence.base
    key = (a.dimension, a.value, b.dimension, b.value)
    now = spike.links.get(key)
    if now is None:
        return 0.0
    before = base.links.get(key, [0.0, 0.0, 0.0])
    for column in (2, 1, 0):
        sizes = [_size(spike, base, value, column, b.dimension) for value in (a, b)]
        if now[column] <= 0 or any(after <= 0 for _, after in sizes):
            continue
        link = spike.rate(now[column])
        if all(after - usual >= _RISEN * after for usual, after in sizes):
            return min(1.0, max(0.0, link - base.rate(before[column])) / min(after - usual for usual, after in sizes))
        return min(1.0, link / min(after for _, after in sizes))
    return 0.0


_RISEN = 0.3
"""From this share of what a value has now its rise is told from its noise."""


def _size(spike: Stretch, base: Stretch, value: Scored, column: int, linked_to: str) -> tuple[float, float]:
    """What a value had a second before, and has now, in the unit of a link's column."""
    rows = base.row(value.dimension, value.value), spike.row(value.dimension, value.value)
    if column == 0:
        amounts = [row.requests for row in rows]
    elif column == 1:
        amounts = [row.executions or 0.0 for row in rows]
    elif linked_to == "statement":
        amounts = [row.sql_us / 1e6 for row in rows]
    elif linked_to == "blocker":
        amounts = [row.waiting_s for row in rows]
    else:
        amounts = [row.task_s for row in rows]
    return base.rate(amounts[0]), spike.rate(amounts[1])


def _together(a: Scored, b: Scored, evidence: Evidence) -> bool:
    """Whether two values had their worst in the same windows: their levels differ by less than a third in all."""
    one, two = evidence.spike.row(a.dimension, a.value), evidence.spike.row(b.dimension, b.value)
    for x, y in ((one.consumed, two.consumed), (one.flight, two.flight)):
        if x and y and max(x) > 0 and max(y) > 0:
            apart = sum(abs(p - q) for p, q in zip(x, y, strict=True))
            if apart <= (1 - limits.STORY_LINK) * max(sum(x), sum(y)):
                return True
    return False
