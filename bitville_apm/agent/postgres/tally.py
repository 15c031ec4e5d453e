"""What one look at a server's sessions adds to a frame (wire.md 6). Pure.

A session that is active and waits for nothing runs (`cpu_us`); one that waits for a disk is blocked (`blocked_s`);
any other wait is `waiting_s`. Each stands for the seconds since the look before.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from bitville_apm import limits
from bitville_apm.agent.postgres.locks import Forest
from bitville_apm.agent.postgres.names import named
from bitville_apm.agent.postgres.sessions import Session
from bitville_apm.cells import Columns, Tables, cell


@attrs.frozen
class Tally:
    """`active` and `waiting` count sessions; `links` are (statement, blocker) -> seconds."""

    active: int
    waiting: int
    tables: Tables
    links: dict[tuple[str, str], float]


def blocker_name(root: Session) -> str:
    """The value of the dimension `blocker`: `user@database pid: statement`."""
    statement = named(root.text)
    name = f"{root.told}: {statement.value}" if statement else root.told
    return name[: limits.NAME_CHARACTERS]


def tally(sessions: Mapping[int, Session], forest: Forest, seconds: float) -> Tally:
    """Add up one look that stands for so many seconds."""
    tables: Tables = {}
    links: dict[tuple[str, str], float] = {}
    active = waiting = 0
    blockers: dict[int, str] = {}
    for session in sessions.values():
        if not session.counted:
            continue
        active += 1
        waits = _add(cell(tables, "wait", session.waits_for), session, seconds)
        waiting += waits
        statement = named(session.text)
        if statement is not None:
            _add(cell(tables, "statement", statement.value), session, seconds)
        root = forest.root.get(session.pid) if session.blockers else None
        if root is None:
            continue
        if root.pid not in blockers:
            blockers[root.pid] = blocker_name(root)
        cell(tables, "blocker", blockers[root.pid]).waiting_s += seconds
        if statement is not None:
            key = statement.value, blockers[root.pid]
            links[key] = links.get(key, 0.0) + seconds
    return Tally(active, waiting, tables, links)


def _add(columns: Columns, session: Session, seconds: float) -> bool:
    """Add one session; whether it waits for somebody."""
    if not session.wait_class:
        columns.cpu_us += round(seconds * 1e6)
    elif session.wait_class == "IO":
        columns.blocked_s += seconds
    else:
        columns.waiting_s += seconds
        return True
    return False
