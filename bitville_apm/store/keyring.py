"""What a collector needs of the store to know who asks: keys, users, one-time links and sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface


class IKeyring(Interface):
    """Hashes and names, never a secret. Keys and users are made by commands, beside a running collector.

    Rows are plain mappings with the columns of `schema/main.sql`. Times are unix seconds.
    """

    def key(id: str) -> Deferred[Mapping[str, Any] | None]:
        """One key's row by its public id."""

    def keys() -> Deferred[Sequence[Mapping[str, Any]]]:
        """All keys, oldest first."""

    def user(name: str) -> Deferred[Mapping[str, Any] | None]:
        """One user's row."""

    def saw_user(name: str, now: float) -> Deferred[None]:
        """A user logged in."""

    def take_link(hash: bytes, now: float) -> Deferred[str | None]:
        """Use up a link: the user it logs in, None when unknown, used or expired."""

    def add_session(hash: bytes, user: str, expires: float) -> Deferred[None]:
        """Keep a session."""

    def session(hash: bytes, now: float) -> Deferred[Mapping[str, Any] | None]:
        """The user's row behind a live session."""

    def drop_session(hash: bytes) -> Deferred[None]:
        """Forget a session."""
