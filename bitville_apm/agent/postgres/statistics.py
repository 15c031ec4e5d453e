"""A server's own sums, every ten seconds: statements, counters, replication, settings, and where it writes its log.

Blocks: for a thread. What a server does not have, or does not show us, is said once and asked for again now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import attrs
import psycopg

from bitville_apm import limits
from bitville_apm.agent.postgres import counters
from bitville_apm.agent.postgres.counters import Counters
from bitville_apm.agent.postgres.link import Facts, Link, TooSlow, describe
from bitville_apm.agent.postgres.observations import Observation, heaviest, statements_json
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import COLUMNS_SQL, Extension, Statements, Texts, extension_of

_NAMES_SQL = (
    "(SELECT 'database', oid::int8, datname FROM pg_database LIMIT 1000) UNION ALL "
    "(SELECT 'user', oid::int8, rolname FROM pg_roles LIMIT 5000)"
)
_LOG_SQL = (
    "SELECT coalesce({files}), current_setting('log_line_prefix'), current_setting('data_directory', true), "
    "current_setting('lc_messages', true)"
)


@attrs.frozen
class LogPlace:
    """Where a server writes, as it says: an absolute path, or empty. `prefix` is its log_line_prefix."""

    path: str
    prefix: str
    messages: str


@attrs.define(eq=False)
class Statistics:
    """`now` is unix seconds. `missing` says what cannot be seen, by what it is; `log` where the log is."""

    link: Link
    pace: Pace
    texts: Texts
    now: Callable[[], float]
    missing: dict[str, str] = attrs.Factory(dict)
    log: LogPlace | None = None
    extension: Extension | None = None
    statements: Statements = attrs.Factory(Statements)
    _counters: Counters = attrs.Factory(Counters)
    _settings: list[Any] = attrs.Factory(list)
    _names: dict[tuple[str, int], str] = attrs.Factory(dict)
    _due: dict[str, float] = attrs.Factory(dict)
    _read_at: dict[str, float] = attrs.Factory(dict)
    _started: float = 0.0

    def read(self) -> list[Observation]:
        """Whatever is due. Raises `Unreachable`."""
        facts = self.link.open()
        if facts.started != self._started:
            # Another server, or the same once more: its sums begin where it says.
            self._started, self.extension = facts.started, None
            self._due.clear()
        own, began = time.thread_time(), time.monotonic()
        found: list[Observation] = []
        for what, read in (
            ("pg_stat_statements", self._statements),
            ("counters", self._server),
            ("settings", self._set),
            ("log", self._where),
        ):
            try:
                found += read(facts)
                self.missing.pop(f"{what} slow", None)
            except TooSlow:
                self.missing[f"{what} slow"] = f"{what} takes longer than {limits.PG_STATEMENT_MS} ms"
            except psycopg.Error as error:
                self.missing[what] = f"{what} cannot be read (SQLSTATE {error.sqlstate})"
                self.extension = None if what == "pg_stat_statements" else self.extension
        if facts.sees_all:
            self.missing.pop("role", None)
        else:
            self.missing["role"] = "the role is no member of pg_monitor: others' statements and waits are hidden"
        self.pace.took(time.thread_time() - own, time.monotonic() - began, self.link.server_cpu())
        return found

    def _time_for(self, what: str, period: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + period
        return True

    def _since(self, what: str) -> float:
        """Seconds since this was last read."""
        now = time.monotonic()
        before, self._read_at[what] = self._read_at.get(what, now), now
        return now - before

    # --- pg_stat_statements ---------------------------------------------------------------------------------

    def _statements(self, facts: Facts) -> list[Observation]:
        if self.extension is None:
            if not self._time_for("extension", limits.PG_COUNTERS_S):
                return []
            self.extension = extension_of(self.link.rows(COLUMNS_SQL))
            if self.extension is None:
                self.missing["pg_stat_statements"] = "there is no pg_stat_statements in this database"
                return []
            self.statements = Statements(self.statements.resets)
        sums = list(self.extension.sums)
        rows = self.link.rows(self.extension.sql())
        self.missing.pop("pg_stat_statements", None)
        seconds = self._since("pg_stat_statements")
        costs = self.statements.read(sums, rows)
        self._learn(cost.key[2] for cost in heaviest(costs))
        costs = [cost for cost in costs if cost.key[2] not in self.texts.own]
        if not costs:
            return []
        known = {cost.key[2]: self.texts.of(cost.key[2]) for cost in heaviest(costs)}
        oids = {("user", cost.key[0]) for cost in costs} | {("database", cost.key[1]) for cost in costs}
        if not oids <= self._names.keys() and self._time_for("names", limits.PG_COUNTERS_S):
            self._names = {(kind, oid): name for kind, oid, name in self.link.rows(_NAMES_SQL)}
        return [Observation("pg_stat_statements", self.now(), statements_json(costs, seconds, known, self._names))]

    def _learn(self, ids: Any) -> None:
        """Ask for the texts of new statements, and of those that sessions show in part."""
        assert self.extension is not None  # noqa: S101 - asked before
        asked = self.texts.missing([*ids, *self.texts.wanted()])
        if asked:
            self.texts.learn(asked, self.link.rows(self.extension.texts_sql(asked)))

    # --- counters -------------------------------------------------------------------------------------------

    def _server(self, facts: Facts) -> list[Observation]:
        if not self._time_for("counters", limits.PG_COUNTERS_S):
            return []
        seconds = self._since("counters")
        told: dict[str, Any] = {}
        for view in counters.VIEWS:
            if facts.version >= view.since:
                added = self._counters.read(view, self.link.named(view.sql))
                if added:
                    told[view.name] = added if view.keys else added[""]
        told |= self._replication(facts)
        if not told:
            return []
        return [Observation("system_metrics", self.now(), {"kind": "counters", "seconds": round(seconds, 3), **told})]

    def _replication(self, facts: Facts) -> dict[str, Any]:
        if facts.standby:
            rows = self.link.named(counters.STANDBY_SQL)
            return {"standby": {name: counters.number(value) for name, value in rows[0].items()}}
        rows = self.link.named(counters.REPLICATION_SQL)
        return {"replication": rows} if rows else {}

    def _set(self, facts: Facts) -> list[Observation]:
        if not self._time_for("settings", limits.PG_SETTINGS_S):
            return []
        rows = self.link.rows(counters.SETTINGS_SQL)
        if rows == self._settings:
            return []
        self._settings = rows
        settings = {name: f"{setting} {unit}" if unit else setting for name, setting, unit in rows}
        data = {"kind": "settings", "version": facts.version, "standby": facts.standby, "settings": settings}
        return [Observation("system_metrics", self.now(), data)]

    # --- the log --------------------------------------------------------------------------------------------

    def _where(self, facts: Facts) -> list[Observation]:
        if not self._time_for("log", limits.PG_LOG_PATH_S):
            return []
        formats = ["csvlog", "stderr"] if facts.version < 150000 else ["jsonlog", "csvlog", "stderr"]
        files = ", ".join(f"pg_current_logfile('{name}')" for name in formats)
        try:
            ((path, prefix, directory, messages),) = self.link.rows(_LOG_SQL.format(files=files))
            self.missing.pop("log place", None)
        except psycopg.Error:
            path, directory, messages = "", "", ""
            self.missing["log place"] = "the role may not ask where the log is (`bitville postgres setup` lets it)"
            prefix = describe(self.link.rows("SELECT current_setting('log_line_prefix')"))
        if path and not path.startswith("/"):
            path = f"{directory}/{path}" if directory else ""
        self.log = LogPlace(path or "", prefix or "", messages or "")
        return []

    def close(self) -> None:
        """Let go of the connection."""
        self.link.close()
