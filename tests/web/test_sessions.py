"""The part of a request's page that says what its database was seen doing."""

from __future__ import annotations

from typing import Any

import pytest

from bitville_apm.web import schemas
from tests.web.html import HOSTILE, Elements, assert_harmless, shown
from tests.web.made import end_record
from tests.web.world import World

ID = end_record()["id"]
OTHER = "22222222-2222-4222-8222-222222222222"
SESSION = {
    "pid": 4711, "user": "shop", "database": "shop", "state": "active", "statement": "UPDATE stock SET n = ?",
    "fingerprint": "f1", "correlation_id": ID,
}  # fmt: skip
HOLDER = {
    **SESSION, "pid": 4700, "session": "shop@shop 4700", "state": "idle in transaction", "correlation_id": OTHER,
    "statement": "SELECT ? FOR UPDATE", "fingerprint": "f2",
}  # fmt: skip


def world(**changes: Any) -> World:
    made = World()
    made.store.add("shop", end_record(**changes))
    return made


def page_of(w: World) -> str:
    answer = w.ask(f"/requests/{ID}", session=w.session())
    assert answer.status == 200
    return answer.text


def test_sessions_with_their_waits() -> None:
    """LIST-05, PG-05: a request's page has the statements its sessions were seen at, for how long and waiting for what,
    added up over records; the longest first; and leads to all of it for programs.
    """
    w = world()
    for waits in ({"Lock:transactionid": 3.0, "CPU": 0.5}, {"Lock:transactionid": 4.0}):
        short = {**SESSION, "statement": "SELECT 1", "fingerprint": "f3", "waits_s": {"CPU": 1.0}}
        w.store.observe("pg_stat_activity", {"sessions": [short, {**SESSION, "waits_s": waits}], "left_out": 0}, ID)
    page = page_of(w)
    text = shown(page)
    row = text[text.index("UPDATE stock SET n = ?") :]
    assert row.index("7.50 s") < row.index("Lock:transactionid 7.00 s, CPU 500 ms") < row.index("SELECT 1")
    assert "shop@shop 4711" in row
    assert "main on db1" in row
    assert f'href="/api/correlation/{ID}"' in page


def test_who_held_it_up() -> None:
    """PG-06, LIST-05: out of the lock trees of its time, all sessions above its own, with a link to their requests; and
    how many waited for it.
    """
    w = world()
    tree = [
        {**HOLDER, "depth": 0, "blocked": 4},
        {**HOLDER, "pid": 1, "session": "job@shop 1", "depth": 1, "blocked": 0, "correlation_id": None},
        {**SESSION, "session": "shop@shop 4711", "depth": 1, "blocked": 2},
        {**SESSION, "session": "shop@shop 4800", "depth": 2, "blocked": 0, "correlation_id": OTHER},
    ]
    for _ in range(2):
        w.store.observe("pg_locks", {"waiting": 3, "roots": 1, "tree": tree, "left_out": 0})
    w.store.observe("pg_locks", {"waiting": 0, "roots": 0, "tree": [], "left_out": 0})
    page = page_of(w)
    text = shown(page)
    assert text.count("shop@shop 4700") == 1
    assert "idle in transaction" in text
    assert "2 sessions waited for it at a time" in text
    assert f'href="/requests/{OTHER}"' in page
    assert "job@shop" not in text
    assert "4800" not in text


def test_what_the_log_says() -> None:
    """PG-03, ADV-03, LIST-05: slow statements with their plans, waits for locks with who held them, errors: by time."""
    w = world()
    plan = {"Plan": {"Node Type": "Seq Scan", "Relation Name": "stock"}}
    wait = {"what": "waiting", "mode": "ShareLock", "on": "transaction 731", "waited_ms": 1200.0, "holders": [4700]}
    w.store.observe("pg_log", {"event": "plan", "duration_ms": 2100.0, "plan": plan, "statement": "SELECT a"}, ID, 9.0)
    w.store.observe("pg_log", {"event": "lock_wait", **wait}, ID, 7.0)
    w.store.observe("pg_log", {"event": "error", "severity": "ERROR", "sqlstate": "40P01"}, ID, 8.0)
    text = shown(page_of(w))
    told = (
        "waiting ShareLock on transaction 731 after 1.20 s, held by 4700",
        "ERROR 40P01",
        "plan, 2.10 s",
        "Seq Scan",
    )
    places = [text.index(one) for one in told]
    assert places == sorted(places)


def test_the_same_for_programs() -> None:
    """LIST-05, QUERY-01: what a request's page says of its database, its JSON has, and so has the API."""
    w = world()
    w.store.observe("pg_stat_activity", {"sessions": [{**SESSION, "waits_s": {"Lock:tuple": 3.0, "CPU": 0.5}}]}, ID)
    tree = [{**HOLDER, "depth": 0, "blocked": 1}, {**SESSION, "session": "shop@shop 4711", "depth": 1, "blocked": 2}]
    w.store.observe("pg_locks", {"tree": tree})
    w.store.observe("pg_log", {"event": "error", "severity": "ERROR", "sqlstate": "40P01"}, ID, 8.0)
    for path in (f"/requests/{ID}.json", f"/api/requests/{ID}"):
        told = w.ask(path, session=w.session()).json()
        assert told["id"] == ID
        assert told["database"] == {
            "sessions": [
                {"server": "main on db1", "session": "shop@shop 4711", "statement": "UPDATE stock SET n = ?",
                 "seconds": 3.5, "waits_s": {"Lock:tuple": 3.0, "CPU": 0.5}}
            ],
            "held_up_by": [
                {"server": "main on db1", "session": "shop@shop 4700", "state": "idle in transaction",
                 "statement": "SELECT ? FOR UPDATE", "request": OTHER}
            ],
            "held_up": 2,
            "log": [{"at": 8.0, "server": "main on db1", "event": "error", "severity": "ERROR", "sqlstate": "40P01"}],
        }  # fmt: skip
    assert schemas.DATABASE["required"] == list(told["database"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        ({"sql": {"n": 1, "ms": 5.0, "queries": [], "connections": [{"driver": "mysql", "host": "pg"}]}}, False),
        ({"sql": {"n": 1, "ms": 5.0, "queries": []}}, True),
        ({"sql": None}, False),
    ],
    ids=["pgsql", "mysql", "nobody knows", "no statement"],
)
def test_nothing_seen(changes: dict[str, Any], said: bool) -> None:
    """LIST-05: where a Postgres may have been asked and nothing was seen, the page says why; else it says nothing."""
    assert ("No session of this request was seen" in page_of(world(**changes))) is said


@pytest.mark.parametrize(
    "data", [[{"wait_event_type": "Lock"}], {"sessions": [{"pid": "x"}]}, {"tree": 3}, 7, {"event": ["a"]}, None]
)
def test_other_shapes_are_left_out(data: Any) -> None:
    """LIST-02: what another agent or the first version sent in a shape of its own does not break the page."""
    w = world()
    for source in ("pg_stat_activity", "pg_locks", "pg_log"):
        w.store.observe(source, data, ID)
    assert "No session of this request was seen" in page_of(w)


def test_their_texts_are_text() -> None:
    """Row 27: nothing that a database calls itself becomes part of the page."""
    w = world()
    evil = {**dict.fromkeys(("user", "database", "session", "state", "statement"), HOSTILE), "pid": 1}
    own = {**evil, "correlation_id": ID, "waits_s": {HOSTILE: 1.0}, "depth": 1}
    w.store.observe("pg_stat_activity", {"sessions": [own]}, ID)
    w.store.observe("pg_locks", {"tree": [{**evil, "correlation_id": HOSTILE}, own]})
    w.store.observe("pg_log", {"event": HOSTILE, "statement": HOSTILE, "plan": {HOSTILE: HOSTILE}}, ID)
    page = page_of(w)
    assert_harmless(page)
    assert not any((link["href"] or "").startswith("javascript") for link in Elements(page).all("a"))
