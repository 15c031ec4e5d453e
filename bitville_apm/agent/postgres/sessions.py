"""One look at the sessions of a server: the SQL that each version understands, and its rows as values. Pure.

The first row is the looking session's own: it brings what is counted over all sessions without reading them again.
Idle sessions are counted and not read. Ages are seconds by the server's own clock, which need not agree with ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from bitville_apm import limits

APPLICATION = "bitville-apm"
"""How our own sessions are called: they are in no count."""

MARK = "/* bitville-apm */"
"""In every statement of ours, so that it is known where others' are counted."""

RUNNING = ("active", "fastpath function call")
CPU = "CPU"


class Session(Struct, frozen=True):
    """One session as `pg_stat_activity` shows it; of what the server keeps from us, None or empty.

    `kind` is its backend type, `wait_class` and `wait` what it waits for; `query_s`, `xact_s` and `state_s` how old
    its statement, transaction and state are. `blockers` are the sessions that hold it up (0: a prepared transaction).
    """

    pid: int
    user: str
    database: str
    application: str
    client: str
    kind: str
    state: str
    wait_class: str
    wait: str
    query_s: float
    xact_s: float
    state_s: float
    text: str
    query_id: int | None = None
    leader: int | None = None
    blockers: tuple[int, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether it does something for somebody: active, and neither asleep in its main loop nor waiting for more
        WAL to send.
        """
        if self.state not in RUNNING or self.wait_class == "Activity":
            return False
        return self.kind != "walsender" or self.wait_class != "Client"

    @property
    def waits_for(self) -> str:
        """The value of the dimension `wait`."""
        return f"{self.wait_class}:{self.wait}" if self.wait_class else CPU

    @property
    def told(self) -> str:
        """How people call it: `user@database pid`."""
        return f"{self.user or self.kind}@{self.database} {self.pid}"


class Look(Struct, frozen=True):
    """One look. `backend` is the looking session, `connections` counts clients, `sessions` by pid."""

    backend: int
    connections: int
    idle_in_transaction: int
    sessions: dict[int, Session]


_COMMON = (
    "pid, usename, datname, application_name, host(client_addr), backend_type, state, wait_event_type, wait_event, "
    "greatest(0, extract(epoch FROM clock_timestamp() - query_start))::float8, "
    "greatest(0, extract(epoch FROM clock_timestamp() - xact_start))::float8, "
    "greatest(0, extract(epoch FROM clock_timestamp() - state_change))::float8, "
    f"left(query, {limits.PG_TEXT_CHARACTERS}), "
)


def _columns(version: int) -> str:
    """What is asked of each session; `version` as the server numbers it, such as 150004."""
    query_id = "query_id" if version >= 140000 else "NULL::int8"
    leader = "leader_pid" if version >= 130000 else "NULL::int4"
    return f"{_COMMON}{query_id}, {leader}"


_BLOCKERS = "CASE WHEN wait_event_type = 'Lock' THEN array_to_string(pg_blocking_pids(pid), ',') END"


def look_sql(version: int) -> str:
    """All sessions that are not idle. Blockers are asked for only where a session waits for a lock: it costs."""
    return (
        f"SELECT {_columns(version)}, {_BLOCKERS}, connections, in_transaction FROM ("
        "SELECT *, count(*) FILTER (WHERE backend_type = 'client backend') OVER () AS connections, "
        "count(*) FILTER (WHERE state LIKE 'idle in transaction%') OVER () AS in_transaction "
        "FROM pg_stat_activity) AS seen "
        f"WHERE pid = pg_backend_pid() OR (application_name IS DISTINCT FROM '{APPLICATION}' AND state <> 'idle') "
        f"ORDER BY (pid = pg_backend_pid()) DESC, query_start LIMIT {limits.PG_SESSIONS + 1}"
    )


def blockers_sql(version: int, pids: Iterable[int]) -> str:
    """Sessions that hold others up and were not in the look: idle ones that keep an advisory lock, for one."""
    return (
        f"SELECT {_columns(version)}, NULL, 0, 0 FROM pg_stat_activity "
        f"WHERE pid = ANY('{{{','.join(str(int(pid)) for pid in pids)}}}'::int4[])"
    )


def session_of(row: Sequence[Any]) -> Session:
    """A row of either query."""
    blockers = row[15]
    return Session(
        pid=row[0],
        user=row[1] or "",
        database=row[2] or "",
        application=row[3] or "",
        client=row[4] or "",
        kind=row[5] or "",
        state=row[6] or "",
        wait_class=row[7] or "",
        wait=row[8] or "",
        query_s=row[9] or 0.0,
        xact_s=row[10] or 0.0,
        state_s=row[11] or 0.0,
        text=row[12] or "",
        query_id=row[13],
        leader=row[14],
        blockers=tuple(int(pid) for pid in blockers.split(",")) if blockers else (),
    )


def look_of(rows: Sequence[Sequence[Any]]) -> Look:
    """The answer to `look_sql`."""
    own, *others = rows
    found = (session_of(row) for row in others)
    # A client that has one connection less: our own.
    return Look(own[0], max(0, own[16] - 1), own[17], {session.pid: session for session in found})


def missing_blockers(look: Look) -> list[int]:
    """Sessions that hold others up and are not in it, as many as are asked for at once."""
    wanted = {pid for session in look.sessions.values() for pid in session.blockers if pid}
    return sorted(wanted - look.sessions.keys())[: limits.PG_BLOCKERS]
