"""Who holds up whom, as trees. Pure.

A session may wait behind several at once: the holder of a lock, and all that are before it in the queue for it. Each
gets one parent, so that a pile-up of n sessions is n nodes and not n², and what it waits is charged to one root.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from bitville_apm.agent.postgres.sessions import Session

PREPARED = Session(
    pid=0, user="prepared transaction", database="", application="", client="", kind="", state="prepared",
    wait_class="", wait="", query_s=0.0, xact_s=0.0, state_s=0.0, text="",
)  # fmt: skip
"""Who holds up others without being a session: it stays until somebody commits or rolls it back."""


class Node(Struct, frozen=True):
    """A session in its tree: `depth` 0 is a root, `behind` counts all that wait behind it."""

    session: Session
    depth: int
    behind: int


class Forest(Struct, frozen=True):
    """`nodes` are roots, heaviest first, each followed by what is behind it; `root` leads from each that waits."""

    nodes: list[Node]
    root: dict[int, Session]


def parents(sessions: Mapping[int, Session]) -> dict[int, int]:
    """For each session that is held up, the one it is held up by.

    Of several the one that waits for nobody itself; of equals the one whose transaction is oldest.
    """
    found: dict[int, int] = {}
    for session in sessions.values():
        known = [pid for pid in session.blockers if (pid in sessions or not pid) and pid != session.pid]
        if known:
            found[session.pid] = min(known, key=lambda pid: _rank(sessions.get(pid, PREPARED)))
    for start in sorted(found):
        _cut_cycle(found, start)
    return found


def _rank(session: Session) -> tuple[bool, float, int]:
    return bool(session.blockers), -session.xact_s, session.pid


def _cut_cycle(parent: dict[int, int], start: int) -> None:
    """Sessions that wait for one another, before the server finds their deadlock: one of them becomes the root."""
    seen = [start]
    while (following := parent.get(seen[-1])) is not None:
        if following in seen:
            del parent[min(seen[seen.index(following) :])]
            return
        seen.append(following)


def forest(sessions: Mapping[int, Session]) -> Forest:
    """All trees of one look."""
    parent = parents(sessions)
    children: dict[int, list[int]] = {}
    for pid, above in parent.items():
        children.setdefault(above, []).append(pid)
    behind: dict[int, int] = {}

    def weigh(top: int) -> None:
        order, todo = [], [top]
        while todo:
            pid = todo.pop()
            order.append(pid)
            todo.extend(children.get(pid, ()))
        for pid in reversed(order):
            behind[pid] = sum(1 + behind[child] for child in children.get(pid, ()))

    tops = [pid for pid in children if pid not in parent]
    for top in tops:
        weigh(top)
    nodes: list[Node] = []
    root: dict[int, Session] = {}
    for top in sorted(tops, key=lambda pid: (-behind[pid], pid)):
        holder = sessions.get(top, PREPARED)
        todo = [(top, 0)]
        while todo:
            pid, depth = todo.pop()
            nodes.append(Node(sessions.get(pid, PREPARED), depth, behind[pid]))
            if depth:
                root[pid] = holder
            todo.extend((child, depth + 1) for child in sorted(children.get(pid, ()), key=lambda c: (behind[c], -c)))
    return Forest(nodes, root)
