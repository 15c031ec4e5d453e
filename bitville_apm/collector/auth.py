"""Keys, log-in links and sessions.

A key is `bv_<id>_<secret>`: the id finds its row, the secret is 256 random bits of which the row has the SHA-256.
A fast hash is enough for what cannot be guessed; comparisons take the same time wherever they fail.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.interfaces import Caller, IAuth
from bitville_apm.store.interface import IKeyring

SCOPES = ("ingest", "read", "admin")
ROLES = {"viewer": frozenset({"read"}), "admin": frozenset({"read", "admin"})}
"""What a person may do. Nobody sends records from a browser."""


@attrs.frozen
class NewKey:
    """A key just made: its public id, the whole key (shown once), and what the store keeps of the secret."""

    id: str
    text: str = attrs.field(repr=False)
    hash: bytes = attrs.field(repr=False)


def new_key() -> NewKey:
    """A key nobody has."""
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return NewKey(id, f"bv_{id}_{secret}", digest(secret))


def new_link() -> tuple[str, bytes]:
    """The token of a one-time link, and what the store keeps of it."""
    token = secrets.token_urlsafe(32)
    return token, digest(token)


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def parts_of(key: str) -> tuple[str, str] | None:
    """Id and secret of a key; None for what is no key."""
    parts = key.split("_", 2)
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "bv" and parts[1] and parts[2] else None


def is_live(row: Mapping[str, Any], now: float) -> bool:
    """Whether a key's row is neither revoked nor expired."""
    return row["revoked"] is None and (row["expires"] is None or now < row["expires"])


@implementer(IAuth)
@attrs.define(eq=False)
class Auth:
    """See `IAuth`. `environment` are ingest keys by project, in whatever form their owner chose."""

    keyring: IKeyring
    clock: IReactorTime
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    _cache: dict[bytes, tuple[float, Caller]] = attrs.field(factory=dict, repr=False)

    def by_key(self, key: str) -> Deferred[Caller | None]:
        """See `IAuth`. An answer is remembered for `limits.KEY_CACHE_S`; that no key is known, never."""
        return Deferred.fromCoroutine(self._by_key(key))

    async def _by_key(self, key: str) -> Caller | None:
        hashed, now = digest(key), self.clock.seconds()
        at, caller = self._cache.get(hashed, (0.0, None))
        if caller is not None and 0 <= now - at < limits.KEY_CACHE_S:
            return caller
        self._cache.pop(hashed, None)
        caller = self._by_environment(hashed) or await self._by_row(key, now)
        if caller is not None:
            while len(self._cache) >= limits.KEYS_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[hashed] = (now, caller)
        return caller

    def _by_environment(self, hashed: bytes) -> Caller | None:
        found = None
        for project, key in self.environment.items():
            if hmac.compare_digest(digest(key), hashed):
                found = Caller(f"the environment's key of {project}", frozenset({project}), frozenset({"ingest"}))
        return found

    async def _by_row(self, key: str, now: float) -> Caller | None:
        parts = parts_of(key)
        if parts is None:
            return None
        id, secret = parts
        row = await self.keyring.key(id)
        if not hmac.compare_digest(row["hash"] if row else digest(""), digest(secret)) or row is None:
            return None
        if not is_live(row, now):
            return None
        scopes = frozenset(scope.strip() for scope in row["scopes"].split(","))
        return Caller(f"key {id}", frozenset({row["project"]}), scopes)

    def by_session(self, token: str) -> Deferred[Caller | None]:
        """See `IAuth`."""
        return Deferred.fromCoroutine(self._by_session(token))

    async def _by_session(self, token: str) -> Caller | None:
        row = await self.keyring.session(digest(token), self.clock.seconds())
        if row is None:
            return None
        projects = None if row["projects"] is None else frozenset(p.strip() for p in row["projects"].split(","))
        return Caller(row["name"], projects, ROLES.get(row["role"], frozenset()))

    def log_in(self, link_token: str) -> Deferred[str | None]:
        """See `IAuth`."""
        return Deferred.fromCoroutine(self._log_in(link_token))

    async def _log_in(self, link_token: str) -> str | None:
        now = self.clock.seconds()
        user = await self.keyring.take_link(digest(link_token), now)
        if user is None:
            return None
        token = secrets.token_urlsafe(32)
        await self.keyring.add_session(digest(token), user, now + limits.SESSION_S)
        return token

    def log_out(self, token: str) -> Deferred[None]:
        """See `IAuth`."""
        return self.keyring.drop_session(digest(token))

    def form_token(self, session_token: str) -> str:
        """See `IAuth`. Whoever has the session can make it; another site has not."""
        return hmac.new(session_token.encode(), b"bitville-apm form", hashlib.sha256).hexdigest()
