"""Keys, log-in links and sessions.

A key is `bv_<id>_<secret>`: the id finds its row, the secret is 256 random bits of which the row has the SHA-256.
A fast hash is enough for what cannot be guessed; comparisons take the same time wherever they fail.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bitville_apm import limits
from bitville_apm.collector import passwords
from bitville_apm.interfaces import Caller, IAuth, TooOften
from bitville_apm.rates import Rates
from bitville_apm.store.keyring import IKeyring

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


def _caller(row: Mapping[str, Any]) -> Caller:
    scopes = frozenset(scope.strip() for scope in row["scopes"].split(","))
    return Caller(f"key {row['id']}", frozenset({row["project"]}), scopes)


@implementer(IAuth)
@attrs.define(eq=False)
class Auth:
    """See `IAuth`. `environment` are ingest keys by project, in whatever form their owner chose."""

    keyring: IKeyring
    clock: IReactorTime
    environment: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    _tries: Rates = attrs.field(factory=lambda: Rates(limits.LOGINS_PER_S, limits.LOGINS_BURST))
    _hashing: DeferredLock = attrs.field(factory=DeferredLock)
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
        return _caller(row) if is_live(row, now) else None

    async def by_signature(self, id: str, message: bytes, signature: bytes) -> Caller | None:
        """The caller whose key signed a message: HMAC-SHA256 under the SHA-256 of the key's secret."""
        row = await self.keyring.key(id)
        wanted = hmac.digest(row["hash"] if row else digest(""), message, "sha256")
        if not hmac.compare_digest(wanted, signature) or row is None:
            return None
        return _caller(row) if is_live(row, self.clock.seconds()) else None

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
        return None if user is None else await self._new_session(user, now)

    async def _new_session(self, user: str, now: float) -> str:
        token = secrets.token_urlsafe(32)
        await self.keyring.add_session(digest(token), user, now + limits.SESSION_S)
        return token

    def log_in_with(self, name: str, password: str, address: str) -> Deferred[str | None]:
        """See `IAuth`. Passwords are tried one at a time: each takes 32 MiB."""
        return Deferred.fromCoroutine(self._log_in_with(name, password, address))

    async def _log_in_with(self, name: str, password: str, address: str) -> str | None:
        now = self.clock.seconds()
        waits = [self._tries.take(key, now).wait for key in (f"name {name}", f"address {address}")]
        if any(waits):
            raise TooOften(max(waits))
        row = await self.keyring.user(name)
        kept = None if row is None else row["password"]
        if not await self._hashing.run(self._in_thread, passwords.matches, password, kept):
            return None
        await self.keyring.saw_user(name, now)
        return await self._new_session(name, now)

    def _in_thread(self, function: Callable[..., bool], *arguments: object) -> Deferred[bool]:
        if IReactorThreads.providedBy(self.clock):
            return deferToThreadPool(self.clock, self.clock.getThreadPool(), function, *arguments)
        return succeed(function(*arguments))

    def log_out(self, token: str) -> Deferred[None]:
        """See `IAuth`."""
        return self.keyring.drop_session(digest(token))

    def form_token(self, session_token: str) -> str:
        """See `IAuth`. Whoever has the session can make it; another site has not."""
        return hmac.new(session_token.encode(), b"bitville-apm form", hashlib.sha256).hexdigest()
