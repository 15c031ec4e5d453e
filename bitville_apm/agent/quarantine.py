"""Where refused records are kept for a person to look at: a file each, bounded, oldest out first."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import attrs
import msgspec

from bitville_apm import files, limits

_OWN = re.compile(r"\d{13}-[0-9a-f]{8}\.json\Z")


@attrs.define(eq=False)
class Quarantine:
    """One directory. Its methods block, except that the numbers may be read from anywhere."""

    directory: Path
    file_count: int = 0
    total_bytes: int = 0
    _known: list[tuple[str, int]] | None = None

    def keep(self, now_ms: int, reason: str, details: object, body: bytes) -> None:
        """Write down one record: `{"reason", "details", "body"}`, the body as text. Raises `OSError`."""
        text = body.decode("utf-8", "backslashreplace")
        data = msgspec.json.encode({"reason": reason, "details": details, "body": text}) + b"\n"
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
