"""Slow drifts in `main.db`: of each project what the last night found."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import zstandard

from bitville_apm import limits
from bitville_apm.store.interface import Drifts, Projects


def keep(db: sqlite3.Connection, drifts: Drifts) -> None:
    """See `IStore.keep_drifts`."""
    found = zstandard.ZstdCompressor(level=limits.PAYLOAD_LEVEL, write_checksum=True).compress(drifts.found)
    db.execute(
        "INSERT INTO drift (project, day, made, days, left_out, found) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (project) DO UPDATE SET day = excluded.day, made = excluded.made, days = excluded.days,"
        " left_out = excluded.left_out, found = excluded.found",
        (drifts.project, drifts.day, drifts.made, drifts.days, drifts.left_out, found),
    )


def kept(db: sqlite3.Connection, projects: Projects) -> Sequence[Drifts]:
    """See `IStore.drifts`."""
    question, values = "SELECT project, day, made, days, left_out, found FROM drift", []
    if projects is not None:
        question += f" WHERE project IN ({','.join('?' * len(projects))})"
        values = sorted(projects)
    return [
        Drifts(
            project=project, day=day, made=made, days=days, left_out=left_out,
            found=zstandard.ZstdDecompressor().decompress(found),
        )
        for project, day, made, days, left_out, found in db.execute(f"{question} ORDER BY project", values)
    ]  # fmt: skip


def forget(db: sqlite3.Connection, before: float) -> None:
    """Forget projects of which no day from a unix time on was compared."""
    db.execute("DELETE FROM drift WHERE day < ?", (before,))
