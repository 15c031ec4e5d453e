"""Fault row 14: a segment of 64 KB, damaged at every byte."""

from __future__ import annotations

import os
import random
import shutil
import uuid
from pathlib import Path

import attrs
import pytest

from bitville_apm import limits
from bitville_apm.agent import segment
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.segment import LOCAL, Entry, Place, Record
from bitville_apm.agent.totals import Count
from tests.faults.tools.counts import Progress, chance, counts, say

SEGMENT_BYTES = 64 * 1024
KINDS = ("flip", "cut", "zero", "insert")


@attrs.frozen
class Written:
    """A journal of two segments; of the first, where each record begins and ends."""

    directory: Path
    data: bytes
    spans: list[tuple[int, int, Record]]
    places: set[Place]
    entered: Count

    @property
    def path(self) -> Path:
        return self.directory / segment.name(1, 1)


def written(directory: Path, random: random.Random) -> Written:
    """Short records and whole ones, some of them frames of many requests, some not to be forwarded."""
    disk = Disk(directory, "never")
    disk.open()
    before = limits.SEGMENT_BYTES
    limits.SEGMENT_BYTES = SEGMENT_BYTES
    try:
        while disk.segments < 3:
            entry = Entry(
                "end",
                str(uuid.uuid4()),
                1_795_231_261_000,
                b'{"x":"%b"}' % (b"y" * random.choice([40, 700, 8000])),
                random.choice([0, LOCAL]),
                random.choice([1, 1, 500]),
            )
            assert disk.append([entry]).error is None
        entered = disk._open().entered
    finally:
        limits.SEGMENT_BYTES = before
    disk.close()
    data = (directory / segment.name(1, 1)).read_bytes()
    spans = [(start, end, what) for start, end, what in segment.walk(data, 1) if isinstance(what, Record)]
    every = [
        what
        for path in sorted(directory.glob("*.segment"))
        for _, _, what in segment.walk(path.read_bytes(), 1)
        if isinstance(what, Record)
    ]
    return Written(directory, data, spans, {r.place for r in every if not r.entry.flags & LOCAL}, entered)


def damaged(data: bytes, kind: str, at: int, random: random.Random) -> tuple[bytes, int, int]:
    """What a fault leaves of these bytes, and from where to where they are no longer what they were."""
    length = random.choice([1, 16, 200])
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ random.randrange(1, 256)]) + data[at + 1 :], at, at + 1
    if kind == "cut":
        return data[:at] + data[at + length :], at, min(len(data), at + length)
    if kind == "zero":
        zeros = bytes(min(length, len(data) - at))
        changed = [n for n in range(at, at + len(zeros)) if data[n]]
        first, last = (changed[0], changed[-1] + 1) if changed else (at, at)
        return data[:at] + zeros + data[at + len(zeros) :], first, last
    rubbish = random.choice([b"\x91BV\n", b"{}\n", bytes(8), random.randbytes(length)])
    return data[:at] + rubbish + data[at:], at, at


def read(directory: Path) -> tuple[set[Place], Count, Count]:
    """What a start finds: places delivered, what they count, what was lost."""
    disk = Disk(directory, "never")
    found = disk.open()
    place, entered, seen = found.acked, found.totals.all, set()
    got, lost = Count(), Count()
    while True:
        part = disk.read(place, entered, 500, limits.BATCH_BYTES)
        for record in part.records:
            assert record.place not in seen
            seen.add(record.place)
            got += record.entry.count
        for _, count in part.losses:
            lost += count
        if part.through == place:
            disk.close()
            return seen, got, lost
        place, entered = part.through, part.entered


@pytest.mark.parametrize("sample", counts("14 damages"))
def test_damage_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int) -> None:
    """Row 14: bytes flipped, cut out, zeroed, inserted: it starts, every other record comes, the loss is exact."""
    # Nothing here is about power: what is damaged was durable.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)
    random = chance(14)
    journal = written(tmp_path / "j", random)
    assert SEGMENT_BYTES - 9000 < len(journal.data) <= SEGMENT_BYTES
    keep = {path.name: path.read_bytes() for path in journal.directory.iterdir()}
    every = [(kind, at) for at in range(len(journal.data)) for kind in KINDS]
    chosen = random.sample(every, sample) if sample else every
    progress = Progress(14, len(chosen), "damages")
    lost_in_all = 0
    for n, (kind, at) in enumerate(chosen, 1):
        data, start, end = damaged(journal.data, kind, at, random)
        journal.path.write_bytes(data)
        split = kind == "insert"
        hit = [
            record
            for first, last, record in journal.spans
            if (first < start < last if split else first < end and start < last and start < end)
        ]
        expected = sum((r.entry.count for r in hit), Count())
        got, counted, lost = read(journal.directory)
        where = (kind, at)
        assert got == journal.places - {r.place for r in hit}, where
        assert lost == expected, where
        assert counted + lost == journal.entered, where
        lost_in_all += lost.records
        for path in journal.directory.iterdir():
            if path.name not in keep:
                path.unlink()
        for name, content in keep.items():
            (journal.directory / name).write_bytes(content)
        progress.at(n, lost=lost_in_all)
    say(f"row 14: {len(chosen)} damages, {lost_in_all} records lost and counted, none besides")
    shutil.rmtree(journal.directory)
