"""`main.db`: keys, users, links and sessions, spikes and drifts, and how far records were sent on.

Synchronous: the command line uses it as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.store.feed import Mark
from bitville_apm.store.interface import Drifts, Spike
from bitville_apm.store.sqlite import drifts, sending, spikes
from bitville_apm.store.sqlite.files import StoreError, is_damage, open_writer


@attrs.define(eq=False)
class Main:
    """The methods of `IKeyring`, and those that keep spikes and drifts, answering at once.

    Several processes may use the file at the same time.
    """

    path: Path
    _db: sqlite3.Connection

    @classmethod
    def open(cls, directory: Path) -> Main:
        """Open `main.db` in a collector's data directory, made if missing. Raises `StoreError`."""
        path = directory / "main.db"
        try:
            db = open_writer(path, "main")
        except (sqlite3.Error, OSError) as error:
            what = "; start the collector, it saves what can be read" if is_damage(error) else ""
            raise StoreError(f"{path} cannot be used: {getattr(error, 'strerror', None) or error}{what}") from None
        db.row_factory = sqlite3.Row
        return cls(path, db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- Keys ---------------------------------------------------------------------------------------------

    def key(self, id: str) -> Mapping[str, Any] | None:
        """One key's row by its public id."""
        return self._one("SELECT * FROM key WHERE id = ?", id)

    def keys(self) -> Sequence[Mapping[str, Any]]:
        """All keys, oldest first."""
        return self._all("SELECT * FROM key ORDER BY created, id")

    def add_key(self, id: str, hash: bytes, project: str, scopes: str, created: float, expires: float | None) -> None:
        """Keep a new key."""
        self._db.execute(
            "INSERT INTO key (id, hash, project, scopes, created, expires) VALUES (?,?,?,?,?,?)",
            (id, hash, project, scopes, created, expires),
        )

    def revoke_key(self, id: str, at: float) -> bool:
        """Revoke a key; whether there was one. The time of the first revocation stays."""
        cursor = self._db.execute("UPDATE key SET revoked = coalesce(revoked, ?) WHERE id = ?", (at, id))
        return cursor.rowcount > 0

    # --- People -------------------------------------------------------------------------------------------

    def user(self, name: str) -> Mapping[str, Any] | None:
        """One user's row."""
        return self._one("SELECT * FROM user WHERE name = ?", name)

    def users(self) -> Sequence[Mapping[str, Any]]:
        """All users, by name."""
        return self._all("SELECT * FROM user ORDER BY name")

    def add_user(self, name: str, role: str, projects: str | None, created: float) -> None:
        """Keep a new user."""
        self._db.execute(
            "INSERT INTO user (name, role, projects, created) VALUES (?,?,?,?)", (name, role, projects, created)
        )

    def set_password(self, name: str, hash: bytes) -> bool:
        """Keep a user's new password and end their sessions; whether there is such a user."""
        known = self._db.execute("UPDATE user SET password = ? WHERE name = ?", (hash, name)).rowcount > 0
        self._db.execute("DELETE FROM session WHERE user = ?", (name,))
        return known

    def remove_user(self, name: str) -> bool:
        """Forget a user with their links and sessions; whether there was one."""
        return self._db.execute("DELETE FROM user WHERE name = ?", (name,)).rowcount > 0

    def saw_user(self, name: str, now: float) -> None:
        """A user logged in."""
        self._db.execute("UPDATE user SET seen = ? WHERE name = ?", (now, name))

    def add_link(self, hash: bytes, user: str, expires: float) -> None:
        """Keep a one-time link."""
        self._db.execute("INSERT INTO link (hash, user, expires) VALUES (?,?,?)", (hash, user, expires))

    def take_link(self, hash: bytes, now: float) -> str | None:
        """Use up a link: of two who come at once, one gets in."""
        row = self._db.execute("DELETE FROM link WHERE hash = ? RETURNING user, expires", (hash,)).fetchone()
        if row is None or row["expires"] <= now:
            return None
        self.saw_user(row["user"], now)
        return str(row["user"])

    def add_session(self, hash: bytes, user: str, expires: float) -> None:
        """Keep a session, and forget those that are over: a session lives as long as any other."""
        self._db.execute("DELETE FROM session WHERE expires <= ? - ?", (expires, limits.SESSION_S))
        self._db.execute("INSERT INTO session (hash, user, expires) VALUES (?,?,?)", (hash, user, expires))

    def session(self, hash: bytes, now: float) -> Mapping[str, Any] | None:
        """The user's row behind a live session."""
        return self._one(
            "SELECT user.* FROM session JOIN user ON user.name = session.user WHERE hash = ? AND expires > ?",
            hash,
            now,
        )

    def drop_session(self, hash: bytes) -> None:
        """Forget a session."""
        self._db.execute("DELETE FROM session WHERE hash = ?", (hash,))

    # --- Spikes -------------------------------------------------------------------------------------------

    def keep_spike(self, spike: Spike) -> None:
        """See `IStore`."""
        spikes.keep(self._db, spike)

    def told_spike(self, id: str, told: int) -> None:
        """See `IStore`."""
        spikes.was_told(self._db, id, told)

    def keep_drifts(self, found: Drifts) -> None:
        """See `IStore`."""
        drifts.keep(self._db, found)

    # --- What is sent on ----------------------------------------------------------------------------------

    def begin_feed(self, now: float, heads: Sequence[sending.Head]) -> None:
        """See `IFeed.begin`."""
        sending.begin(self._db, now, heads)

    def end_feed(self) -> None:
        """See `IFeed.end`."""
        sending.end(self._db)

    def marks(self) -> Mapping[int, Mark]:
        """See `IFeed.marks`."""
        return sending.kept(self._db)

    def keep_marks(self, marks: Sequence[Mark]) -> None:
        """See `IFeed.sent`."""
        sending.keep(self._db, marks)

    def _one(self, question: str, *values: object) -> Mapping[str, Any] | None:
        row = self._db.execute(question, values).fetchone()
        return dict(row) if row is not None else None

    def _all(self, question: str) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in self._db.execute(question).fetchall()]
