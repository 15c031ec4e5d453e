"""The golden files, for tests."""

from __future__ import annotations

import gzip
from pathlib import Path

HERE = Path(__file__).parent


def lines(name: str) -> list[bytes]:
    """The lines of one golden file (`.gz` is unpacked), without their newlines."""
    data = (HERE / name).read_bytes()
    return (gzip.decompress(data) if name.endswith(".gz") else data).splitlines()


def real_version1() -> list[bytes]:
    """The 74 real records of the first version."""
    return lines("version1-real.ndjson.gz") + lines("version1-real-full.ndjson.gz")
