"""The journal over damaged files: it starts, gives what is whole, and counts what is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.agent.segment import HEADER_BYTES
from tests.agent.journal_rig import JournalRig, files_of, numbered


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of starts: what is damaged afterwards need not have been durable before."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


def three_runs(directory: Path) -> list[bytes]:
    """A journal of three runs, each of several segments: 15 records."""
    before = limits.SEGMENT_BYTES
    limits.SEGMENT_BYTES = 256
    try:
        for run in range(3):
            JournalRig(directory).append(*numbered(5, 5 * run))
    finally:
        limits.SEGMENT_BYTES = before
    return numbered(15)


def restore(directory: Path, keep: dict[Path, bytes]) -> None:
    for path in directory.iterdir():
        if path not in keep:
            path.unlink()
    for path, data in keep.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


@pytest.mark.usefixtures("quick_disk")
def test_a_flip_at_every_byte_of_every_segment(tmp_path: Path) -> None:
    """faults 14: start-up never fails, every other record is delivered, and what is lost is counted exactly."""
    directory = tmp_path / "j"
    every = three_runs(directory)
    keep = {path: path.read_bytes() for path in directory.iterdir()}
    for path in files_of(directory):
        good = keep[path]
        for at in range(len(good)):
            damaged = bytearray(good)
            damaged[at] ^= 0x80 if at % 2 else 0x01
            path.write_bytes(damaged)
            rig = JournalRig(directory)
            got = rig.drain()
            lost = 0 if at < HEADER_BYTES else 1
            assert len(got) == 15 - lost, (path.name, at)
            assert [b for b in every if b in set(got)] == got
            assert rig.lost == lost, (path.name, at)
            restore(directory, keep)


@pytest.mark.usefixtures("quick_disk")
def test_a_cut_at_every_byte_of_every_segment(tmp_path: Path) -> None:
    """faults 14: a file that ends anywhere costs what was behind; in the last one that was never acknowledged."""
    directory = tmp_path / "j"
    every = three_runs(directory)
    keep = {path: path.read_bytes() for path in directory.iterdir()}
    segments = files_of(directory)
    for path in segments:
        for at in range(0, len(keep[path]), 3):
            path.write_bytes(keep[path][:at])
            rig = JournalRig(directory)
            got = rig.drain()
            assert [b for b in every if b in set(got)] == got
            if path == segments[-1]:
                assert rig.lost == 0
                assert got == every[: len(got)]
            else:
                assert rig.lost == 15 - len(got), (path.name, at)
            restore(directory, keep)


def test_a_missing_segment_is_lost_exactly(tmp_path: Path) -> None:
    """faults 15: any one segment gone, also the last of a run: its records are counted, the others come.

    The first may have gone because all of it was acknowledged, as far as the journal tells: unless its cursor
    says that it was not. Nothing tells of the last.
    """
    directory = tmp_path / "j"
    three_runs(directory)
    rig = JournalRig(directory)
    rig.settle(rig.take(1))
    keep = {path: path.read_bytes() for path in directory.iterdir()}
    for path in files_of(directory)[:-1]:
        path.unlink()
        rig = JournalRig(directory)
        got = rig.drain()
        assert rig.lost == 14 - len(got), path.name
        assert rig.lost > 0
        restore(directory, keep)


@pytest.mark.usefixtures("quick_disk")
def test_corrupt_or_missing_cursor_sends_again(tmp_path: Path) -> None:
    """faults 15: without its cursor, or with the older one, a journal resends what it still has; none is lost."""
    directory = tmp_path / "j"
    three_runs(directory)
    rig = JournalRig(directory)
    taken = [rig.take(2) for _ in range(3)]
    for batch in taken:
        rig.settle(batch)
    keep = {path: path.read_bytes() for path in directory.iterdir()}
    rest = numbered(15)[sum(map(len, taken)) :]
    assert rig.again().drain() == rest
    restore(directory, keep)
    cursor = directory / "cursor"
    damages = [None, b"", keep[cursor][:700], bytes(1024), b"\xff" * 1024, os.urandom(1024)]
    damages += [
        bytes(b ^ (0x20 if i == at else 0) for i, b in enumerate(keep[cursor]))
        for at in (0, 5, 13, 25, 37, 41, 512, 517, 525, 555)
    ]
    for damage in damages:
        cursor.unlink() if damage is None else cursor.write_bytes(damage)
        rig = JournalRig(directory)
        got = rig.drain()
        assert got[-len(rest) :] == rest
        assert rig.lost == 0
        restore(directory, keep)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["flip", "cut", "zero", "insert"]), st.integers(0, 10**6)), max_size=4))
def test_any_damage_starts_and_invents_nothing(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, int]]
) -> None:
    """faults 14: several damages at once: it starts, gives only what was written, in order, and takes new records."""
    directory = tmp_path_factory.mktemp("j") / "j"
    every = three_runs(directory)
    for what, where in damages:
        path = files_of(directory)[where % len(files_of(directory))]
        data = bytearray(path.read_bytes())
        at = where % max(1, len(data))
        if what == "flip" and data:
            data[at] ^= 0xFF
        elif what == "cut":
            del data[at:]
        elif what == "zero":
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        else:
            data[at:at] = b"\x91BV\nrubbish"
        path.write_bytes(data)
    rig = JournalRig(directory)
    rig.append(b'{"new":1}')
    got = rig.drain()
    assert got[-1] == b'{"new":1}'
    assert [b for b in every if b in set(got)] == got[:-1]
