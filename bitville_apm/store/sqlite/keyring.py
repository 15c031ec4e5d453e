"""Keys and people, and what else `main.db` keeps: one thread asks and changes it, one thing behind the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from bitville_apm.store.keyring import IKeyring
from bitville_apm.store.sqlite.files import is_damage
from bitville_apm.store.sqlite.main import Main

T = TypeVar("T")


@implementer(IKeyring)
@attrs.define(eq=False)
class Keyring:
    """`damage` is what was found wrong with the file."""

    main: Main
    reactor: IReactorFromThreads
    thread: ThreadPool = attrs.Factory(lambda: ThreadPool(0, 1, "bitville-main"))
    damage: str | None = None

    def do(self, action: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Have the thread do something, behind what it was given before."""
        answer: Deferred[T] = deferToThreadPool(self.reactor, self.thread, action, *arguments)
        return answer.addErrback(self._note_damage)

    def _note_damage(self, failure: Failure) -> Failure:
        if failure.value is not None and is_damage(failure.value):
            self.damage = str(failure.value)
        return failure

    def key(self, id: str) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self.do(self.main.key, id)

    def keys(self) -> Deferred[Sequence[Mapping[str, Any]]]:
        """See `IKeyring`."""
        return self.do(self.main.keys)

    def user(self, name: str) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self.do(self.main.user, name)

    def saw_user(self, name: str, now: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self.do(self.main.saw_user, name, now)

    def take_link(self, hash: bytes, now: float) -> Deferred[str | None]:
        """See `IKeyring`."""
        return self.do(self.main.take_link, hash, now)

    def add_session(self, hash: bytes, user: str, expires: float) -> Deferred[None]:
        """See `IKeyring`."""
        return self.do(self.main.add_session, hash, user, expires)

    def session(self, hash: bytes, now: float) -> Deferred[Mapping[str, Any] | None]:
        """See `IKeyring`."""
        return self.do(self.main.session, hash, now)

    def drop_session(self, hash: bytes) -> Deferred[None]:
        """See `IKeyring`."""
        return self.do(self.main.drop_session, hash)
