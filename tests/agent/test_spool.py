"""Importing what PHP clients left on disk: every kind of file, also those that are none of ours."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.spool import Spool
from bitville_apm.reading import read_line
from tests.agent.rig import end_line
from tests.agent.test_journal import at_once, done, result
from tests.tools import lacking

NOW = 1_795_231_300.0
V1 = {"correlation_id": "first-version-17", "timestamp": 1795231262.5, "elapsed_ms": 640.25}


class SpoolRig:
    """A spool and its pipeline without a forwarder; `tick` is one look, to its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "spool"
        self.clock = Clock()
        self.found: list[str] = []
        self.journal = Journal(Disk(directory / "journal", "never"), at_once, self.clock, lambda: NOW)
        frames = Journal(Disk(directory / "frames", "never"), at_once, self.clock, lambda: NOW)
        self.quarantine = Quarantine(directory / "quarantine")
        forward: Any = None
        self.pipeline = Pipeline(
            "default",
            self.journal,
            frames,
            forward,
            self.quarantine,
            at_once,
            at_once,
            self.clock,
            lambda: NOW,
            spools=1,
        )
        self.journal.on_open = self.pipeline._opened
        done(self.journal.start())
        self.spool = Spool(self.directory, "", self.pipeline, at_once, self.clock, self.found.append)
        self.spool.start()
        self._through()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.pump([limits.SPOOL_TICK_S])
            self._through()

    def _through(self) -> None:
        while self.spool._busy is not None:
            self.clock.advance(0)

    def put(self, name: str, content: Any) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def journalled(self) -> list[tuple[str, str]]:
        found = []
        while batch := done(self.journal.take(500, limits.BATCH_BYTES)):
            found += [(r.entry.kind, r.entry.id) for r in batch]
        return found

    @property
    def left(self) -> list[str]:
        return sorted(os.listdir(self.directory))


def wrapped(line: bytes, *, sent: bool = False) -> bytes:
    return b'{"v":2,"sent":%b,"line":%b}' % (b"true" if sent else b"false", line)


def an_id() -> str:
    return str(uuid.uuid4())


def test_every_kind_of_file_is_imported_and_removed(tmp_path: Path) -> None:
    """COMM-08, DAEMON-06, wire.md 4: whole records, short ones, the first version's; each once, under its id."""
    rig = SpoolRig(tmp_path)
    ids = [an_id() for _ in range(6)]
    rig.put("profile_20261121_031415_0a1b2c3d.json", wrapped(end_line(ids[0])))
    rig.put("profile_20261121_031416_0a1b2c3d.json", V1)
    rig.put("buffer_1795231262_17.json", [V1 | {"correlation_id": ids[1]}, V1 | {"correlation_id": ids[2]}])
    rig.put("buffer_1795231263_17.json", json.dumps(V1 | {"correlation_id": ids[3]}, indent=4).encode())
    counted = b'{"t":"count","unconfirmed":3,"left_out": 2}'
    short = b"\n".join([end_line(ids[4], short=True), counted, end_line(ids[5]), b""])
    rig.put("short_4711_a1b2.ndjson", short)
    rig.tick()
    assert len(rig.left) == 1, "short records are renamed first, and read a tick later"
    rig.tick()
    assert rig.left == []
    kinds = {id_: kind for kind, id_ in rig.journalled()}
    assert kinds == {
        ids[0]: "end",
        read_line(json.dumps(V1).encode(), 0).id: "v1",
        ids[1]: "v1",
        ids[2]: "v1",
        ids[3]: "v1",
        ids[4]: "end",
        ids[5]: "end",
    }
    assert set(rig.found) == set(kinds)
    assert (rig.pipeline.ledger.received, rig.pipeline.ledger.journalled) == (7, 7)
    assert (rig.pipeline.ledger.unconfirmed, rig.pipeline.ledger.left_out) == (3, 2)


def test_a_record_whose_ack_was_not_read_is_not_taken_twice(tmp_path: Path) -> None:
    """wire.md 4: within 15 minutes the spool's copy is a duplicate; its file goes, it is counted once."""
    rig = SpoolRig(tmp_path)
    id_, read_id = an_id(), an_id()
    for each in (id_, read_id):
        rig.pipeline.take(read_line(end_line(each), 0), 0)
    rig.clock.advance(0)
    rig.pipeline.unread.read(read_id)
    rig.put("profile_20261121_031415_0a1b2c3d.json", wrapped(end_line(id_), sent=True))
    rig.tick()
    assert rig.left == []
    assert rig.journalled() == [("end", id_), ("end", read_id)]
    assert (rig.pipeline.ledger.received, rig.pipeline.ledger.duplicate) == (3, 1)
    rig.clock.advance(limits.UNREAD_ACK_S)
    assert not rig.pipeline.unread.knows(id_, rig.clock.seconds())


def test_two_copies_that_come_together_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 19: after a hang the socket and the spool bring the same record in one turn: the second is no record of its
    own, and is acknowledged only if the first is written.
    """
    rig = SpoolRig(tmp_path)
    id_ = an_id()
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", refuse)
        copies = [rig.pipeline.take(read_line(end_line(id_), 0), 0) for _ in range(2)]
        rig.clock.advance(0)
        for copy in copies:
            with pytest.raises(NotWritten):
                result(copy)
    assert rig.pipeline.ledger.unwritten == 2
    copies = [rig.pipeline.take(read_line(end_line(id_), 0), 0) for _ in range(3)]
    rig.clock.advance(0)
    assert all(copy.called for copy in copies)
    assert rig.journalled() == [("end", id_)]
    assert (rig.pipeline.ledger.journalled, rig.pipeline.ledger.duplicate) == (1, 2)


def test_after_a_crash_the_journal_itself_knows(tmp_path: Path) -> None:
    """A file whose records were journalled but not unlinked is a duplicate at the next start, and only then."""
    rig = SpoolRig(tmp_path)
    id_ = an_id()
    rig.put("profile_20261121_031415_0a1b2c3d.json", wrapped(end_line(id_)))
    content = (rig.directory / "profile_20261121_031415_0a1b2c3d.json").read_bytes()
    rig.tick()
    rig.put("profile_20261121_031415_0a1b2c3d.json", content)
    again = SpoolRig(tmp_path)
    assert again.left == []
    assert again.pipeline.ledger.duplicate == 1
    assert again.journalled() == [("end", id_)]
    assert again.pipeline.unread.knows(id_, again.clock.seconds() + limits.UNREAD_ACK_S - 1)
    assert not again.pipeline.unread.knows(id_, again.clock.seconds() + limits.UNREAD_ACK_S), "let go in the end"


def test_what_is_no_plain_file_of_one_name_is_set_aside(tmp_path: Path) -> None:
    """O_NOFOLLOW, O_NONBLOCK, one link, at most 8 MiB: links, pipes, giants and rubbish go to broken/, counted."""
    rig = SpoolRig(tmp_path)
    secret = tmp_path / "secret.json"
    secret.write_bytes(end_line())
    names = [f"profile_20261121_03141{n}_0a1b2c3d.json" for n in range(6)]
    (rig.directory / names[0]).symlink_to(secret)
    os.link(secret, rig.directory / names[1])
    os.mkfifo(rig.directory / names[2])
    (rig.directory / names[3]).mkdir()
    rig.put(names[4], b"x")
    os.truncate(rig.directory / names[4], limits.LINE_BYTES + 1)
    os.utime(rig.put(names[5], b'{"v":2,"sent":tr'), (NOW - 60, NOW - 60))
    good = an_id()
    rig.put("profile_20261121_031419_0a1b2c3d.json", wrapped(end_line(good)))
    rig.put("somebody_elses.txt", b"not touched")
    rig.tick()
    assert rig.left == ["broken", "somebody_elses.txt"]
    assert sorted(os.listdir(rig.directory / "broken")) == names
    assert rig.spool.broken == 6
    assert rig.journalled() == [("end", good)]
    assert secret.exists()


def test_a_refused_record_is_quarantined_beside_its_good_neighbours(tmp_path: Path) -> None:
    """Bad items never block good ones, and are kept for a person with the reason."""
    rig = SpoolRig(tmp_path)
    good = an_id()
    rig.put("short_1_ab12.ndjson", b'{"t":"end","v":2}\n' + end_line(good) + b"\n{half a li")
    rig.tick(2)
    assert rig.left == []
    assert rig.journalled() == [("end", good)]
    assert rig.pipeline.ledger.invalid == 2
    assert len(list((tmp_path / "quarantine").iterdir())) == 2


def test_a_file_stays_until_its_records_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot write leaves the spool as it is, and imports it when it can."""
    rig = SpoolRig(tmp_path)
    id_ = an_id()
    rig.put("profile_20261121_031415_0a1b2c3d.json", wrapped(end_line(id_)))
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", refuse)
        rig.tick(2)
        assert len(rig.left) == 1
        assert rig.spool.failing
    rig.tick()
    assert rig.left == []
    assert rig.spool.failing == ""
    assert rig.journalled() == [("end", id_)]


def refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_half_way_counts_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DAEMON-06: a file whose records were taken in part stays, and only the rest of it is taken later, even of
    records that have no id; a count in it is counted once.
    """
    monkeypatch.setattr(limits, "SPOOL_LINES_AT_ONCE", 2)
    rig = SpoolRig(tmp_path)
    nameless = [{"timestamp": 1795231262.5 + n, "elapsed_ms": 1.0} for n in range(5)]
    rig.put("buffer_1_17.json", nameless)
    rig.put("short_17_abcd.ndjson", b'{"t":"count","unconfirmed":3}\n{"t":"end"}\n' + end_line() + b"\n")
    rig.tick()
    assert (rig.left, rig.pipeline.ledger.journalled) == ([rig.left[0]], 5)
    rig.put("buffer_2_17.json", [one | {"elapsed_ms": 2.0} for one in nameless])
    pwrite, left = os.pwrite, [0]

    def some(*arguments: Any) -> int:
        left[0] -= 1
        return pwrite(*arguments) if left[0] >= 0 else refuse()

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", some)
        for room in (0, 2, 0, 1):
            left[0] = room
            rig.tick(int(limits.UNREAD_ACK_S / limits.SPOOL_TICK_S / 3))
            assert rig.spool.failing
        assert rig.left == ["buffer_2_17.json"]
    rig.tick()
    assert (rig.left, rig.spool.failing) == ([], "")
    assert rig.pipeline.ledger.unconfirmed == 3
    kinds = Counter(kind for kind, _ in rig.journalled())
    assert kinds == {"v1": 10, "end": 1}
    assert (rig.pipeline.ledger.journalled, rig.pipeline.ledger.duplicate, rig.pipeline.ledger.invalid) == (11, 0, 1)


def test_a_file_that_cannot_be_unlinked_is_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool that turned read-only: what is imported is remembered, said, and never imported again."""
    rig = SpoolRig(tmp_path)
    rig.put("profile_20261121_031415_0a1b2c3d.json", {"timestamp": 1795231262.5, "elapsed_ms": 640.25})
    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", refuse)
        rig.tick(3)
        assert "removing" in rig.spool.failing
        other = rig.put("profile_20261121_031416_0a1b2c3d.json", wrapped(end_line()))
        rig.tick(int(limits.UNREAD_ACK_S / limits.SPOOL_TICK_S) + 1)
        assert other.exists()
    rig.tick()
    assert (rig.left, rig.spool.failing) == ([], "")
    assert [kind for kind, _ in rig.journalled()] == ["v1", "end"]


def test_what_cannot_be_moved_aside_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's directory under one of our names, in a spool that is not ours: said; the others are imported."""
    monkeypatch.setattr(limits, "SPOOL_IMPORT_PER_TICK", 2)
    rig = SpoolRig(tmp_path)
    for n in range(3):
        (rig.directory / f"profile_20261121_03141{n}_0a1b2c3d.json").mkdir()
    ids = [an_id() for _ in range(3)]
    for n, id_ in enumerate(ids):
        rig.put(f"profile_20261121_03142{n}_0a1b2c3d.json", wrapped(end_line(id_)))
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", refuse)
        rig.tick(4)
        assert [id_ for _, id_ in rig.journalled()] == ids
        assert (rig.spool.broken, len(rig.left)) == (0, 4), "the three, and broken/"
        assert "moving a broken file aside" in rig.spool.failing
    rig.tick(2)
    assert (rig.left, rig.spool.broken, rig.spool.failing) == (["broken"], 3, "")


def test_what_is_set_aside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that writes rubbish all night cannot fill the disk through broken/; the newest are kept."""
    monkeypatch.setattr(limits, "SPOOL_BROKEN_FILES", 5)
    rig = SpoolRig(tmp_path)
    for n in range(12):
        rig.put(f"profile_20261121_0314{n:02}_0a1b2c3d.json", b"{")
    rig.tick()
    kept = sorted(os.listdir(rig.directory / "broken"))
    assert kept == [f"profile_20261121_0314{n:02}_0a1b2c3d.json" for n in range(7, 12)]
    assert rig.spool.broken == 12


def test_an_unreadable_file_is_set_aside(tmp_path: Path) -> None:
    """A file of another user that the agent may not read: moved aside and counted, like any other broken one."""
    if os.geteuid() != 0:
        lacking("only root can become somebody else")
    path = tmp_path / "profile_20261121_031415_0a1b2c3d.json"
    path.write_bytes(wrapped(end_line()))
    path.chmod(0o600)
    directory = os.open(tmp_path, os.O_RDONLY)
    os.fchdir(directory)
    os.seteuid(65534)
    try:
        with pytest.raises(spoolfiles.Broken, match="Permission denied"):
            spoolfiles.contents(Path("."), path.name, NOW)
    finally:
        os.seteuid(0)
        os.close(directory)


def test_a_worker_that_writes_late_loses_nothing(tmp_path: Path) -> None:
    """wire.md 4: a worker that was stopped between opening and locking, while its file was renamed and read, finds
    its record imported; one that holds the lock is not waited for.
    """
    rig = SpoolRig(tmp_path)
    ids = [an_id() for _ in range(3)]
    with open(rig.put("short_17_abcd.ndjson", end_line(ids[0]) + b"\n"), "ab") as late:
        rig.tick()
        fcntl.flock(late, fcntl.LOCK_EX)
        rig.tick()
        assert len(rig.left) == 1, "a locked file is left alone"
        fcntl.flock(late, fcntl.LOCK_UN)
        remove = spoolfiles.remove

        def between(*arguments: Any) -> Any:
            late.write(end_line(ids[1]) + b"\n")
            late.flush()
            return remove(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spoolfiles, "remove", between)
            rig.tick()
        assert len(rig.left) == 1, "it has grown since it was read"
        rig.tick()
        assert rig.left == []
    assert [id_ for _, id_ in rig.journalled()] == ids[:2]
    assert (rig.pipeline.ledger.received, rig.spool.imported) == (2, 2)


def test_a_file_of_the_first_version_that_still_grows_is_left_alone(tmp_path: Path) -> None:
    """It was written under its own name: half of it is no broken file before it has stood still for a while."""
    rig = SpoolRig(tmp_path)
    path = rig.put("buffer_1795231262_17.json", json.dumps([V1])[:40].encode())
    os.utime(path, (NOW, NOW))
    rig.tick(2)
    assert rig.left == [path.name]
    rig.put(path.name, [V1])
    rig.tick()
    assert (rig.left, rig.spool.broken) == ([], 0)
    assert len(rig.journalled()) == 1


def test_short_records_do_not_wait_behind_a_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stands for requests that would be called died after 10 s: they come before a night's whole records."""
    monkeypatch.setattr(limits, "SPOOL_IMPORT_PER_TICK", 4)
    rig = SpoolRig(tmp_path)
    for n in range(30):
        rig.put(f"profile_20261121_0314{n:02}_0a1b2c3d.json", wrapped(end_line()))
    id_ = an_id()
    rig.put("short_99999_abcd.ndjson", end_line(id_) + b"\n")
    rig.tick(2)
    assert id_ in rig.found


def test_a_spool_on_a_disk_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """Starting, journalling and stopping do not wait for it."""
    rig = SpoolRig(tmp_path)
    hanging: Any = lambda *_: Deferred()  # noqa: E731
    spool = Spool(tmp_path / "hangs", "", rig.pipeline, hanging, rig.clock, rig.found.append)
    spool.start()
    taken = rig.pipeline.take(read_line(end_line(), 0), 0)
    rig.clock.advance(0)
    assert taken.called
    stopped = Deferred.fromCoroutine(spool.stop())
    rig.clock.advance(limits.DRAIN_S)
    assert stopped.called


def test_a_long_night_is_imported_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded per tick: live traffic is not kept waiting by a spool of thousands."""
    monkeypatch.setattr(limits, "SPOOL_IMPORT_PER_TICK", 4)
    rig = SpoolRig(tmp_path)
    ids = [an_id() for _ in range(10)]
    for n, id_ in enumerate(ids):
        rig.put(f"profile_20261121_0314{n:02}_0a1b2c3d.json", wrapped(end_line(id_)))
    left = []
    for _ in range(3):
        rig.tick()
        left.append(len(rig.left))
    assert left == [6, 2, 0]
    assert [id_ for _, id_ in rig.journalled()] == ids, "oldest first"


def test_the_directory_is_made_so_that_the_pool_may_write_and_nobody_may_delete_others_files(tmp_path: Path) -> None:
    """design.md 1: 3770, made by the agent."""
    rig = SpoolRig(tmp_path)
    assert rig.directory.stat().st_mode & 0o7777 == 0o3770


def test_a_directory_that_is_gone_is_made_again(tmp_path: Path) -> None:
    """A tmpfs mounted or emptied after the start: the pool may spool again within one look."""
    rig = SpoolRig(tmp_path)
    shutil.rmtree(rig.directory)
    rig.tick()
    assert rig.directory.stat().st_mode & 0o7777 == 0o3770
    assert rig.spool.failing == ""


def test_a_directory_that_cannot_be_made_is_said_and_tried_again(tmp_path: Path) -> None:
    """Something is in the way: health says so, nothing else stops, and it is used as soon as it can be."""
    (tmp_path / "spool").write_text("in the way")
    rig = SpoolRig(tmp_path)
    rig.tick()
    assert "prepare" in rig.spool.failing
    (tmp_path / "spool").unlink()
    rig.tick()
    assert rig.directory.is_dir()
    assert rig.spool.failing == ""


def test_a_version_1_record_without_an_id_is_known_again_after_a_crash(tmp_path: Path) -> None:
    """It is named by when its file was written, so that a crash between journal and unlink does not double it."""
    rig = SpoolRig(tmp_path)
    path = rig.put("profile_20261121_031415_0a1b2c3d.json", {"timestamp": 1795231262.5, "elapsed_ms": 640.25})
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(spoolfiles, "remove", lambda *_: ([], None))
        rig.tick()
    again = SpoolRig(tmp_path)
    assert not path.exists()
    assert again.pipeline.ledger.duplicate == 1
    assert len(again.journalled()) == 1


@pytest.mark.parametrize("make", [lambda raw: raw, lambda raw: b"[" + raw + b"]", wrapped])
def test_pretty_printed_json_becomes_one_line(tmp_path: Path, make: Callable[[bytes], bytes]) -> None:
    """The journal holds lines: a newline within a file's record may not break a batch."""
    path = tmp_path / "profile_20261121_031415_0a1b2c3d.json"
    path.write_bytes(make(json.dumps(V1, indent=2).encode()))
    (line,) = spoolfiles.contents(tmp_path, path.name, time.time()).lines
    assert b"\n" not in line
    assert json.loads(line) == V1
