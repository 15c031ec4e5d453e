"""Importing what PHP clients left on disk: every kind of file, also those that are none of ours."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitville_apm import limits
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.appends import NotWritten
from bitville_apm.reading import read_line
from tests.agent.journal_rig import raising, result
from tests.agent.rig import end_line
from tests.agent.spool_rig import NOW, SpoolRig, an_id, wrapped

V1 = {"correlation_id": "first-version-17", "timestamp": 1795231262.5, "elapsed_ms": 640.25}


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
        broken.setattr(os, "pwrite", raising(errno.ENOSPC))
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


def test_a_file_stays_until_its_records_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot write leaves the spool as it is, and imports it when it can."""
    rig = SpoolRig(tmp_path)
    id_ = an_id()
    rig.put("profile_20261121_031415_0a1b2c3d.json", wrapped(end_line(id_)))
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", raising(errno.ENOSPC))
        rig.tick(2)
        assert len(rig.left) == 1
        assert rig.spool.failing
    rig.tick()
    assert rig.left == []
    assert rig.spool.failing == ""
    assert rig.journalled() == [("end", id_)]


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
