"""The journal on a real directory: order, durability, damage, disks that refuse. Its thread is called in place."""

from __future__ import annotations

import errno
import os
import random
import uuid
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent import disk as disk_module
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import counted
from bitville_apm.agent.segment import HEADER_BYTES, Entry, Record
from bitville_apm.agent.totals import Totals
from bitville_apm.agent.unread import UnreadAcks
from bitville_apm.agent.writer import Writer


def at_once(function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
    return maybeDeferred(function, *arguments)


def result(deferred: Deferred[Any]) -> Any:
    """What a Deferred that has fired gave; raises what it failed with."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    (value,) = outcome
    if hasattr(value, "raiseException"):
        value.raiseException()
    return value


def done(coroutine: Any) -> Any:
    return result(Deferred.fromCoroutine(coroutine))


NOW = 1_795_231_300.0


class Rig:
    """A journal in a directory, with a clock that stands still."""

    def __init__(self, directory: Path, policy: str = "never") -> None:
        self.directory = directory
        self.clock = Clock()
        self.recent: array[int] = array("Q")
        self.hand: list[Record] = []
        self.journal = Journal(Disk(directory, policy), at_once, self.clock, lambda: NOW, on_open=self.opened)
        done(self.journal.start())

    def opened(self, recent: array[int]) -> None:
        self.recent = recent

    def append(self, *bodies: bytes) -> list[Deferred[None]]:
        deferreds = [self.journal.append(entry(body)) for body in bodies]
        self.clock.advance(0)
        return deferreds

    def take(self, items: int = 500, size: int = limits.BATCH_BYTES) -> list[Record]:
        taken: list[Record] = done(self.journal.take(items, size))
        self.hand += taken
        return taken

    def drain(self, items: int = 500, *, ack: bool = False) -> list[bytes]:
        found: list[Record] = []
        while batch := self.take(items):
            found += batch
            if ack:
                self.settle(batch)
        return [r.entry.body for r in found]

    def settle(self, records: list[Record]) -> None:
        """These and all taken before them are stored."""
        through = records[-1].place
        stored = counted([r for r in self.hand if r.place <= through])
        self.hand = [r for r in self.hand if r.place > through]
        result(self.journal.settle(through, Totals(stored=stored)))

    @property
    def lost(self) -> int:
        """Damaged records, once all that was taken is settled."""
        if self.hand:
            self.settle(self.hand)
        return self.journal.books.totals.corrupt.records

    def again(self, policy: str = "never") -> Rig:
        """As after a crash: nothing is closed in order."""
        return Rig(self.directory, policy)


def entry(body: bytes) -> Entry:
    return Entry("end", str(uuid.uuid4()), 1_795_231_261_000, body)


def numbered(n: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % i for i in range(start, start + n)]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 400)


def files_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.segment"))


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("policy", ["never", "always"])
def test_first_in_first_out_across_memory_disk_and_restarts(tmp_path: Path, policy: str) -> None:
    """DAEMON-05, DAEMON-06: 100 records in memory at most, the rest on disk; one order, also after a crash."""
    rig = Rig(tmp_path / "j", policy)
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
    rig = Rig(tmp_path / "j")
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


def test_only_what_is_durable_is_given_out(tmp_path: Path) -> None:
    """fsync = interval: acknowledged at once, sent only after the next fsync."""
    rig = Rig(tmp_path / "j", "interval")
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
    rig = Rig(tmp_path / "j")
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


def raising(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_gets_no_ack_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Full, broken, read-only: the append fails, nothing of it stays, the next one succeeds when the disk does."""
    rig = Rig(tmp_path / "j", "always")
    rig.append(*numbered(3))
    with monkeypatch.context() as broken:
        real = os.pwrite
        calls = []

        def half(descriptor: int, data: bytes, at: int) -> int:
            calls.append(at)
            if len(calls) > 1:
                raise OSError(number, os.strerror(number))
            return real(descriptor, bytes(data)[:30], at)

        broken.setattr(os, "pwrite", half)
        (refused,) = rig.append(b'{"lost":true}')
        with pytest.raises(NotWritten):
            result(refused)
    assert rig.journal.failing
    rig.append(*numbered(2, 3))
    assert rig.journal.failing == ""
    assert rig.drain() == numbered(5)
    assert rig.again().drain() == numbered(5)


def test_an_fsync_that_fails_is_not_acknowledged_under_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync = always: what was written but is not durable is taken back and refused."""
    rig = Rig(tmp_path / "j", "always")
    rig.append(b'{"n":0}')
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", raising(errno.EIO))
        (refused,) = rig.append(b'{"lost":true}')
        with pytest.raises(NotWritten):
            result(refused)
    rig.append(b'{"n":1}')
    assert rig.again().drain() == numbered(2)


def test_a_write_that_cannot_even_be_taken_back_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused data never comes back to life: it is cut off before anything is written behind it."""
    rig = Rig(tmp_path / "j", "always")
    rig.append(b'{"n":0}')
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", raising(errno.EIO))
        broken.setattr(os, "ftruncate", raising(errno.EIO))
        rig.append(b'{"lost":true}')[0].addErrback(lambda f: f.trap(NotWritten))
        rig.append(b'{"lost":true}')[0].addErrback(lambda f: f.trap(NotWritten))
    rig.append(b'{"n":1}')
    assert rig.drain() == numbered(2)
    assert rig.again().drain() == numbered(2)


def test_part_of_a_turn_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills within a turn, what fitted is acknowledged and the rest is not."""
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 400)
    rig = Rig(tmp_path / "j")
    real = Writer._begin
    made = []

    def second_fails(writer: Writer, now_ms: int) -> None:
        made.append(now_ms)
        if len(made) > 1:
            raise OSError(errno.ENOSPC, "full")
        real(writer, now_ms)

    with monkeypatch.context() as broken:
        broken.setattr(Writer, "_begin", second_fails)
        deferreds = rig.append(*numbered(20))
        written = 0
        for deferred in deferreds:
            try:
                result(deferred)
                written += 1
            except NotWritten:
                continue
    assert 0 < written < 20
    assert rig.again().drain() == numbered(written)


def test_a_directory_that_cannot_be_made_is_tried_again_with_every_append(tmp_path: Path) -> None:
    """The agent starts on a disk it cannot write to, acknowledges nothing, and recovers by itself."""
    (tmp_path / "j").write_text("in the way")
    rig = Rig(tmp_path / "j")
    (refused,) = rig.append(b"{}")
    with pytest.raises(NotWritten):
        result(refused)
    (tmp_path / "j").unlink()
    (written,) = rig.append(b"{}")
    assert result(written)
    assert len(rig.take()) == 1


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
            Rig(directory).append(*numbered(5, 5 * run))
    finally:
        limits.SEGMENT_BYTES = before
    return numbered(15)


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
            rig = Rig(directory)
            got = rig.drain()
            lost = 0 if at < HEADER_BYTES else 1
            assert len(got) == 15 - lost, (path.name, at)
            assert [b for b in every if b in set(got)] == got
            assert rig.lost == lost, (path.name, at)
            restore(directory, keep)


def restore(directory: Path, keep: dict[Path, bytes]) -> None:
    for path in directory.iterdir():
        if path not in keep:
            path.unlink()
    for path, data in keep.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


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
            rig = Rig(directory)
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
    rig = Rig(directory)
    rig.settle(rig.take(1))
    keep = {path: path.read_bytes() for path in directory.iterdir()}
    for path in files_of(directory)[:-1]:
        path.unlink()
        rig = Rig(directory)
        got = rig.drain()
        assert rig.lost == 14 - len(got), path.name
        assert rig.lost > 0
        restore(directory, keep)


@pytest.mark.usefixtures("quick_disk")
def test_corrupt_or_missing_cursor_sends_again(tmp_path: Path) -> None:
    """faults 15: without its cursor, or with the older one, a journal resends what it still has; none is lost."""
    directory = tmp_path / "j"
    three_runs(directory)
    rig = Rig(directory)
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
        rig = Rig(directory)
        got = rig.drain()
        assert got[-len(rest) :] == rest
        assert rig.lost == 0
        restore(directory, keep)


def test_a_journal_without_a_past_gets_a_new_id(tmp_path: Path) -> None:
    """(journal, run, sequence) names a record for ever: without cursor and segments nothing may be named again."""
    rig = Rig(tmp_path / "j")
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
        Rig(tmp_path / "j")
        rig = Rig(tmp_path / "j")
        rig.append(b"{}")
        while batch := rig.take():
            places |= {r.place for r in batch}
    assert len({run for run, _ in places}) == 4


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
    rig = Rig(directory)
    rig.append(b'{"new":1}')
    got = rig.drain()
    assert got[-1] == b'{"new":1}'
    assert [b for b in every if b in set(got)] == got[:-1]


def test_one_large_record_is_a_batch_of_its_own(tmp_path: Path) -> None:
    """A batch is at most 1 MiB, or one record that is larger; a record larger than a segment has one to itself."""
    rig = Rig(tmp_path / "j")
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
    rig = Rig(tmp_path / "j")
    now = 1_795_231_261_000
    old, young = (Entry("end", str(uuid.uuid4()), at, b"{}") for at in (now - 3_600_000, now))
    for each in (old, young):
        rig.journal.append(each)
        rig.clock.advance(0)
        Rig(tmp_path / "j")
        rig = rig.again()
    known = UnreadAcks(rig.recent)
    assert known.knows(young.id, 0.0)
    assert not known.knows(old.id, 0.0)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_died_request_may_still_end(tmp_path: Path, damaged: bool) -> None:
    """wire.md 5: the end of a request that was called died before a restart comes from the spool, and is taken."""
    rig = Rig(tmp_path / "j")
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


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "no")])
def test_thousands_may_wait_for_a_slow_disk(tmp_path: Path, error: OSError | None) -> None:
    """COMM-03: however many lines came before a journal is open, each hears of it, in order, or that it is not."""
    opening: list[Deferred[Any]] = []
    disk = Disk(tmp_path, "never")

    def slow(function: Callable[..., Any], /, *arguments: object) -> Deferred[Any]:
        opening.append(Deferred())
        return opening[-1].addCallback(lambda _: function(*arguments))

    journal = Journal(disk, slow, Clock(), lambda: NOW)
    heard: list[tuple[int, bool]] = []
    for n in range(3000):
        waiting = Deferred.fromCoroutine(journal.ready())
        waiting.addBoth(lambda outcome, n=n: heard.append((n, outcome is None)))
    (first,) = opening
    first.errback(error) if error else first.callback(None)
    assert sorted(heard) == [(n, error is None) for n in range(3000)]
    assert [n for n, _ in heard if n] == list(range(1, 3000))
    assert journal.opened is (error is None)
    disk.close()
