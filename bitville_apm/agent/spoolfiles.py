"""Reading the files a PHP client leaves when the agent does not answer (wire.md 4). Everything here blocks.

    profile_*.json    one whole record: {"v": 2, "sent": bool, "line": {…}}, or a bare version 1 object or list
    short_*.ndjson    short records a line each, appended to by a living worker: renamed first, read a tick later
    buffer_*.json     the first version's: an object or a list of them

The directory belongs to the agent, but others may write into it: nothing in it is trusted to be a plain file.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs
import msgspec

from bitville_apm import limits

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


@attrs.frozen
class Listing:
    """Files to import now, and whether there are more for the next tick."""

    names: list[str]
    more: bool


def prepare(directory: Path, group: str) -> None:
    """Make a spool directory that the pool's processes may write into. Raises `OSError`, `KeyError` (no group)."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid():
        gid = grp.getgrnam(group).gr_gid if group else -1
        os.chown(directory, -1, gid)
        directory.chmod(0o3770)


def listed(directory: Path) -> Listing:
    """What is there, oldest first, at most one tick's worth. Files of short records are taken from their
    writers by a new name and listed the next time."""
    with os.scandir(directory) as entries:
        names = sorted((e.name for e in entries if e.name != BROKEN), key=_age)
    ready = [name for name in names if _WHOLE.match(name) or _RENAMED.match(name)]
    for name in names:
        if _SHORT.match(name):
            with contextlib.suppress(OSError):
                os.rename(directory / name, directory / f".importing-{os.urandom(4).hex()}-{name}")
    return Listing(ready[: limits.SPOOL_IMPORT_PER_TICK], len(ready) > limits.SPOOL_IMPORT_PER_TICK)


def _age(name: str) -> str:
    """Names carry their time; what the first version wrote goes first."""
    return name.partition("_")[2]


def lines(directory: Path, name: str) -> list[bytes]:
    """The records of one file, a line each. Raises `Broken` when it is none of ours to read."""
    data = _contents(directory / name)
    if _RENAMED.match(name):
        return [line for line in data.split(b"\n") if line]
    try:
        return [_on_one_line(raw) for raw in _raws(data)]
    except msgspec.MsgspecError as error:
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


def _contents(path: Path) -> bytes:
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
        if status.st_size > limits.LINE_BYTES:
            raise Broken(f"longer than {limits.LINE_BYTES} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limits.LINE_BYTES)
    finally:
        os.close(descriptor)


def remove(directory: Path, names: list[str]) -> None:
    """Unlink what is imported; what is gone already is fine. Raises `OSError`."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory / name)


def set_aside(directory: Path, name: str) -> None:
    """Move a broken file to `broken/`. Raises `OSError`."""
    away = directory / BROKEN
    away.mkdir(mode=0o700, exist_ok=True)
    os.rename(directory / name, away / name.lstrip("."))
