"""Importing what PHP clients left on disk: every kind of file, also those that are none of ours."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from bitville_apm import limits
from bitville_apm.agent import spoolfiles
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.spool import Spool
from bitville_apm.reading import read_line
from tests.agent.rig import end_line
from tests.agent.test_journal import at_once, done

V1 = {"correlation_id": "first-version-17", "timestamp": 1795231262.5, "elapsed_ms": 640.25}


class SpoolRig:
    """A spool and its pipeline without a forwarder; `tick` is one look, to its end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "spool"
        self.clock = Clock()
        self.found: list[str] = []
        self.journal = Journal(Disk(directory / "journal", "never"), at_once, self.clock)
        self.quarantine = Quarantine(directory / "quarantine")
        forward: Any = None
        self.pipeline = Pipeline(
            "default", self.journal, forward, self.quarantine, at_once, self.clock, lambda: 1_795_231_300.0, spools=1
        )
        self.journal.on_open = self.pipeline._opened
        done(self.journal.start())
        self.spool = Spool(self.directory, "", self.pipeline, at_once, self.clock, self.found.append)
        done_now(self, self.spool.start())

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.pump([limits.SPOOL_TICK_S])
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


def done_now(rig: SpoolRig, coroutine: Any) -> None:
    done(coroutine)
    while rig.spool._busy is not None:
        rig.clock.advance(0)


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
    assert len(again.pipeline.unread.before) == 0, "let go once the spool is imported"


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
    rig.put(names[5], b'{"v":2,"sent":tr')
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


def test_a_missing_directory_is_said_and_looked_for_again(tmp_path: Path) -> None:
    """A spool that is not there (a tmpfs not mounted yet) stops nothing."""
    rig = SpoolRig(tmp_path)
    rig.directory.rmdir()
    rig.tick()
    assert rig.spool.failing
    rig.directory.mkdir()
    rig.tick()
    assert rig.spool.failing == ""


@pytest.mark.parametrize("make", [lambda raw: raw, lambda raw: b"[" + raw + b"]", wrapped])
def test_pretty_printed_json_becomes_one_line(tmp_path: Path, make: Callable[[bytes], bytes]) -> None:
    """The journal holds lines: a newline within a file's record may not break a batch."""
    path = tmp_path / "profile_20261121_031415_0a1b2c3d.json"
    path.write_bytes(make(json.dumps(V1, indent=2).encode()))
    (line,) = spoolfiles.lines(tmp_path, path.name)
    assert b"\n" not in line
    assert json.loads(line) == V1
