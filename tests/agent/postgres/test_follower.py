"""Following a log's file: where it begins, rotation of every kind, a log that runs away."""

from __future__ import annotations

import os
from pathlib import Path

from bitville_apm import limits
from bitville_apm.agent.postgres.follower import Follower
from bitville_apm.agent.postgres.logformats import Entry


def line(n: int) -> bytes:
    return f"2026-11-28 05:44:23.250 UTC [1] LOG:  duration: {n}.0 ms  statement: SELECT {n}\n".encode()


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.message.split()[1].split(".")[0]) for entry in entries]


class Log:
    """A log that a test writes, and who follows it. An entry is whole when the next one begins, or nothing comes."""

    def __init__(self, path: Path) -> None:
        self.path, self.follower = path, Follower()
        self.path.write_bytes(line(0))
        assert self.read() == []

    def write(self, *lines: int, path: Path | None = None) -> None:
        with (path or self.path).open("ab") as file:
            file.write(b"".join(map(line, lines)))

    def read(self, path: Path | None = None) -> list[int]:
        follow = str(path or self.path)
        return numbers([*self.follower.read(follow, "%m [%p] "), *self.follower.read(follow, "%m [%p] ")])


def test_a_file_is_read_from_where_it_is(tmp_path: Path) -> None:
    """PG-03: what was written before the agent came is not read; what is written then is, once."""
    log = Log(tmp_path / "a.log")
    log.write(1, 2)
    assert log.read() == [1, 2]
    assert log.read() == []


def test_rotation_by_rename(tmp_path: Path) -> None:
    """PG-03: what is still written to a renamed file is read, then the new one from its beginning."""
    log = Log(tmp_path / "a.log")
    log.write(1)
    log.path.rename(tmp_path / "a.log.1")
    log.write(2, path=tmp_path / "a.log.1")
    assert log.read() == [1, 2]
    log.write(3, path=tmp_path / "a.log.1")
    log.write(4)
    assert log.read() == [3, 4]
    assert log.follower.files == 2


def test_rotation_by_copy_and_truncation(tmp_path: Path) -> None:
    """PG-03: a file that was copied away and cut is read from its beginning again."""
    log = Log(tmp_path / "a.log")
    log.write(1, 2, 3)
    assert log.read() == [1, 2, 3]
    log.path.write_bytes(line(4))
    assert log.read() == [4]


def test_rotation_to_another_name(tmp_path: Path) -> None:
    """PG-03: a server that goes on in a file of another name, or in several since, is followed through all."""
    log = Log(tmp_path / "a.log")
    log.write(1)
    later = [tmp_path / name for name in ("c.log", "b.log", "d.log")]
    for n, path in enumerate(later):
        log.write(2 + n, path=path)
        stamp = log.path.stat().st_mtime_ns + (1 + n) * 1_000_000
        os.utime(path, ns=(stamp, stamp))
    assert log.read(later[-1]) == [1, 2, 3, 4]
    assert log.read(later[-1]) == []


def test_a_pattern_is_the_newest_file(tmp_path: Path) -> None:
    """PG-03: `log = …/postgresql-*.log` is the file that was written to last."""
    log = Log(tmp_path / "postgresql-1.log")
    pattern = tmp_path / "postgresql-*.log"
    log.write(1, path=tmp_path / "postgresql-2.log")
    stamp = log.path.stat().st_mtime_ns + 1_000_000_000
    os.utime(tmp_path / "postgresql-2.log", ns=(stamp, stamp))
    assert log.read(pattern) == [1]


def test_a_log_that_runs_away_is_not_caught_up_with(tmp_path: Path) -> None:
    """PG-03: a turn reads no more than a bound; far behind, the agent goes to the end and counts what it left."""
    log = Log(tmp_path / "a.log")
    with log.path.open("ab") as file:
        file.truncate(limits.PG_LOG_BEHIND_BYTES + limits.PG_LOG_READ_BYTES * 2)
    log.write(1)
    follow = log.follower
    assert numbers([*follow.read(str(log.path), "%m [%p] "), *follow.read(str(log.path), "%m [%p] ")]) in ([], [1])
    assert follow.skipped > limits.PG_LOG_BEHIND_BYTES
    log.write(2)
    assert log.read()[-1] == 2


def test_a_log_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    """PG-08: a missing file, or a folder in its place, is a word in `/health`; once it is there it is read."""
    follower = Follower()
    path = tmp_path / "a.log"
    assert follower.read(str(path), "") == []
    assert follower.failing == "No such file or directory"
    path.mkdir()
    assert follower.read(str(path), "") == []
    assert follower.failing
    path.rmdir()
    path.write_bytes(b"")
    assert follower.read(str(path), "%m [%p] ") == []
    assert follower.failing == ""
