"""Importing from a spool in trouble: files that are none of ours, disks that refuse, directories that are gone."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from bitville_apm import limits
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.spool import Spool
from bitville_apm.reading import read_line
from tests.agent.journal_rig import raising
from tests.agent.rig import end_line
from tests.agent.spool_rig import NOW, SpoolRig, an_id, wrapped
from tests.tools import lacking


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
        return pwrite(*arguments) if left[0] >= 0 else raising(errno.ENOSPC)()

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
        broken.setattr(os, "unlink", raising(errno.ENOSPC))
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
        broken.setattr(os, "rename", raising(errno.ENOSPC))
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
