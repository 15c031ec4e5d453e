"""A real server, looked at by the role that `bitville postgres setup` makes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from bitville_apm import limits
from bitville_apm.agent.postgres.follower import Follower
from bitville_apm.agent.postgres.link import Link, TooSlow, Unreachable, parse
from bitville_apm.agent.postgres.locks import forest
from bitville_apm.agent.postgres.logmessages import event
from bitville_apm.agent.postgres.looker import Looker, Seen
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.sessions import Look, blockers_sql, look_of, look_sql, missing_blockers, session_of
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.statistics import Statistics
from tests.agent.postgres.server import Client, Server, serving, until

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"


LINKS: list[Link] = []


def link_to(server: Server, **dsn: str) -> Link:
    """A connection that is closed at the end of its test."""
    LINKS.append(Link(server.dsn(**{"user": "bitville", **dsn})))
    return LINKS[-1]


@pytest.fixture(autouse=True)
def _closing(postgres: Server) -> Iterator[None]:
    """The role has three connections: each test begins with all of them."""
    yield
    while LINKS:
        LINKS.pop().close()
    until(lambda: postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'bitville'") == [(0,)])


def looker(server: Server, **dsn: str) -> Looker:
    return Looker(link_to(server, **dsn), Pace(limits.PG_LOOK_S), Texts(), time.time)


def statistics(server: Server, **dsn: str) -> Statistics:
    return Statistics(link_to(server, **dsn), Pace(limits.PG_STATISTICS_S), Texts(), time.time)


def looked(link: Link) -> Look:
    version = link.open().version
    look = look_of(link.rows(look_sql(version)))
    missing = missing_blockers(look)
    if missing:
        found = map(session_of, link.rows(blockers_sql(version, missing)))
        look.sessions.update((session.pid, session) for session in found)
    return look


def pile_up(server: Server) -> tuple[list[Client], dict[int, int]]:
    """Forty sessions behind two roots: a plain idle session with an advisory lock, and an open transaction. Gives the
    sessions, roots first, and how many wait behind each root.
    """
    advisory = Client(server, "SELECT pg_advisory_lock(7)", application="advisory")
    row = Client(server, "BEGIN", "UPDATE item SET v = 'held' WHERE id = 1", application="row")
    advisory.join()
    row.join()
    waiting = [Client(server, "SELECT pg_advisory_lock(7)") for _ in range(15)]
    waiting += [Client(server, f"UPDATE item SET v = 'x{n}' WHERE id = 1") for n in range(25)]
    return [advisory, row, *waiting], {advisory.pid: 15, row.pid: 25}


def test_forty_sessions_behind_two_roots(postgres: Server) -> None:
    """PG-01, PG-06: a pile-up of 40 is two trees with their roots, one of them a plain idle session; every blocked
    second is charged to its root, and each waiting statement is linked to it.
    """
    clients, behind = pile_up(postgres)
    link = link_to(postgres)
    look = looker(postgres)
    try:
        until(lambda: len(forest(looked(link).sessions).root) == 40)
        look.look()
        seen = look.look()
    finally:
        for client in reversed(clients):
            client.end()
    assert (seen.tally.active, seen.tally.waiting) == (40, 40)
    charged = {name: columns.waiting_s for name, columns in seen.tally.tables["blocker"].items()}
    expected = {
        f"postgres@postgres {clients[0].pid}: SELECT pg_advisory_lock(?)": 15 * seen.seconds,
        f"postgres@postgres {clients[1].pid}: UPDATE item SET v = ? WHERE id = ?": 25 * seen.seconds,
    }
    assert charged == pytest.approx(expected)
    assert sum(seen.tally.links.values()) == pytest.approx(40 * seen.seconds)
    waits = seen.tally.tables["wait"]
    assert waits["Lock:advisory"].waiting_s == pytest.approx(15 * seen.seconds)
    assert {"Lock:transactionid", "Lock:tuple"} <= waits.keys()
    (tree,) = (o.data for o in look.window.flush(time.time()) if o.source == "pg_locks")
    assert (tree["waiting"], tree["roots"], len(tree["tree"])) == (40, 2, 42)
    roots = [node for node in tree["tree"] if node["depth"] == 0]
    assert {node["pid"]: node["blocked"] for node in roots} == behind
    assert {node["pid"]: node["state"] for node in roots}[clients[0].pid] == "idle"
    assert {node["pid"]: node["state"] for node in roots}[clients[1].pid] == "idle in transaction"


def test_what_runs_for_a_request(postgres: Server) -> None:
    """PG-01, PG-05: sessions that bear a request's id, by name or comment, are told with it: statement, waits, age."""
    other = ID.replace("b01", "b02")
    one = Client(postgres, "SELECT pg_sleep(3), 'secret'", application=f"bitville-{ID}")
    two = Client(postgres, f"/* correlation:{other} */ SELECT pg_sleep(4), 'secret'")
    three = Client(postgres, "SELECT count(*) FROM generate_series(1, 100000000)")
    look = looker(postgres)
    try:
        until(lambda: look.look().tally.active == 3)
        time.sleep(limits.PG_REQUEST_MS / 1000)
        seen = look.look()
    finally:
        for client in (one, two, three):
            client.end()
    found = {o.correlation: o.data for o in look.window.flush(time.time()) if o.correlation}
    assert set(found) == {ID, other}
    (session,) = found[ID]["sessions"]
    assert session["pid"] == one.pid
    assert session["statement"] == "SELECT pg_sleep(?), ?"
    assert set(session["waits_s"]) == {"Timeout:PgSleep"}
    assert found[other]["sessions"][0]["fingerprint"] == session["fingerprint"]
    assert seen.tally.tables["statement"]["SELECT pg_sleep(?), ?"].waiting_s == pytest.approx(2 * seen.seconds)
    assert seen.tally.tables["wait"].keys() >= {"Timeout:PgSleep"}
    assert "secret" not in repr(found)


def test_a_text_of_another_encoding_spoils_no_look(postgres: Server) -> None:
    """PG-01: what a session of a Latin-1 database runs, shown as its bytes, is read like any other."""
    postgres.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    client = Client(postgres, "SELECT pg_sleep(5) AS \u00e9t\u00e9", database="latin")
    look = looker(postgres)
    try:
        seen = until(lambda: (s := look.look()).tally.active and s)
    finally:
        client.end()
    assert list(seen.tally.tables["statement"]) == ["SELECT pg_sleep(?) AS \ufffdt\ufffd"]
    postgres.sql("DROP DATABASE latin WITH (FORCE)")


def test_a_long_statement_has_the_name_of_the_whole(postgres: Server) -> None:
    """PG-01, PG-02: of a text that the server cuts within a list of values, its own statistics know the end."""
    whole = f"SELECT 1 FROM pg_sleep(1.5) WHERE 1 IN ({', '.join(map(str, range(1, 600)))}) ORDER BY 1"
    sums = statistics(postgres)
    sums.texts.of(0)
    look = looker(postgres)
    look.texts = sums.texts
    sums.read()
    postgres.sql(whole.replace("1.5", "0.0"))
    client = Client(postgres, whole)
    try:
        until(lambda: look.look().tally.active)
        sums.read()
        seen = look.look()
    finally:
        client.end()
    assert list(seen.tally.tables["statement"]) == ["SELECT ? FROM pg_sleep(?) WHERE ? IN (?) ORDER BY ?"]


# --- Statements --------------------------------------------------------------------------------------------


def of_statement(sums: Statistics, statement: str) -> dict[str, Any]:
    """What the next reading tells of a statement; nothing where it is not told of."""
    told = [o.data["statements"] for o in sums.read() if o.source == "pg_stat_statements"]
    return next((item for items in told for item in items if item["statement"] == statement), {})


def test_statements_as_differences_over_a_reset(postgres: Server) -> None:
    """PG-02: calls since the last reading, exactly, with the text of new ones; a reset neither loses nor repeats."""
    sums = statistics(postgres)
    count = "SELECT count(*) FROM item WHERE id > 4711"
    name = "SELECT count(*) FROM item WHERE id > ?"
    with postgres.connect() as connection:
        for _ in range(7):
            connection.execute(count)
        assert of_statement(sums, name) == {}
        for _ in range(5):
            connection.execute(count)
        found = of_statement(sums, name)
        assert (found["calls"], found["rows"], found["user"], found["database"]) == (5, 5, "postgres", "postgres")
        assert of_statement(sums, name) == {}
        connection.execute("SELECT pg_stat_statements_reset()")
        for _ in range(3):
            connection.execute(count)
        assert of_statement(sums, name)["calls"] == 3
    assert sums.statements.resets == 1
    assert "4711" not in repr(found)


def test_without_the_extension_it_is_said_and_all_else_works(postgres: Server) -> None:
    """PG-02, PG-08: in a database without pg_stat_statements the rest is read; made later, it is found."""
    postgres.sql("CREATE DATABASE bare")
    sums = statistics(postgres, database="bare")
    found = sums.read()
    assert [o.data["kind"] for o in found] == ["settings"]
    assert sums.missing == {"pg_stat_statements": "there is no pg_stat_statements in this database"}
    assert sums.log is not None
    sums.close()
    postgres.sql("DROP DATABASE bare WITH (FORCE)")


def test_counters_and_settings(postgres: Server) -> None:
    """LIST-02: a minute's commits, blocks and WAL of each database; settings somebody made, and no text of them."""
    sums = statistics(postgres)
    (settings,) = (o.data for o in sums.read() if o.data.get("kind") == "settings")
    assert settings["settings"]["max_connections"] == "120"
    assert settings["settings"]["deadlock_timeout"] == "200 ms"
    assert "log_line_prefix" not in settings["settings"]
    with postgres.connect() as connection:
        for _ in range(20):
            connection.execute("UPDATE item SET v = 'c' WHERE id = 2")
    time.sleep(1.1)  # a session's numbers become the server's once a second
    sums._due.clear()
    (counters,) = (o.data for o in sums.read() if o.data.get("kind") == "counters")
    assert counters["databases"]["postgres"]["xact_commit"] >= 20
    assert counters["wal"]["wal_records"] >= 20
    assert any(key.startswith("client backend/") for key in counters["io"])


# --- Guards ------------------------------------------------------------------------------------------------


def test_the_role_may_look_and_nothing_else(postgres: Server) -> None:
    """PG-07: the role of `bitville postgres setup` sees all sessions, reads no table, writes nothing, holds at most
    three connections, and each of its statements has its limits.
    """
    link = link_to(postgres)
    facts = link.open()
    assert (facts.sees_all, facts.role, facts.pooled) == (True, "bitville", False)
    for setting, value in (("statement_timeout", "1s"), ("lock_timeout", "100ms"), ("application_name", "bitville-apm"),
                           ("transaction_read_only", "on"), ("pg_stat_statements.track", "none")):  # fmt: skip
        assert link.rows(f"SELECT current_setting('{setting}')") == [(value,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        link.rows("SELECT * FROM item")
    with pytest.raises(TooSlow):
        link.rows("SELECT pg_sleep(20)")
    assert link.rows("SELECT 1") == [(1,)]
    more = [psycopg.connect(postgres.dsn(user="bitville")) for _ in range(limits.PG_CONNECTIONS - 1)]
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        psycopg.connect(postgres.dsn(user="bitville"))
    for connection in more:
        connection.close()


def test_we_are_in_no_count(postgres: Server) -> None:
    """PG-07: the agent's own sessions are neither active nor connections nor statements."""
    others = [link_to(postgres) for _ in range(2)]

    def ask() -> None:
        with contextlib.suppress(TooSlow):
            others[0].rows("SELECT pg_sleep(20)")

    asking = threading.Thread(target=ask)
    asking.start()
    look = looker(postgres)
    seen = look.look()
    assert seen.tally.active == 0
    assert seen.tally.tables == {}
    asking.join()


def test_a_role_that_sees_little_is_told(postgres: Server) -> None:
    """PG-08: without pg_monitor others' statements are hidden: that is said, and what is hidden is no statement."""
    postgres.sql("CREATE ROLE poor LOGIN")
    client = Client(postgres, "SELECT pg_sleep(5)")
    look, sums = looker(postgres, user="poor"), statistics(postgres, user="poor")
    sums.read()
    assert "no member of pg_monitor" in sums.missing["role"]
    assert look.look().tally.tables.get("statement", {}) == {}
    client.end()
    look.close()
    sums.close()
    postgres.sql("DROP ROLE poor")


def test_a_server_that_hangs_is_given_up(postgres: Server) -> None:
    """PG-07: a connection that gets no answer is given up from outside, and the next look has a new one."""
    look = looker(postgres)
    look.look()
    ((backend,),) = look.link.rows("SELECT pg_backend_pid()")
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            look.look()
        except Unreachable as error:
            failed.append(error)

    os.kill(backend, signal.SIGSTOP)
    try:
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.2)
        assert asking.is_alive()
        look.link.abandon()
        asking.join(5)
        assert len(failed) == 1
    finally:
        os.kill(backend, signal.SIGCONT)
    assert look.look().facts.version >= 180000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"host": "/nowhere"}, "it cannot be reached"),
        ({"user": "nobody_at_all"}, "the role or database does not exist"),
        ({"database": "no_such"}, "the role or database does not exist"),
        ({"host": "127.0.0.1", "sslmode": "require"}, "TLS does not come about"),
    ],
)
def test_why_there_is_no_connection(postgres: Server, change: dict[str, str], why: str) -> None:
    """PG-08: a few words for `/health` that hold no name; the server's own for the log."""
    with pytest.raises(Unreachable) as caught:
        looker(postgres, **change).look()
    assert caught.value.why == why


def test_a_connection_string_is_not_repeated() -> None:
    """PG-07: a wrong dsn is refused without showing the password in it."""
    with pytest.raises(ValueError, match="a connection string is wanted") as caught:
        parse("postgres://bitville:hunter2@[::1")
    assert "hunter2" not in str(caught.value)


# --- The log -----------------------------------------------------------------------------------------------


def test_a_real_log_in_its_three_formats(postgres: Server) -> None:
    """PG-03, ADV-03: a slow statement with its plan, a lock wait, a deadlock, told the same by each of the three files;
    and after the server has turned to new ones, by those.
    """
    sums = statistics(postgres)
    sums.read()
    assert sums.log is not None
    path = sums.log.path
    assert path.endswith(".json")
    files = [path, path.replace(".json", ".csv"), path.replace(".json", ".log")]
    followers = [Follower() for _ in files]
    for follower, file in zip(followers, files, strict=True):
        follower.read(file, sums.log.prefix)
    provoke(postgres)
    postgres.sql("SELECT pg_rotate_logfile()")
    time.sleep(1.1)  # the name of a log has whole seconds here
    postgres.sql("SELECT pg_rotate_logfile()")
    postgres.sql("SELECT 'secret', pg_sleep(0.26)")
    sums._due.clear()
    sums.read()
    assert sums.log.path != path
    now = [sums.log.path, sums.log.path.replace(".json", ".csv"), sums.log.path.replace(".json", ".log")]
    told: list[list[dict[str, Any]]] = [[], [], []]

    def enough() -> bool:
        for follower, file, found in zip(followers, now, told, strict=True):
            found += [e.data for entry in follower.read(file, sums.log.prefix if sums.log else "")
                      if (e := event(entry)) is not None]  # fmt: skip
        return all(sum("pg_sleep" in item.get("statement", "") for item in found) >= 4 for found in told)

    until(enough)
    kinds = ("slow", "plan", "lock_wait", "deadlock")
    as_json, as_csv, as_text = ([{k: v for k, v in item.items() if k not in ("query_id", "sqlstate")}
                                 for item in found if item["event"] in kinds] for found in told)  # fmt: skip
    assert as_json == as_csv == as_text
    assert {item["event"] for item in as_json} == set(kinds)
    assert "secret" not in repr(told)
    (deadlock,) = (item for item in as_json if item["event"] == "deadlock")
    assert {process["statement"] for process in deadlock["processes"]} == {"UPDATE item SET v = ? WHERE id = ?"}
    assert all(follower.odd == 0 for follower in followers)


def provoke(server: Server) -> None:
    """A slow statement, then two sessions that lock one another's row."""
    server.sql("SELECT 'secret', pg_sleep(0.3)")
    sessions = [server.connect() for _ in range(2)]
    for n, session in enumerate(sessions):
        session.execute("BEGIN")
        session.execute(f"UPDATE item SET v = 'secret' WHERE id = {n + 1}")

    def cross(n: int) -> None:
        try:
            sessions[n].execute(f"UPDATE item SET v = 'secret' WHERE id = {2 - n}")
        except psycopg.errors.DeadlockDetected:
            sessions[n].rollback()

    threads = [threading.Thread(target=cross, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.rollback()
        session.close()


# --- A server that comes and goes --------------------------------------------------------------------------


def test_over_a_restart() -> None:
    """PG-02, PG-08: while a server is away that is said; after its restart looks go on, the gap is told as lost, and
    its sums count from what they were.
    """
    with serving(18, "shared_preload_libraries = 'pg_stat_statements'\nlogging_collector = on\n") as server:
        server.sql("CREATE EXTENSION pg_stat_statements", "CREATE TABLE item (id int)")
        look, sums = looker(server, user="postgres"), statistics(server, user="postgres")
        look.look()
        sums.read()
        server.sql("SELECT count(*) FROM item")
        server.stop()
        with pytest.raises(Unreachable):
            look.look()
        with pytest.raises(Unreachable):
            sums.read()
        look.pace.period = 0.1
        time.sleep(0.2)
        look._last = time.monotonic() - 60.0
        server.start()
        seen: Seen = look.look()
        assert seen.seconds == limits.PG_STANDS_FOR_S
        assert seen.lost > 50.0
        assert of_statement(sums, "SELECT count(*) FROM item") == {}
        server.sql("SELECT count(*) FROM item")
        assert of_statement(sums, "SELECT count(*) FROM item")["calls"] == 1
