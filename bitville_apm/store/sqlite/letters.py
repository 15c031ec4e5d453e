"""Which letters a URL has, in 63 bits: what a search is for must have all of its own among them.

Each three bytes in a row set one bit. A URL of thirty letters sets a third of them, so that of those without what is
wanted one in a thousand and less passes, and is read in vain. As LIKE does, only A to Z are taken for a to z.
"""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 63
"""So that the number is not negative in SQLite."""


def of(url: str) -> int:
    """The bits of a URL, or of a part of one."""
    data = url.encode("utf-8", "surrogatepass").lower()
    bits = 0
    for a, b, c in zip(data, data[1:], data[2:], strict=False):
        bits |= 1 << ((a + 37 * b + 1369 * c) % _BITS)
    return bits


def wanted(parts: Iterable[str]) -> int:
    """The bits that a URL must have which contains each of these parts."""
    bits = 0
    for part in parts:
        bits |= of(part)
    return bits
