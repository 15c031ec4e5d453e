"""The journal on disks that refuse: nothing is acknowledged that is not there, and it recovers by itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent.appends import NotWritten
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.writer import Writer
from tests.agent.journal_rig import NOW, JournalRig, numbered, raising, result


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_gets_no_ack_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Full, broken, read-only: the append fails, nothing of it stays, the next one succeeds when the disk does."""
    rig = JournalRig(tmp_path / "j", "always")
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
    rig = JournalRig(tmp_path / "j", "always")
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
    rig = JournalRig(tmp_path / "j", "always")
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
    rig = JournalRig(tmp_path / "j")
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
    rig = JournalRig(tmp_path / "j")
    (refused,) = rig.append(b"{}")
    with pytest.raises(NotWritten):
        result(refused)
    (tmp_path / "j").unlink()
    (written,) = rig.append(b"{}")
    assert result(written)
    assert len(rig.take()) == 1


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
