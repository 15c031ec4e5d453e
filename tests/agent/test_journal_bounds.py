"""What a journal drops when there is too much of it, what stays here, and that the books balance throughout."""

from __future__ import annotations

import os
import random
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.segment import LOCAL, Entry, Record
from bitville_apm.agent.steps import ClockSteps
from bitville_apm.agent.totals import NONE, Count, Totals
from tests.agent.journal_rig import at_once, done, files_of, numbered, result

NOW_MS = 1_795_231_261_000
DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 1000)


class Bounded:
    """A journal with a bound, whose clocks are set by hand."""

    def __init__(self, directory: Path, most: int | None = 4000, counted: bool = False) -> None:
        self.directory = directory
        self.wall = NOW_MS / 1000
        self.clock = Clock()
        self.journal = Journal(Disk(directory, "never", most, counted), at_once, self.clock, lambda: self.wall)
        done(self.journal.start())
        self.hand: list[Record] = []

    def append(self, n: int, flags: int = 0, requests: int = 1, size: int = 100) -> None:
        for body in numbered(n):
            line = body.ljust(size)
            self.journal.append(Entry("end", str(uuid.uuid4()), int(self.wall * 1000), line, flags, requests))
        self.clock.advance(0)

    def take(self, n: int) -> list[Record]:
        self.hand += done(self.journal.take(n, 10**6))
        return self.hand

    def settle(self, n: int) -> None:
        part, self.hand = self.hand[:n], self.hand[n:]
        result(self.journal.settle(part[-1].place, Totals(stored=counted(part))))

    def balances(self) -> None:
        journal = self.journal
        waiting = journal.backlog.memory_count + journal.backlog.disk_count
        assert journal.books.entered.records == journal.books.totals.all.records + len(self.hand) + waiting

    def again(self) -> Bounded:
        return Bounded(self.directory, self.journal.disk.most_bytes, self.journal.disk.counted)


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in files_of(directory))


def test_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    """faults 23: beyond its bound whole segments go, oldest first; records and requests are counted, the rest comes."""
    rig = Bounded(tmp_path / "j")
    for _ in range(20):
        rig.append(5, requests=3)
        assert size_of(rig.directory) <= 4000 + 1000
        rig.balances()
    dropped = rig.journal.books.totals.dropped_bytes
    assert dropped.records > 50
    assert dropped.requests == 3 * dropped.records
    came = rig.take(500)
    assert len(came) == 100 - dropped.records
    assert [r.sequence for r in came] == list(range(dropped.records + 1, 101))
    again = rig.again()
    assert (again.journal.books.totals.dropped_bytes, again.journal.books.pending) == (dropped, counted(came))


def test_what_is_in_the_senders_hand_becomes_what_it_becomes(tmp_path: Path) -> None:
    """A segment goes while its records are being sent: they are stored if they are, and dropped if a crash comes."""
    rig = Bounded(tmp_path / "j")
    rig.append(10)
    rig.take(8)
    rig.append(60)
    rig.balances()
    assert rig.journal.books.totals.dropped_bytes.records > 0
    killed = rig.again()
    assert killed.journal.books.entered.records == 70
    assert killed.journal.books.totals.dropped_bytes.records == rig.journal.books.totals.dropped_bytes.records + 8
    killed.balances()


def test_a_hand_that_is_settled_after_its_segment_went(tmp_path: Path) -> None:
    """As above, without the crash: a part of it at a time, each record in one of the totals."""
    rig = Bounded(tmp_path / "j")
    rig.append(10)
    rig.take(8)
    rig.append(60)
    dropped = rig.journal.books.totals.dropped_bytes.records
    for n in (1, 3, 4):
        rig.settle(n)
        rig.balances()
    assert rig.journal.books.totals.stored.records == 8
    assert rig.journal.books.totals.dropped_bytes.records == dropped
    again = rig.again()
    assert (again.journal.books.totals, again.journal.books.pending.records) == (
        rig.journal.books.totals,
        70 - 8 - dropped,
    )


def test_any_order_of_appends_takes_and_settles_under_a_bound(tmp_path: Path) -> None:
    """faults 23: the ledger's error is 0 after each step and each crash, and what comes is never dropped as well."""
    chance = random.Random(20261121)
    rig = Bounded(tmp_path / "j")
    for _ in range(600):
        what = chance.random()
        if what < 0.5:
            rig.append(
                chance.randrange(1, 9), LOCAL if chance.random() < 0.3 else 0, size=chance.choice([20, 100, 700])
            )
        elif what < 0.7 and not rig.hand:
            rig.take(chance.randrange(1, 30))
        elif what < 0.95 and rig.hand:
            rig.settle(chance.randrange(1, len(rig.hand) + 1))
        elif what >= 0.95:
            before = rig.journal.books.entered
            rig = rig.again()
            assert rig.journal.books.entered == before
        rig.balances()
        assert size_of(rig.directory) <= 4000 + 3 * 1000
    if rig.hand:
        rig.settle(len(rig.hand))
    while rig.take(100):
        rig.settle(len(rig.hand))
    assert rig.journal.books.pending == NONE
    assert rig.journal.books.totals.corrupt == NONE
    assert rig.journal.books.totals.dropped_bytes.records > 100


def test_a_small_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 % of what the file system has is the most, where that is less; what others have put there drops nothing."""
    small = SimpleNamespace(f_blocks=5, f_frsize=1000, f_bavail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    rig = Bounded(tmp_path / "j", 10**6)
    rig.append(20)
    assert rig.journal.books.totals.all == NONE
    rig.append(60)
    assert size_of(rig.directory) <= 4000 + 1000
    assert rig.journal.books.totals.dropped_no_space.records > 0
    assert rig.journal.books.totals.all == rig.journal.books.totals.dropped_no_space
    rig.balances()


def test_frames_count_for_the_bound_and_go_only_by_age(tmp_path: Path) -> None:
    """Over the bound records go first; a journal of frames keeps what it has until it is six days old."""
    frames = Bounded(tmp_path / "j" / "frames", None)
    frames.append(30)
    rig = Bounded(tmp_path / "j", 8000)
    rig.append(30)
    assert rig.journal.books.totals.dropped_bytes.records > 0
    assert size_of(tmp_path / "j") + size_of(tmp_path / "j" / "frames") <= 8000
    assert frames.journal.books.totals.all == NONE
    for _ in range(5):
        frames.wall += DAY_S
        frames.clock.advance(DAY_S)
    frames.append(1)
    assert frames.journal.books.totals.all == NONE
    frames.wall += 1.5 * DAY_S
    frames.clock.advance(1.5 * DAY_S)
    assert 0 < frames.journal.books.totals.dropped_age.records < 31
    frames.balances()


def test_a_clock_that_jumped_drops_nothing(tmp_path: Path) -> None:
    """faults 17: a wall clock set ten days ahead is doubted for a day of real time."""
    rig = Bounded(tmp_path / "j", None)
    rig.append(30)
    rig.clock.advance(limits.JOURNAL_LOOK_S)
    rig.wall += limits.JOURNAL_LOOK_S + 10 * DAY_S
    rig.clock.advance(limits.JOURNAL_LOOK_S)
    rig.clock.advance(limits.JOURNAL_LOOK_S)
    assert rig.journal.books.totals.dropped_age == NONE
    rig.clock.advance(limits.CLOCK_DOUBTED_S)
    assert rig.journal.books.totals.dropped_age.records > 0


def test_clock_steps() -> None:
    """Real time that passes is no step, nor is a clock set back; a jump ahead is doubted for a day."""
    steps = ClockSteps()
    assert steps.trusted(1000.0, 0.0) == 1000.0
    assert steps.trusted(1000.0 + 5 * DAY_S, 5 * DAY_S) == 1000.0 + 5 * DAY_S
    assert steps.trusted(0.0, 5 * DAY_S + 60) == 0.0
    assert steps.trusted(10 * DAY_S, 5 * DAY_S + 120) is None
    assert steps.trusted(10 * DAY_S + 60, 5 * DAY_S + 180) is None
    assert steps.trusted(11 * DAY_S + 180, 6 * DAY_S + 180) == 11 * DAY_S + 180


def test_what_stays_here_is_never_sent_and_holds_nothing_up(tmp_path: Path) -> None:
    """LOCAL: not given to the sender, in none of the totals, and its segments go once frames cover them."""
    rig = Bounded(tmp_path / "j", counted=True)
    rig.append(30, LOCAL)
    rig.append(1)
    rig.append(1, LOCAL)
    assert rig.journal.books.pending == Count(1, 1)
    assert [r.sequence for r in rig.take(100)] == [31]
    rig.settle(1)
    assert len(files_of(rig.directory)) > 1, "no frame counts them yet"
    read = done(rig.journal.read_back((0, 0), 20, 10**6))
    assert len(read.records) == 20
    result(rig.journal.covered((1, 32)))
    assert len(files_of(rig.directory)) == 1
    assert rig.journal.books.totals.all == Count(1, 1)
    rig.append(40, LOCAL)
    result(rig.journal.covered((1, 72)))
    assert len(files_of(rig.directory)) == 1, "nobody ever settles anything"
    again = rig.again()
    assert again.journal.covered_through >= (1, 72)
    assert done(again.journal.read_back(again.journal.covered_through, 20, 10**6)).records == []


def test_a_group_is_durable_when_it_fires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """append_together under `never`: an fsync before it fires, and the place of its last record."""
    rig = Bounded(tmp_path / "j")
    rig.append(1)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    entries = [Entry("frame", str(uuid.uuid4()), NOW_MS, b"{}", 0, n) for n in (5, 6, 7)]
    placed = rig.journal.append_together(entries)
    rig.clock.advance(0)
    assert synced
    assert result(placed) == (1, 4)
    assert [r.entry.requests for r in rig.take(10)] == [1, 5, 6, 7]
