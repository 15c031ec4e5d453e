"""The journal on a real directory: order, durability, names that are given once, and what a restart knows."""

from __future__ import annotations

import errno
import random
import uuid
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.agent import disk as disk_module
from bitville_apm.agent.segment import HEADER_BYTES, Entry
from bitville_apm.agent.unread import UnreadAcks
from tests.agent.journal_rig import JournalRig, files_of, numbered, raising, result


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files, and next to nothing of them remembered."""
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 400)
    monkeypatch.setattr(limits, "RECENT_BYTES", 100)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("policy", ["never", "always"])
def test_first_in_first_out_across_memory_disk_and_restarts(tmp_path: Path, policy: str) -> None:
    """DAEMON-05, DAEMON-06: 100 records in memory at most, the rest on disk; one order, also after a crash."""
    rig = JournalRig(tmp_path / "j", policy)
    rig.append(*numbered(150))
    assert (rig.journal.backlog.memory_count, rig.journal.backlog.disk_count) == (100, 50)
    assert rig.drain(7) == numbered(150)
    rig.append(*numbered(30, 150))
    assert (rig.journal.backlog.memory_count, rig.journal.backlog.disk_count) == (30, 0)
    again = rig.again()
    assert again.journal.replayed == 180
    again.append(*numbered(5, 180))
    assert again.drain(50) == numbered(185)


@pytest.mark.usefixtures("small_segments")
def test_taking_and_appending_by_turns_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Whatever the order of appends, takes, acks and crashes: each record comes once, in order."""
    seed = 20261121
    chance = random.Random(seed)
    rig = JournalRig(tmp_path / "j")
    written: list[bytes] = []
    seen: list[bytes] = []
    acked = 0
    for _ in range(400):
        what = chance.random()
        if what < 0.45:
            new = numbered(chance.randrange(1, 60), len(written))
            rig.append(*new)
            written += new
        elif what < 0.95:
            batch = rig.take(chance.randrange(1, 80), chance.choice([50, 500, 10**6]))
            seen += [r.entry.body for r in batch]
            if batch and chance.random() < 0.7:
                rig.settle(batch)
                acked = len(seen)
        else:
            rig = rig.again()
            seen = seen[:acked]
    seen += rig.drain()
    assert seen == written
    assert rig.lost == 0
    assert (rig.journal.backlog.memory_count, rig.journal.backlog.disk_count, rig.journal.books.pending.records) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("policy", ["never", "interval"])
def test_a_sender_that_keeps_up_reads_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """What was written last is remembered, up to a bound in bytes; behind more than that the order is the disk's."""
    rig = JournalRig(tmp_path / "j", policy)
    with monkeypatch.context() as unreadable:
        unreadable.setattr(disk_module.Disk, "read", raising(errno.EIO))
        for start in range(0, 1000, 250):
            rig.append(*numbered(250, start))
            assert policy == "never" or rig.take() == []
            rig.clock.advance(limits.FSYNC_INTERVAL_S)
            assert rig.journal.backlog.memory_count == 100
            assert rig.drain(40) == numbered(250, start)
    monkeypatch.setattr(limits, "RECENT_BYTES", 1000)
    rig.append(*numbered(300))
    rig.clock.advance(limits.FSYNC_INTERVAL_S)
    assert rig.drain(80, ack=True) == numbered(300)
    assert rig.journal.backlog.disk_count == rig.journal.backlog.disk_bytes == 0
    assert rig.lost == 0


def test_only_what_is_durable_is_given_out(tmp_path: Path) -> None:
    """fsync = interval: acknowledged at once, sent only after the next fsync."""
    rig = JournalRig(tmp_path / "j", "interval")
    (written,) = rig.append(b"{}")
    assert result(written)
    assert rig.take() == []
    rig.clock.advance(limits.FSYNC_INTERVAL_S)
    assert len(rig.take()) == 1


@pytest.mark.usefixtures("small_segments")
def test_segments_go_when_acknowledged_and_the_cursor_is_written_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment is unlinked only after a cursor beyond it is durable; a restart then replays only the rest."""
    rig = JournalRig(tmp_path / "j")
    rig.append(*numbered(50))
    before = len(files_of(rig.directory))
    batch = rig.take(30)
    with monkeypatch.context() as broken:
        broken.setattr(disk_module.cursors, "write", raising(errno.EIO))
        rig.settle(batch)
        assert len(files_of(rig.directory)) == before
        assert "cursor" in rig.journal.failing
    rig.settle(batch)
    assert 0 < len(files_of(rig.directory)) < before
    again = rig.again()
    assert again.journal.replayed == 20
    assert again.drain(ack=True) == numbered(50)[30:]
    assert rig.again().drain() == []


def test_a_journal_without_a_past_gets_a_new_id(tmp_path: Path) -> None:
    """(journal, run, sequence) names a record for ever: without cursor and segments nothing may be named again."""
    rig = JournalRig(tmp_path / "j")
    rig.append(b"{}")
    first = rig.journal.journal_id
    assert rig.again().journal.journal_id == first
    (tmp_path / "j" / "id").write_bytes(b"broken")
    assert rig.again().journal.journal_id == first, "found again in the segments"
    for path in (tmp_path / "j").iterdir():
        if path.name != "id":
            path.unlink()
    assert rig.again().journal.journal_id not in (first, b"")


def test_runs_count_up_even_when_nothing_is_written(tmp_path: Path) -> None:
    """No place is given twice: each start has a run of its own."""
    places = set()
    for _ in range(4):
        JournalRig(tmp_path / "j")
        rig = JournalRig(tmp_path / "j")
        rig.append(b"{}")
        while batch := rig.take():
            places |= {r.place for r in batch}
    assert len({run for run, _ in places}) == 4


def test_one_large_record_is_a_batch_of_its_own(tmp_path: Path) -> None:
    """A batch is at most 1 MiB, or one record that is larger; a record larger than a segment has one to itself."""
    rig = JournalRig(tmp_path / "j")
    large = b'{"x":"' + b"y" * (5 * limits.MIB) + b'"}'
    rig.append(b'{"n":0}', large, b'{"n":1}')
    for _ in range(2):
        sizes = []
        while batch := rig.take():
            sizes.append([r.size for r in batch])
        assert sizes == [[7], [len(large)], [7]]
        rig = rig.again()


def test_the_ids_of_the_last_fifteen_minutes_are_known_at_start(tmp_path: Path) -> None:
    """wire.md 4: what may be in the spool as well is recognised after a crash, what is older is not kept."""
    rig = JournalRig(tmp_path / "j")
    now = 1_795_231_261_000
    old, young = (Entry("end", str(uuid.uuid4()), at, b"{}") for at in (now - 3_600_000, now))
    for each in (old, young):
        rig.journal.append(each)
        rig.clock.advance(0)
        JournalRig(tmp_path / "j")
        rig = rig.again()
    known = UnreadAcks(rig.recent)
    assert known.knows(young.id, 0.0)
    assert not known.knows(old.id, 0.0)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_died_request_may_still_end(tmp_path: Path, damaged: bool) -> None:
    """wire.md 5: the end of a request that was called died before a restart comes from the spool, and is taken."""
    rig = JournalRig(tmp_path / "j")
    died, ended = (Entry(kind, str(uuid.uuid4()), 1_795_231_261_000, b"{}") for kind in ("died", "end"))
    for each in (Entry("end", str(uuid.uuid4()), 1_795_231_260_000, b"{}"), died, ended):
        rig.journal.append(each)
        rig.clock.advance(0)
    if damaged:
        (segment,) = (tmp_path / "j").glob("*.segment")
        with segment.open("r+b") as file:
            file.seek(HEADER_BYTES + 20)
            file.write(b"\xff")
    known = UnreadAcks(rig.again().recent)
    assert not known.knows(died.id, 0.0)
    assert known.knows(ended.id, 0.0)
