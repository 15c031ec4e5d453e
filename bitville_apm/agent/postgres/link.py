"""One connection to a server, with everything that keeps the server safe from us (PG-07). Blocks: for a thread.

Every statement of ours has a time limit and a limit on waiting for locks, runs read only, and is asked by the simple
protocol, without prepared statements: a pooler in transaction mode gives each transaction another session. Where such a
pooler does not take our limits with the connection, they are set anew in each transaction.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil
import psycopg
from psycopg import conninfo, errors
from psycopg.adapt import Loader
from psycopg.rows import dict_row, tuple_row

from bitville_apm import limits
from bitville_apm.agent.postgres.sessions import APPLICATION, MARK
from bitville_apm.ini import is_loopback

OLDEST = 100000
_OPTIONS = f"-c statement_timeout={limits.PG_STATEMENT_MS} -c lock_timeout={limits.PG_LOCK_MS}"
_BEGIN = (
    f"BEGIN READ ONLY; SET LOCAL statement_timeout = {limits.PG_STATEMENT_MS}; "
    f"SET LOCAL lock_timeout = {limits.PG_LOCK_MS}; "
)
_FACTS = (
    "SELECT current_setting('server_version_num')::int, current_setting('statement_timeout'), "
    "current_setting('lock_timeout'), pg_is_in_recovery(), pg_has_role('pg_read_all_stats', 'USAGE'), "
    "current_setting('max_connections')::int, current_setting('track_activity_query_size'), "
    "extract(epoch FROM pg_postmaster_start_time())::float8, current_user, pid, "
    "extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)


class Unreachable(Exception):
    """No answer can be had now: `why` in a few words without names, `detail` the server's own."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(f"{why}: {detail}" if detail else why)
        self.why = why


class TooSlow(Exception):
    """The server took longer than any question of ours may."""


@attrs.frozen
class Facts:
    """What a connection found. `pooled`: a pooler is between that does not keep our limits, so each transaction sets
    them. `local`: the server runs on this machine.
    """

    version: int
    pooled: bool
    standby: bool
    sees_all: bool
    max_connections: int
    text_bytes: int
    started: float
    local: bool
    role: str
    backend: int


class _Text(Loader):
    """Bytes of any encoding: sessions of other databases are shown in theirs."""

    def load(self, data: Any) -> str:
        return bytes(data).decode("utf-8", "replace")


@attrs.define(eq=False)
class Link:
    """`dsn` as psycopg takes it. `facts` are those of the connection that is open."""

    dsn: str = attrs.field(repr=False)
    facts: Facts | None = None
    _connection: Any = None
    _asking: bool = False
    _cpu: tuple[int, float] | None = None

    @property
    def opened(self) -> bool:
        """Whether there is a connection that is not broken."""
        return self._connection is not None and not self._connection.closed

    def open(self) -> Facts:
        """Connect, unless it is connected. Raises `Unreachable`."""
        if self.facts is not None and self.opened:
            return self.facts
        self.close()
        parameters = parse(self.dsn)
        given = str(parameters.pop("options", "") or "")
        try:
            try:
                self._connect({**parameters, "options": f"{given} {_OPTIONS}".strip()})
            except psycopg.OperationalError as error:
                if "startup parameter" not in str(error):
                    raise
                self._connect(parameters)
            self.facts = self._find_out(parameters)
        except psycopg.Error as error:
            self.close()
            raise Unreachable(_why(error), _line(error)) from None
        return self.facts

    def _connect(self, parameters: dict[str, Any]) -> None:
        self._connection = psycopg.connect(
            **{
                "connect_timeout": limits.PG_CONNECT_S,
                "tcp_user_timeout": round(limits.PG_ANSWER_S * 1000),
                **parameters,
                "application_name": APPLICATION,
                "client_encoding": "SQL_ASCII",
            },
            autocommit=True,
            prepare_threshold=None,
        )
        for name in ("text", "name", "varchar", "bpchar", '"char"', "unknown"):
            with contextlib.suppress(psycopg.Error, KeyError):
                self._connection.adapters.register_loader(name, _Text)

    def _find_out(self, parameters: dict[str, Any]) -> Facts:
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            (row,) = cursor.execute(_FACTS).fetchall()
        version, statement_timeout, lock_timeout, standby, sees_all, most, text, started, role, pid, since = row
        if version < OLDEST:
            raise Unreachable("PostgreSQL 10 or later is wanted", f"this is {version}")
        host = str(parameters.get("host") or parameters.get("hostaddr") or "/")
        return Facts(
            version=version,
            pooled=(statement_timeout, lock_timeout) != (_unit(limits.PG_STATEMENT_MS), _unit(limits.PG_LOCK_MS)),
            standby=standby,
            sees_all=sees_all,
            max_connections=most,
            text_bytes=_bytes(text),
            started=started,
            local=_is_here(host, pid, since),
            role=role,
            backend=pid,
        )

    def rows(self, sql: str) -> list[Any]:
        """The rows of one question, as tuples. Raises `Unreachable` and `TooSlow`; other errors are psycopg's."""
        return self._ask(sql, tuple_row)

    def named(self, sql: str) -> list[dict[str, Any]]:
        """The same as dicts."""
        return self._ask(sql, dict_row)

    def _ask(self, sql: str, factory: Any) -> list[Any]:
        facts = self.open()
        sql = sql.replace("SELECT", f"SELECT {MARK}", 1)
        try:
            self._asking = True
            with self._connection.cursor(row_factory=factory) as cursor:
                cursor.execute(f"{_BEGIN}{sql}; COMMIT" if facts.pooled else sql)
                while cursor.description is None:
                    if not cursor.nextset():
                        return []
                rows: list[Any] = cursor.fetchall()
                return rows
        except (errors.QueryCanceled, errors.LockNotAvailable):
            self._after_error()
            raise TooSlow from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise Unreachable(_why(error), _line(error)) from None
        except psycopg.Error:
            self._after_error()
            raise
        finally:
            self._asking = False

    def _after_error(self) -> None:
        try:
            self._connection.rollback()
        except psycopg.Error:
            self.close()

    def server_cpu(self) -> float | None:
        """Seconds of a CPU that our session took since this was last asked; None where its process is not seen."""
        if self.facts is None or not self.facts.local or self.facts.pooled:
            return None
        try:
            cpu = int(Path(f"/proc/{self.facts.backend}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return None
        before, self._cpu = self._cpu, (self.facts.backend, cpu)
        return cpu - before[1] if before is not None and before[0] == self.facts.backend else None

    def abandon(self) -> None:
        """From another thread: the server does not answer, give its connection up."""
        connection = self._connection
        if connection is None or not self._asking:
            return
        with contextlib.suppress(OSError, psycopg.Error, ValueError):
            descriptor = os.dup(connection.fileno())
            with socket.socket(fileno=descriptor) as held:
                held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self.facts = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                connection.close()


def _is_here(host: str, pid: int, since: float) -> bool:
    """Whether the server runs on this machine: the socket may be a pooler's, so its process is looked for."""
    by_socket = host.startswith(("/", "@"))
    if not by_socket and not is_loopback(host):
        return False
    try:
        return abs(psutil.Process(pid).create_time() - since) < limits.PG_CLOCKS_S
    except psutil.Error:
        return by_socket and not os.path.exists(f"/proc/{pid}")


def parse(dsn: str) -> dict[str, Any]:
    """A connection string, words or a URL, as its parameters. Raises `ValueError` without repeating it."""
    try:
        return dict(conninfo.conninfo_to_dict(dsn))
    except psycopg.Error:
        raise ValueError(
            "a connection string is wanted, such as host=/var/run/postgresql dbname=shop user=bitville"
        ) from None


def _why(error: Exception) -> str:
    """In a few words that hold no name of anything."""
    text = str(error)
    for part, why in (
        ("too many connections", "it takes no more connections"),
        ("too many clients", "it takes no more connections"),
        ("remaining connection slots", "it takes no more connections"),
        ("no pg_hba.conf entry", "it lets us not in"),
        ("authentication failed", "it lets us not in"),
        ("password", "it lets us not in"),
        ("does not exist", "the role or database does not exist"),
        ("starting up", "it is starting"),
        ("shutting down", "it is stopping"),
        ("certificate", "its certificate is not trusted"),
        ("SSL", "TLS does not come about"),
        ("timeout", "it does not answer"),
    ):
        if part in text:
            return why
    return "it cannot be reached"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _unit(ms: int) -> str:
    """A time as `SHOW` tells it."""
    return f"{ms // 1000}s" if ms % 1000 == 0 else f"{ms}ms"


def _bytes(text: str) -> int:
    """A size as `SHOW` tells it: `1kB`, `512B`."""
    units = {"B": 1, "kB": 1024, "MB": 1024 * 1024}
    number = text.rstrip("kMBG")
    return int(number) * units.get(text[len(number) :], 1) if number.isdecimal() else 1024


def describe(rows: Sequence[Any]) -> str:
    """The only value of an answer, as text."""
    return str(rows[0][0]) if rows and rows[0][0] is not None else ""
