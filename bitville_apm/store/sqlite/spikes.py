"""Spikes in `main.db`: they outlive the days they were in, as long as hours do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import zstandard

from bitville_apm import limits
from bitville_apm.store.interface import Projects, Spike

_COLUMNS = (
    "id, project, hosts, opened, onset, peak, over, measure, level, baseline, kind, verdict, provisional, signature,"
    " revision"
)
_READ = f"{_COLUMNS}, told"


def keep(db: sqlite3.Connection, spike: Spike) -> None:
    """Keep a spike, in the place of an older revision of it. An older revision than what is there changes nothing."""
    report = zstandard.ZstdCompressor(level=limits.PAYLOAD_LEVEL, write_checksum=True).compress(spike.report)
    db.execute(
        f"INSERT INTO spike ({_COLUMNS}, report) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
        " ON CONFLICT (id) DO UPDATE SET hosts = excluded.hosts, opened = excluded.opened, onset = excluded.onset,"
        " peak = excluded.peak, over = excluded.over, measure = excluded.measure, level = excluded.level,"
        " baseline = excluded.baseline, kind = excluded.kind, verdict = excluded.verdict,"
        " provisional = excluded.provisional, signature = excluded.signature, revision = excluded.revision,"
        " report = excluded.report WHERE excluded.revision >= spike.revision AND excluded.project = spike.project",
        (
            spike.id, spike.project, json.dumps(spike.hosts), spike.opened, spike.onset, spike.peak, spike.end,
            spike.measure, spike.level, spike.baseline, spike.kind, spike.verdict, spike.provisional, spike.signature,
            spike.revision, report,
        ),
    )  # fmt: skip


def found(
    db: sqlite3.Connection,
    projects: Projects,
    start: float,
    end: float,
    host: str | None,
    limit: int,
    signature: str | None = None,
) -> Sequence[Spike]:
    """See `IStore.spikes`."""
    question = f"SELECT {_READ}, x'' FROM spike WHERE onset < ? AND (over IS NULL OR over >= ?)"  # noqa: S608
    values: list[object] = [end, start]
    if projects is not None:
        question += f" AND project IN ({','.join('?' * len(projects))})"
        values += sorted(projects)
    if host is not None:
        question += " AND EXISTS (SELECT 1 FROM json_each(hosts) WHERE value = ?)"
        values.append(host)
    if signature is not None:
        question += " AND signature = ?"
        values.append(signature)
    rows = db.execute(f"{question} ORDER BY onset DESC, id LIMIT ?", (*values, limit))
    return [_spike(row) for row in rows]


def one(db: sqlite3.Connection, projects: Projects, id: str) -> Spike | None:
    """See `IStore.spike`."""
    row = db.execute(f"SELECT {_READ}, report FROM spike WHERE id = ?", (id,)).fetchone()  # noqa: S608
    return _spike(row) if row is not None and (projects is None or row[1] in projects) else None


def was_told(db: sqlite3.Connection, id: str, told: int) -> None:
    """See `IStore.told_spike`."""
    db.execute("UPDATE spike SET told = ? WHERE id = ? AND told < ?", (told, id, told))


def forget(db: sqlite3.Connection, before: float) -> None:
    """Forget spikes that began before a unix time, and of each project all but the newest `limits.SPIKES_KEPT`."""
    db.execute("DELETE FROM spike WHERE onset < ?", (before,))
    db.execute(
        "DELETE FROM spike WHERE id IN (SELECT id FROM"
        " (SELECT id, row_number() OVER (PARTITION BY project ORDER BY onset DESC, id) AS place FROM spike)"
        " WHERE place > ?)",
        (limits.SPIKES_KEPT,),
    )


def _spike(row: Sequence[object]) -> Spike:
    """A row of `_READ` and the report, which is empty in lists."""
    *columns, report = row
    names = ("id", "project", "hosts", "opened", "onset", "peak", "end", "measure", "level", "baseline", "kind",
             "verdict", "provisional", "signature", "revision", "told")  # fmt: skip
    values = dict(zip(names, columns, strict=True))
    values["hosts"] = json.loads(str(values["hosts"]))
    values["provisional"] = bool(values["provisional"])
    kept = bytes(report)  # type: ignore[call-overload]
    return Spike(report=zstandard.ZstdDecompressor().decompress(kept) if kept else b"", **values)  # type: ignore[arg-type]
