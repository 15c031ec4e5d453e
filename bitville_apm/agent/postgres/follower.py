"""A log file that grows, is renamed, cut or followed by another. Blocks: for a thread.

A file is one inode. When its path leads to another one, or the server names another path, what is left of it is read
first, then the files that were begun meanwhile, then the new one from its beginning. The first file is read from its
end: what happened before we came is not news.
"""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

import attrs

from bitville_apm import limits
from bitville_apm.agent.postgres.logformats import Entry, Parser, parser_for


@attrs.define
class _File:
    """An open file: how far it was read."""

    path: str
    descriptor: int
    inode: tuple[int, int]
    position: int
    parser: Parser


@attrs.define(eq=False)
class Follower:
    """`skipped` counts bytes that were passed over, `odd` lines that are in no format, `files` those begun.

    `failing` says why the log cannot be read, empty while it can.
    """

    skipped: int = 0
    files: int = 0
    failing: str = ""
    _odd: int = 0
    _file: _File | None = None
    _prefix: str = ""

    @property
    def odd(self) -> int:
        """Lines in no format."""
        return self._odd + (self._file.parser.odd if self._file is not None else 0)

    @property
    def path(self) -> str:
        """What is read now."""
        return self._file.path if self._file is not None else ""

    def read(self, path: str, prefix: str) -> list[Entry]:
        """What was written since the last time; `path` is where the server writes now, or a pattern of it."""
        if self._file is not None and prefix != self._prefix:
            self._odd += self._file.parser.odd
            self._file.parser = parser_for(self._file.path, prefix)
        self._prefix = prefix
        current = _newest(path)
        found: list[Entry] = []
        try:
            if self._file is None:
                self._open(current, at_end=not self.files)
            budget = limits.PG_LOG_READ_BYTES
            while self._file is not None:
                entries, read = self._more(self._file, budget)
                found += entries
                budget -= read
                following = self._over(current) if budget > 0 else None
                if following is None:
                    break
                if following:
                    # Nothing can be added to its last entry any more.
                    found += self._file.parser.flush()
                    self._forget()
                    self._open(following, at_end=False)
            self.failing = ""
        except OSError as error:
            self._forget()
            self.failing = error.strerror or type(error).__name__
        return found

    def close(self) -> None:
        """Let go of the file; a later `read` goes on where this one was."""
        self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file.descriptor)
            self._odd += self._file.parser.odd
            self._file = None

    def _open(self, path: str, at_end: bool) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise OSError(0, "it is no file")
        self.files += 1
        position = about.st_size if at_end else 0
        parser = parser_for(path, self._prefix)
        self._file = _File(path, descriptor, (about.st_dev, about.st_ino), position, parser)

    def _more(self, file: _File, budget: int) -> tuple[list[Entry], int]:
        """Up to `budget` bytes more of a file: entries, and how much was read."""
        size = os.fstat(file.descriptor).st_size
        found: list[Entry] = []
        if size < file.position:  # cut by somebody who copied it away
            file.position = 0
            self._odd += file.parser.odd
            found = file.parser.flush()
            file.parser = parser_for(file.path, self._prefix)
        behind = size - file.position
        if behind > limits.PG_LOG_BEHIND_BYTES:
            self.skipped += behind - limits.PG_LOG_READ_BYTES
            file.position = size - limits.PG_LOG_READ_BYTES
            self._odd += file.parser.odd
            file.parser = parser_for(file.path, self._prefix)
            file.parser.resume()
        data = os.pread(file.descriptor, budget, file.position) if behind else b""
        file.position += len(data)
        return [*found, *(file.parser.feed(data) if data else file.parser.flush())], len(data)

    def _over(self, current: str) -> str | None:
        """The next file, when this one is over; empty while there is more of this one, None when that is all."""
        assert self._file is not None  # noqa: S101 - the caller's
        file = self._file
        if os.fstat(file.descriptor).st_size > file.position:
            return ""
        try:
            about = os.stat(current)
        except FileNotFoundError:  # renamed, and the new one is not there yet
            return None
        if (about.st_dev, about.st_ino) == file.inode:
            return None
        return self._following(file, current) if current != file.path else current

    def _following(self, file: _File, current: str) -> str:
        """The file after this one: several may have been begun since."""
        kind = Path(current).suffix
        changed = os.fstat(file.descriptor).st_mtime_ns
        later: list[tuple[int, str]] = []
        with os.scandir(Path(current).parent) as entries:
            for entry in entries:
                if Path(entry.name).suffix == kind and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    if (about.st_dev, about.st_ino) != file.inode and about.st_mtime_ns > changed:
                        later.append((about.st_mtime_ns, entry.path))
        later.sort()
        return later[0][1] if 0 < len(later) <= limits.PG_LOG_FILES else current


def _newest(path: str) -> str:
    """A path as it is; of a pattern the file that was written to last."""
    if not glob.has_magic(path):
        return path
    found = [(os.stat(name).st_mtime_ns, name) for name in glob.glob(path) if os.path.isfile(name)]
    return max(found)[1] if found else path
