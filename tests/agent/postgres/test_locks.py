"""Lock trees of any sessions that wait for one another, and what they add to a frame."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.agent.postgres.locks import PREPARED, forest
from bitville_apm.agent.postgres.observations import tree_json
from bitville_apm.agent.postgres.sessions import Session
from bitville_apm.agent.postgres.tally import tally


def session(pid: int, *blockers: int, **more: Any) -> Session:
    waits = {"wait_class": "Lock", "wait": "tuple"} if blockers else {}
    usual = {"user": "shop", "database": "shop", "state": "active", "kind": "client backend"}
    text = f"update t set a = {pid}"
    return msgspec.structs.replace(PREPARED, pid=pid, text=text, blockers=blockers, **{**usual, **waits, **more})


def by_pid(*sessions: Session) -> dict[int, Session]:
    return {found.pid: found for found in sessions}


def test_a_queue_for_one_row_is_one_tree_of_n_nodes() -> None:
    """PG-06: 40 that wait behind one another for a row of a holder are 41 nodes, and the holder is their root."""
    holder = session(1, state="idle in transaction", xact_s=50.0)
    queue = [session(n, *range(1, n)) for n in range(2, 42)]
    trees = forest(by_pid(holder, *queue))
    assert len(trees.nodes) == 41
    assert trees.nodes[0].session is holder
    assert trees.nodes[0].behind == 40
    assert set(trees.root) == set(range(2, 42))
    assert {root.pid for root in trees.root.values()} == {1}


def test_a_deadlock_has_a_root() -> None:
    """PG-06: two that wait for each other, before the server ends one of them, are a tree and no endless loop."""
    trees = forest(by_pid(session(1, 2), session(2, 1), session(3, 2)))
    assert [node.session.pid for node in trees.nodes if node.depth == 0] == [1]
    assert trees.nodes[0].behind == 2


def test_a_prepared_transaction_is_a_root() -> None:
    """PG-06: who waits for a transaction that no session holds any more waits behind `prepared transaction`."""
    trees = forest(by_pid(session(2, 0)))
    assert trees.nodes[0].session is PREPARED
    assert tree_json(trees)["tree"][0]["session"] == "prepared transaction"


def test_no_waiting_is_told_too() -> None:
    """PG-06: a look at which nobody waits has a tree without nodes."""
    assert tree_json(forest(by_pid(session(1)))) == {"waiting": 0, "roots": 0, "tree": [], "left_out": 0}


@st.composite
def crowds(draw: st.DrawFn) -> dict[int, Session]:
    pids = range(1, draw(st.integers(1, 25)) + 1)
    blockers = st.lists(st.integers(0, len(pids) + 2), max_size=4, unique=True)
    return by_pid(*(session(pid, *draw(blockers), xact_s=draw(st.floats(0, 9))) for pid in pids))


@given(crowds())
def test_every_wait_is_charged_to_one_root(sessions: dict[int, Session]) -> None:
    """PG-06: whatever waits for whatever, each waiting session is in one tree once, and its wait goes to its root."""
    trees = forest(sessions)
    pids = [node.session.pid for node in trees.nodes]
    assert len(pids) == len(set(pids))
    roots = {node.session.pid for node in trees.nodes if node.depth == 0}
    assert set(trees.root) == set(pids) - roots
    assert {root.pid for root in trees.root.values()} == roots
    assert sum(node.behind for node in trees.nodes if node.depth == 0) == len(trees.root)
    added = tally(sessions, trees, 2.0)
    charged = sum(columns.waiting_s for columns in added.tables.get("blocker", {}).values())
    assert charged == pytest.approx(2.0 * len(trees.root))
    assert sum(added.links.values()) == pytest.approx(charged)


@pytest.mark.parametrize(
    ("wait_class", "wait", "expected"),
    [
        ("", "", ("CPU", 1_500_000, 0.0, 0.0)),
        ("IO", "DataFileRead", ("IO:DataFileRead", 0, 1.5, 0.0)),
        ("Lock", "transactionid", ("Lock:transactionid", 0, 0.0, 1.5)),
        ("Client", "ClientWrite", ("Client:ClientWrite", 0, 0.0, 1.5)),
    ],
)
def test_where_a_session_s_time_goes(wait_class: str, wait: str, expected: tuple[str, int, float, float]) -> None:
    """PG-01: on a CPU, blocked by a disk, or waiting for anything else: wait and statement cells of wire.md 6."""
    added = tally(by_pid(session(1, wait_class=wait_class, wait=wait)), forest({}), 1.5)
    for dimension, value in (("wait", expected[0]), ("statement", "update t set a = ?")):
        columns = added.tables[dimension][value]
        assert (columns.cpu_us, columns.blocked_s, columns.waiting_s) == expected[1:]
    assert added.active == 1
    assert added.waiting == (wait_class in ("Lock", "Client"))


def test_who_is_not_at_work_counts_nowhere() -> None:
    """PG-01: idle sessions, main loops that sleep, and a sender that waits for more WAL are no load."""
    idle = [
        session(1, state="idle in transaction"),
        session(2, wait_class="Activity", wait="WalSenderMain", kind="walsender"),
        session(3, wait_class="Client", wait="WalSenderWaitForWAL", kind="walsender"),
        session(4, state=""),
    ]
    added = tally(by_pid(*idle), forest({}), 1.0)
    assert (added.active, added.tables) == (0, {})
