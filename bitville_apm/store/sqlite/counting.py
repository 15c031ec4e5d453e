"""How many records a store has, from when to when, and whose they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from bitville_apm.store.interface import Statistics


def counted(db: sqlite3.Connection, project: int) -> Statistics:
    """One project in one day file."""
    requests, *ends = _ends(db, "request", project)
    observations, *others = _ends(db, "postgres", project)
    return Statistics(requests=requests, observations=observations, **_outermost([*ends, *others]))


_BYTES = """
    SELECT text, total(size) FROM (
        SELECT project, length(body) AS size FROM request JOIN payload USING (row)
        UNION ALL SELECT project, length(body) FROM frame
        UNION ALL SELECT project, length(body) FROM postgres
    ) JOIN name ON name.id = project GROUP BY project ORDER BY 2 DESC
"""


def heaviest(db: sqlite3.Connection) -> tuple[str, float] | None:
    """The project that most of a day file's bytes belong to, and its share of them (0..1). Reads most of the file."""
    sizes = db.execute(_BYTES).fetchall()
    return (sizes[0][0], sizes[0][1] / (sum(size for _, size in sizes) or 1.0)) if sizes else None


def _ends(db: sqlite3.Connection, table: str, project: int) -> tuple[int, float | None, float | None]:
    """Rows, the oldest and the newest time: three looks into an index each."""
    count = db.execute(f"SELECT count(*) FROM {table} WHERE project = ?", (project,)).fetchone()[0]  # noqa: S608
    oldest = db.execute(f"SELECT min(at) FROM {table} WHERE project = ?", (project,)).fetchone()[0]  # noqa: S608
    newest = db.execute(f"SELECT max(at) FROM {table} WHERE project = ?", (project,)).fetchone()[0]  # noqa: S608
    return count, oldest, newest


def _outermost(times: Iterable[float | None]) -> dict[str, float | None]:
    known = [time for time in times if time is not None]
    return {"oldest": min(known, default=None), "newest": max(known, default=None)}


def together(parts: Iterable[Statistics]) -> Statistics:
    """Several days or projects as one."""
    parts = list(parts)
    return Statistics(
        requests=sum(part.requests for part in parts),
        observations=sum(part.observations for part in parts),
        **_outermost(time for part in parts for time in (part.oldest, part.newest)),
    )
