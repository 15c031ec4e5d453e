"""What is in a journal's directory, for a person: reading only, beside a running agent too. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from bitville_apm.agent import cursor as cursors
from bitville_apm.agent import recovery, segment
from bitville_apm.agent.cursor import Cursor
from bitville_apm.agent.reader import Reader
from bitville_apm.agent.recovery import Segment
from bitville_apm.agent.segment import LOCAL, Damage, Place, Record
from bitville_apm.agent.totals import NONE, Count


@attrs.frozen
class Damaged:
    """Bytes of a segment that are no record."""

    name: str
    start: int
    end: int


@attrs.frozen
class Survey:
    """One journal. `cursor` says how that is: whole, older (one of its slots cannot be read), or lost.

    `records` are those in its segments, of any kind; `lost` is what waits and cannot be read any more. Both, and
    `damaged`, are None when only headers were read.
    """

    directory: Path
    journal_id: str
    segments: list[Segment]
    cursor: str
    at: Cursor
    entered: Count
    records: int | None = None
    damaged: list[Damaged] | None = None
    lost: Count | None = None

    @property
    def pending(self) -> Count:
        """What waits for the collector."""
        return self.entered.beyond(self.at.totals.all)

    @property
    def bytes(self) -> int:
        """Of all segments."""
        return sum(file.size for file in self.segments)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged, as far as was looked."""
        return self.cursor != "lost" and not self.damaged and (self.lost is None or self.lost == NONE)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        totals = {name: attrs.asdict(self.at.totals, recurse=False)[name].records for name in _TOTALS}
        told: dict[str, Any] = {
            "directory": str(self.directory),
            "journal_id": self.journal_id,
            "segments": [{"name": s.path.name, "bytes": s.size, "made_ms": s.made_ms} for s in self.segments],
            "bytes": self.bytes,
            "cursor": {"state": self.cursor, "acked": self.at.acked, "covered": self.at.covered, "run": self.at.run},
            "entered": self.entered.records,
            "pending": self.pending.records,
            "totals": totals,
        }
        if self.damaged is not None and self.lost is not None:
            told["records"] = self.records
            told["damaged"] = [{"segment": d.name, "from": d.start, "to": d.end} for d in self.damaged]
            told["lost"] = {"records": self.lost.records, "requests": self.lost.requests}
        return told


_TOTALS = [field.name for field in attrs.fields(type(Cursor().totals))]


def journals(directory: Path) -> Iterator[Path]:
    """The journals of an agent's `journal` directory: of each pipeline its records and its frames."""
    for pipeline in sorted(path for path in directory.iterdir() if path.is_dir()):
        yield pipeline
        if (pipeline / "frames").is_dir():
            yield pipeline / "frames"


def is_journal(directory: Path) -> bool:
    """Whether this is the directory of one journal."""
    return (directory / "cursor").exists() or any(directory.glob("*.segment"))


def headers(directory: Path) -> Survey:
    """What headers, cursor and the last segment tell. Raises `OSError`."""
    at, sure = cursors.read(directory / "cursor")
    segments = recovery.listed(directory)
    id_ = next((s.journal_id for s in segments if s.journal_id), b"")
    if (directory / "id").exists():
        id_ = (directory / "id").read_bytes()
    ended = recovery.ended(segments)
    cursor = at or Cursor()
    state = "whole" if sure or (at is None and not segments) else "older" if at is not None else "lost"
    entered = ended.entered + cursor.totals.all.beyond(ended.entered)
    return Survey(directory, id_.hex(), segments, state, cursor, entered)


def whole(directory: Path) -> Survey:
    """Read everything. Raises `OSError`."""
    survey = headers(directory)
    records, damaged = 0, []
    for file in survey.segments:
        last = file is survey.segments[-1]
        for start, end, what in segment.walk(recovery.contents(file.path), file.run, closed=not last):
            if isinstance(what, Record):
                records += 1
            elif isinstance(what, Damage) or not last:
                damaged.append(Damaged(file.path.name, start, end))
        if segment.decoded_header(recovery.contents(file.path, most=segment.HEADER_BYTES)) is None:
            damaged.insert(0, Damaged(file.path.name, 0, segment.HEADER_BYTES))
    lost = NONE
    for _, count in _losses(survey):
        lost += count
    # What a running agent has removed meanwhile is not missing.
    now = cursors.read(directory / "cursor")[0] or survey.at
    if now.acked > survey.at.acked:
        gone = {file.path.name for file in survey.segments if not file.path.exists()}
        damaged = [d for d in damaged if d.name not in gone]
        lost = sum((count for place, count in _losses(survey) if place > now.acked), NONE)
    return attrs.evolve(survey, records=records, damaged=damaged, lost=lost)


def _losses(survey: Survey) -> Iterator[tuple[Place, Count]]:
    """What is missing behind the cursor, each with the place that is past it."""
    entered = survey.at.totals.all
    through = (survey.segments[-1].run + 1, 0) if survey.segments else (0, 0)
    start = survey.segments[0] if survey.segments else None
    after = survey.at.acked
    if start is not None and survey.cursor != "whole" and start.start > after and start.before is not None:
        after, entered = start.start, start.before
    for found in Reader().records(survey.segments, after, through, survey.entered):
        known = found.before if isinstance(found, Record) else found.entered
        if known is not None and (missing := known.beyond(entered)) != NONE:
            yield found.place, missing
            entered += missing
        if isinstance(found, Record):
            entered += found.entry.count


def forwardable(paths: list[Path]) -> Iterator[tuple[bytes, Record]]:
    """The records to be sent of journals and single segments, each with its journal's id. Raises `OSError`."""
    for path in paths:
        files = recovery.listed(path) if path.is_dir() else [_single(path)]
        for file in files:
            for _, _, what in segment.walk(recovery.contents(file.path), file.run, closed=True):
                if isinstance(what, Record) and not what.entry.flags & LOCAL:
                    yield file.journal_id, what


def _single(path: Path) -> Segment:
    data = path.read_bytes()
    header = segment.decoded_header(data)
    place = segment.named(path.name)
    if header is None and place is None:
        raise ValueError(f"{path} is no segment of a journal")
    if header is None:
        return Segment(*(place or (0, 0)), path)
    return Segment(header.run, header.first, path, len(data), header.before, header.made_ms, header.journal_id)
