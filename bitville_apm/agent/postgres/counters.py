"""Differences of a server's own sums: databases, write-ahead log, checkpoints, I/O, replication. Pure.

Each view has other columns in each version. All are read, and what is a number is told under its own name, as it is in
the manual of that version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
from msgspec import Struct

Row = Mapping[str, Any]


class View(Struct, frozen=True):
    """A view of sums: `since` the first version that has it, `keys` the columns that name a row."""

    name: str
    since: int
    sql: str
    keys: tuple[str, ...] = ()


VIEWS = (
    View(
        "databases",
        0,
        "SELECT * FROM pg_stat_database WHERE datname IS NOT NULL AND datname NOT LIKE 'template%' LIMIT 200",
        ("datname",),
    ),
    View("bgwriter", 0, "SELECT * FROM pg_stat_bgwriter"),
    View("checkpointer", 170000, "SELECT * FROM pg_stat_checkpointer"),
    View("archiver", 0, "SELECT archived_count, failed_count FROM pg_stat_archiver"),
    View("wal", 140000, "SELECT * FROM pg_stat_wal"),
    View("io", 160000, "SELECT * FROM pg_stat_io", ("backend_type", "object", "context")),
)

REPLICATION_SQL = (
    "SELECT application_name, state, sync_state, "
    "extract(epoch FROM replay_lag)::float8 AS replay_lag_s, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8 AS replay_lag_bytes "
    "FROM pg_stat_replication LIMIT 50"
)
"""What stands by, as a primary sees it."""

STANDBY_SQL = (
    "SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0.0::float8 "
    "ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END AS replay_lag_s, "
    "pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::float8 AS replay_lag_bytes"
)
"""How far a standby is behind, as it sees itself; seconds only while it has something to catch up with."""

SETTINGS_SQL = (
    "SELECT name, setting, unit FROM pg_settings WHERE (source NOT IN ('default', 'override', 'client', 'session') "
    "OR name IN ('shared_buffers', 'max_connections', 'work_mem', 'server_version')) AND vartype <> 'string' "
    "OR name IN ('server_version', 'log_min_duration_statement', 'shared_preload_libraries') ORDER BY name LIMIT 500"
)
"""Settings somebody made. No texts but two: others may hold commands, paths or passwords of a primary."""

_STATES = frozenset({"datid", "numbackends", "op_bytes"})
"""Numbers that are no sums."""


def number(value: Any) -> float | None:
    """A number of any of Postgres' types; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    found = float(value)
    return found if found == found and abs(found) < 2**63 else None


@attrs.define
class Counters:
    """The last reading of each view."""

    _before: dict[str, dict[str, dict[str, float]]] = attrs.Factory(dict)

    def read(self, view: View, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """Take a reading: for each row (`a/b` of its keys) what was added since the one before, zeros left out.

        A sum that fell began anew: what it is now was added since.
        """
        now: dict[str, dict[str, float]] = {}
        for row in rows:
            key = "/".join(str(row[name]) for name in view.keys if row[name] is not None)
            found = ((name, number(value)) for name, value in row.items() if name not in _STATES)
            now[key] = {name: value for name, value in found if value is not None}
        before = self._before.get(view.name)
        self._before[view.name] = now
        if before is None:
            return {}
        added: dict[str, dict[str, float]] = {}
        for key, sums in now.items():
            old = before.get(key, {})
            changed = {
                name: round(value - old.get(name, 0.0) if value >= old.get(name, 0.0) else value, 3)
                for name, value in sums.items()
                if value != old.get(name, 0.0)
            }
            if changed:
                added[key] = changed
        return added
