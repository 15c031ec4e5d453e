"""Which letters a URL has, in 63 bits: what a search is for must have all of its own among them.

Each three bytes in a row set one bit. A URL of thirty letters sets a third of them, so that of those without what is
wanted one in a thousand and less passes, and is read in vain. As LIKE does, only A to Z are taken for a to z.
"""

from __future__ import annotations

from collections.abc import Iterable

_BITS = 63
"""So that the number is not negative in SQLite."""
_WEIGHTS = (1, 37, 1369)
_PARTS = [bytes(weight * byte % _BITS for byte in range(256)) for weight in _WEIGHTS]
"""What a byte counts for as the first, second and third of three: three of them never add up to more than a byte."""
_REST = bytes(byte % _BITS for byte in range(256))
_BIT = [1 << bit for bit in range(_BITS)]


def of(url: str) -> int:
    """The bits of a URL, or of a part of one."""
    data = url.encode("utf-8", "surrogatepass").lower()
    threes = len(data) - 2
    if threes < 1:
        return 0
    # All threes at once, as the bytes of a large integer: twice as fast as one by one.
    sums = sum(int.from_bytes(data[n:].translate(part), "little") for n, part in enumerate(_PARTS))
    return sum(map(_BIT.__getitem__, set(sums.to_bytes(threes + 2, "little")[:threes].translate(_REST))))


def wanted(parts: Iterable[str]) -> int:
    """The bits that a URL must have which contains each of these parts."""
    bits = 0
    for part in parts:
        bits |= of(part)
    return bits
