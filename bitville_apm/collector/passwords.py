"""Passwords of people, kept as scrypt (RFC 7914): `scrypt$N$r$p$salt$hash`, both in hex."""

from __future__ import annotations

import hashlib
import hmac
import os

from bitville_apm import limits

_SALT_BYTES = 16
_HASH_BYTES = 32


def hashed(password: str) -> bytes:
    """What is kept of a password. Takes a quarter of a second on purpose, and 32 MiB: never on the reactor's thread."""
    salt = os.urandom(_SALT_BYTES)
    cost = (limits.SCRYPT_N, limits.SCRYPT_R, limits.SCRYPT_P)
    return b"scrypt$%d$%d$%d$%s$%s" % (*cost, salt.hex().encode(), _scrypt(password, salt, *cost).hex().encode())


def matches(password: str, kept: bytes | None) -> bool:
    """Whether a password is the kept one. Without a kept one it takes as long and is False."""
    kind, n, r, p, salt, wanted = (kept or _NOBODYS).split(b"$")
    got = _scrypt(password, bytes.fromhex(salt.decode()), int(n), int(r), int(p))
    return hmac.compare_digest(got, bytes.fromhex(wanted.decode())) and kept is not None and kind == b"scrypt"


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    text = password.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=2 * 128 * n * r, dklen=_HASH_BYTES)


_NOBODYS = b"scrypt$%d$%d$%d$%s$%s" % (
    limits.SCRYPT_N,
    limits.SCRYPT_R,
    limits.SCRYPT_P,
    b"00" * _SALT_BYTES,
    b"00" * _HASH_BYTES,
)
