"""Reading the files a PHP client leaves when the agent does not answer (wire.md 4). Everything here blocks.

    profile_*.json    one whole record: {"v": 2, "sent": bool, "line": {…}}, or a bare version 1 object or list
    short_*.ndjson    short records a line each, appended to by a living worker: renamed first, read a tick later
    buffer_*.json     the first version's: an object or a list of them

A worker appends under a lock and looks whether its file is still there once it has it. So a renamed file is read
under that lock, and unlinked under it only if it has not grown since: what was appended in between is read then.

The directory belongs to the agent, but others may write into it: nothing in it is trusted to be a plain file.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.agent.groups import group_id

_WHOLE = re.compile(r"(profile|buffer)_.*\.json\Z")
_SHORT = re.compile(r"short_.*\.ndjson\Z")
_RENAMED = re.compile(r"\.importing-.*\.ndjson\Z")
BROKEN = "broken"


class _Wrapped(msgspec.Struct):
    v: Literal[2]
    line: msgspec.Raw


_wrapped = msgspec.json.Decoder(_Wrapped)
_list = msgspec.json.Decoder(list[msgspec.Raw])


class Broken(Exception):
    """A file that cannot be imported, and why."""


class NotYet(Exception):
    """A file that somebody is still writing to, as far as one can tell."""


@attrs.frozen
class Listing:
    """Files to import now, whether there are more for the next tick, and which of those asked about are gone."""

    names: list[str]
    more: bool
    gone: list[str]


@attrs.frozen
class Contents:
    """The records of one file, a line each; when it was last written (unix ms), and its length then."""

    lines: list[bytes]
    written_ms: int
    size: int


def prepare(directory: Path, group: str) -> None:
    """Make a spool directory that the pool's processes may write into. Raises `OSError`, `KeyError` (no group)."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid():
        os.chown(directory, -1, group_id(group))
        directory.chmod(0o3770)
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        # As a container's engine makes it, where it is started before the agent ever was.
        raise PermissionError("it belongs to another user, and files in it could not be removed: chown it")


def listed(directory: Path, last: Collection[str] = ()) -> Listing:
    """What is there, at most one tick's worth: short records first, then oldest first, those of `last` at the end.

    Files of short records are taken from their writers by a new name and listed the next time. Raises `OSError`.
    """
    with os.scandir(directory) as entries:
        names = {e.name for e in entries}
    ready = [name for name in names if _WHOLE.match(name) or _RENAMED.match(name)]
    first = heapq.nsmallest(limits.SPOOL_IMPORT_PER_TICK, ready, key=lambda name: (name in last, _age(name)))
    for name in filter(_SHORT.match, names):
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory / name, directory / f".importing-{os.urandom(4).hex()}-{name}")
    return Listing(first, len(ready) > len(first), [name for name in last if name not in names])


def _age(name: str) -> str:
    """Names carry their time; renamed ones sort before them, and what the first version wrote goes between."""
    return "" if _RENAMED.match(name) else name.partition("_")[2]


def contents(directory: Path, name: str, now: float) -> Contents:
    """The records of one file; `now` is unix seconds.

    Raises `Broken` when it is none of ours to read, `NotYet`, and `FileNotFoundError`.
    """
    data, status = _read(directory / name, locked=bool(_RENAMED.match(name)))
    written_ms = status.st_mtime_ns // 1_000_000
    if _RENAMED.match(name):
        return Contents([line for line in data.split(b"\n") if line], written_ms, len(data))
    try:
        return Contents([_on_one_line(raw) for raw in _raws(data)], written_ms, len(data))
    except msgspec.MsgspecError as error:
        # Ours appear whole under their name; the first version's grow under it.
        if abs(now - status.st_mtime) < limits.SPOOL_SETTLED_S:
            raise NotYet from None
        raise Broken(f"not JSON: {error}") from None


def _raws(data: bytes) -> Iterator[bytes]:
    if data.lstrip()[:1] == b"[":
        yield from map(bytes, _list.decode(data))
        return
    try:
        yield bytes(_wrapped.decode(data).line)
    except msgspec.ValidationError:
        yield data


def _on_one_line(raw: bytes) -> bytes:
    return msgspec.json.format(raw, indent=-1) if b"\n" in raw else raw


def _read(path: Path, locked: bool) -> tuple[bytes, os.stat_result]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Broken(error.strerror or str(error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Broken("not a regular file")
        if status.st_nlink != 1:
            raise Broken("more than one link")
        if locked:
            _lock(descriptor)
            status = os.fstat(descriptor)
        if status.st_size > limits.LINE_BYTES:
            raise Broken(f"longer than {limits.LINE_BYTES} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limits.LINE_BYTES), status
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Take the lock that a writer holds. Raises `NotYet` while it does: it is never waited for."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NotYet from None


def remove(directory: Path, sizes: Mapping[str, int]) -> tuple[list[str], OSError | None]:
    """Unlink files of which so many bytes are imported: which are gone, and what went wrong with another.

    One that has grown since stays.
    """
    gone: list[str] = []
    trouble: OSError | None = None
    for name, size in sizes.items():
        try:
            _remove(directory / name, size if _RENAMED.match(name) else None)
            gone.append(name)
        except FileNotFoundError:
            gone.append(name)
        except NotYet:
            continue
        except OSError as error:
            trouble = error
    return gone, trouble


def _remove(path: Path, size: int | None) -> None:
    """Unlink; a file that is appended to under its lock, and only if it still has this size."""
    if size is None:
        os.unlink(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        if os.fstat(descriptor).st_size != size:
            raise NotYet
        os.unlink(path)
    finally:
        os.close(descriptor)


def set_aside(directory: Path, name: str) -> None:
    """Move a broken file to `broken/`, where the newest are kept. Raises `OSError`."""
    away = directory / BROKEN
    away.mkdir(mode=0o700, exist_ok=True)
    os.rename(directory / name, away / name.lstrip("."))
    with os.scandir(away) as entries:
        kept = sorted((entry.stat(follow_symlinks=False).st_ctime_ns, entry.path) for entry in entries)
    for _, old in kept[: -limits.SPOOL_BROKEN_FILES]:
        with contextlib.suppress(OSError):
            os.unlink(old)
