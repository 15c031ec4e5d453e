"""Where refused records are kept for a person to look at: a file each, bounded, oldest out first.

A file is `{"reason", "details", "body"}`, the body as text. That of a record which the collector refused says in `item`
what its envelope said, so that it can be sent once more (`bitville journal replay`); a line that the agent refused
never had one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec
from msgspec import Struct

from bitville_apm import files, limits
from bitville_apm.agent.segment import FRAMED, KINDS, Entry, Record
from bitville_apm.agent.totals import NONE

_OWN = re.compile(r"\d{13}-[0-9a-f]{8}\.json\Z")


class Item(Struct, frozen=True):
    """The envelope of a record (wire.md 5), and the journal in which `seq` is its place."""

    journal: str
    k: str
    id: str
    seq: tuple[int, int]
    recv: int
    framed: bool

    @classmethod
    def of(cls, record: Record, journal: bytes) -> Item:
        """That of a record which was sent."""
        entry = record.entry
        framed = bool(entry.flags & FRAMED)
        return cls(journal.hex(), entry.kind, entry.id, record.place, entry.received_ms, framed)


class _Kept(Struct, frozen=True):
    """A file, as far as sending needs it."""

    body: str
    item: Item | None = None


@attrs.define(eq=False)
class Quarantine:
    """One directory. Its methods block, except that the numbers may be read from anywhere."""

    directory: Path
    file_count: int = 0
    total_bytes: int = 0
    _known: list[tuple[str, int]] | None = None

    def keep(self, now_ms: int, reason: str, details: object, body: bytes, item: Item | None = None) -> None:
        """Write down one record. Raises `OSError`."""
        kept: dict[str, Any] = {"reason": reason, "details": details, "body": body.decode("utf-8", "backslashreplace")}
        if item is not None:
            kept["item"] = item
        data = msgspec.json.encode(kept) + b"\n"
        known = self._listed()
        name = f"{now_ms:013d}-{os.urandom(4).hex()}.json"
        # Not made durable: it would cost every record behind a flood of refused ones an fsync.
        half = self.directory / f".{name}.tmp"
        half.write_bytes(data)
        half.chmod(0o600)
        half.rename(self.directory / name)
        known.append((name, len(data)))
        self.file_count, self.total_bytes = len(known), self.total_bytes + len(data)
        while self.file_count > limits.QUARANTINE_FILES or self.total_bytes > max(limits.QUARANTINE_BYTES, len(data)):
            oldest, size = known.pop(0)
            with contextlib.suppress(FileNotFoundError):
                (self.directory / oldest).unlink()
            self.file_count, self.total_bytes = len(known), self.total_bytes - size

    def _listed(self) -> list[tuple[str, int]]:
        if self._known is None:
            files.make_private(self.directory)
            with os.scandir(self.directory) as entries:
                self._known = sorted((e.name, e.stat().st_size) for e in entries if _OWN.match(e.name))
            self.file_count, self.total_bytes = len(self._known), sum(size for _, size in self._known)
        return self._known


def is_quarantine(path: Path) -> bool:
    """Whether a path is a directory of refused records, or one of them."""
    return path.suffix == ".json" if path.is_file() else path.is_dir() and any(_OWN.match(p) for p in os.listdir(path))


def forwardable(path: Path) -> Iterator[tuple[bytes, Record] | None]:
    """The records of a quarantine, oldest first, each with its journal's id; None for a line that never was a record.

    Raises `OSError`, `ValueError`.
    """
    paths: Iterable[Path] = [path] if path.is_file() else (path / p for p in sorted(os.listdir(path)) if _OWN.match(p))
    for one in paths:
        try:
            kept = msgspec.json.decode(one.read_bytes(), type=_Kept)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{one} is no refused record: {error}") from None
        item = kept.item
        if item is None or item.k not in KINDS[1:]:
            yield None
            continue
        entry = Entry(item.k, item.id, item.recv, kept.body.encode(), FRAMED if item.framed else 0)
        yield bytes.fromhex(item.journal), Record(*item.seq, entry, NONE)
