"""Bodies in a day file: zstd with a dictionary learned from records like them, kept in the same file.

Records of one application say the same things; a dictionary saves a third of what zstd alone leaves. A new day
begins with the one of the day before and learns its own once it has some records. A body names its dictionary.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import zstandard

from bitville_apm import limits
from bitville_apm.store.sqlite.files import day_path, number_of, open_reader, open_writer


def _in_file(db: sqlite3.Connection, id: int) -> bytes | None:
    row = db.execute("SELECT body FROM dictionary WHERE id = ?", (id,)).fetchone()
    return bytes(row[0]) if row else None


@attrs.define(eq=False)
class Bodies:
    """Compresses and decompresses the bodies of one open file. `elsewhere` may know a dictionary that the file lost."""

    _db: sqlite3.Connection
    _elsewhere: Callable[[int], bytes | None] = lambda id: None
    _plain: zstandard.ZstdCompressor = attrs.field(
        factory=lambda: zstandard.ZstdCompressor(level=limits.PAYLOAD_LEVEL, write_checksum=True)
    )
    _compressor: zstandard.ZstdCompressor | None = None
    _decompressors: dict[int, zstandard.ZstdDecompressor] = attrs.field(factory=dict)

    def compress(self, body: bytes) -> bytes:
        """A body as it is kept."""
        if self._compressor is None:
            self._compressor = self._made()
        return self._compressor.compress(body)

    def compress_plain(self, body: bytes) -> bytes:
        """The same without a dictionary, for what is no text."""
        return self._plain.compress(body)

    def decompress(self, kept: bytes) -> bytes:
        """The body. Raises `zstandard.ZstdError` where it or its dictionary is damaged."""
        head = zstandard.get_frame_parameters(kept)
        if head.content_size > limits.BODY_INFLATED_BYTES:  # a flipped bit must not ask for all memory
            raise zstandard.ZstdError("a body's size is damaged")
        decompressor = self._decompressors.get(head.dict_id)
        if decompressor is None:
            decompressor = self._decompressors[head.dict_id] = self._decompressor(head.dict_id)
        return decompressor.decompress(kept)

    def forget(self) -> None:
        """The file has another dictionary now, or no longer the one it had."""
        self._compressor = None
        self._decompressors.clear()

    def _made(self) -> zstandard.ZstdCompressor:
        row = self._db.execute("SELECT body FROM dictionary ORDER BY learned DESC, id DESC LIMIT 1").fetchone()
        if row is None:
            return self._plain
        dictionary = zstandard.ZstdCompressionDict(row[0])
        dictionary.precompute_compress(level=limits.PAYLOAD_LEVEL)
        return zstandard.ZstdCompressor(level=limits.PAYLOAD_LEVEL, dict_data=dictionary, write_checksum=True)

    def _decompressor(self, id: int) -> zstandard.ZstdDecompressor:
        if id == 0:
            return zstandard.ZstdDecompressor()
        body = _in_file(self._db, id) or self._elsewhere(id)
        if body is None:
            raise zstandard.ZstdError(f"the dictionary {id} of a body is gone")
        return zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(body))


def learned(samples: Sequence[bytes]) -> tuple[int, bytes] | None:
    """A dictionary's id and bytes; None where the samples have too little in common. Takes half a second."""
    try:
        made = zstandard.train_dictionary(limits.DICTIONARY_BYTES, list(samples))
    except zstandard.ZstdError:
        return None
    return made.dict_id(), made.as_bytes()


def samples(db: sqlite3.Connection) -> list[bytes]:
    """Bodies to learn from: the newest of a file. Raises what reading raises."""
    bodies = Bodies(db)
    rows = db.execute("SELECT body FROM payload ORDER BY row DESC LIMIT ?", (limits.DICTIONARY_RECORDS,))
    return [bodies.decompress(kept)[: limits.DICTIONARY_SAMPLE_BYTES] for (kept,) in rows]


def newest(db: sqlite3.Connection) -> tuple[int, bytes] | None:
    """The dictionary a file compresses with."""
    row = db.execute("SELECT id, body FROM dictionary ORDER BY learned DESC, id DESC LIMIT 1").fetchone()
    return (int(row[0]), bytes(row[1])) if row else None


def add(db: sqlite3.Connection, id: int, body: bytes, *, own: bool) -> None:
    """Keep a dictionary in a file; `own`: learned from its own records."""
    db.execute("INSERT OR IGNORE INTO dictionary (id, learned, body) VALUES (?, ?, ?)", (id, int(own), body))


@attrs.define(eq=False)
class Teacher:
    """Learns dictionaries from days. Synchronous; `give(date, id, dictionary)` has the writer use one."""

    directory: Path
    give: Callable[[datetime.date, int, bytes], object]

    def teach(self, date: datetime.date) -> None:
        """Learn from a day's records, keep what was learned in `main.db` too, and give it to the day."""
        with contextlib.closing(open_reader(day_path(self.directory, date))) as day:
            made = learned(samples(day))
        if made is None:
            return
        with contextlib.closing(open_writer(self.directory / "main.db", "main")) as main:
            question = "INSERT OR IGNORE INTO dictionary (id, day, body) VALUES (?, ?, ?)"
            main.execute(question, (made[0], number_of(date), made[1]))
        self.give(date, *made)
