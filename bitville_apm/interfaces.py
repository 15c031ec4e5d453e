"""What crosses between folders of one level: handed in by a tap, never imported from the other folder.

`IStore` is not here but beside its implementations (`store/interface.py`): collector and web stand above
the store and may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface


@attrs.frozen
class Caller:
    """Who asks: a key or a person, and what they may see.

    `projects` is None for everybody's (an administrator of the installation), else the names. `scopes` of
    `ingest`, `read`, `admin`. A key has exactly one project: what it sends belongs there, whatever it claims.
    """

    name: str
    projects: frozenset[str] | None
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this caller holds the scope."""
        return scope in self.scopes


class TooOften(Exception):
    """Too many tries; `wait` is seconds until the next is looked at."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class IAuth(Interface):
    """Keys and sessions. Secrets are compared in constant time and kept only as hashes."""

    def by_key(key: str) -> Deferred[Caller | None]:
        """The caller a key `bv_<id>_<secret>` stands for; None when unknown, revoked or expired."""

    def by_session(token: str) -> Deferred[Caller | None]:
        """The person a session cookie stands for; None when unknown or expired."""

    def log_in(link_token: str) -> Deferred[str | None]:
        """Use up a one-time link: the session token for a cookie, None when unknown, used or expired."""

    def log_in_with(name: str, password: str, address: str) -> Deferred[str | None]:
        """A name and a password, from an address: the session token, None when they are not right.

        Fails with `TooOften` where one name or address tries too many; nothing was looked at then.
        """

    def log_out(token: str) -> Deferred[None]:
        """Forget a session."""

    def form_token(session_token: str) -> str:
        """What a POST of this session must carry, so that another site's form cannot act for it."""


class ISource(Interface):
    """Feeds rollups: a PHP socket, the host, a Postgres server.

    Started when the journals are open, stopped before they are closed, also when the agent replaces itself: the next
    process begins anew, and what it cannot know yet is a gap that is said.
    """

    name: str

    def start() -> None:
        """Begin to look or listen."""

    def stop() -> Deferred[None]:
        """Stop; fires when the work in hand is done."""

    def health() -> Mapping[str, Any]:
        """Numbers and short texts for `/health` under `sources.<name>`.

        `status` is ok, degraded or failing; `why` says in one line why it is not ok, without a secret in it.
        """


class IRollup(Interface):
    """What a source tells a project's frames of (wire.md 6), beside requests, which come by way of the journal.

    Times are unix seconds. What is told while a start still seals the windows of the run before is left out.
    """

    def cell(at: float, dimension: str, value: str, **columns: float) -> None:
        """Add columns of wire.md 6 to one value in the window of `at`."""

    def cells(at: float, tables: Any) -> None:
        """The same of many: dimension -> value -> `cells.Columns`."""

    def second(now: float, **numbers: float) -> None:
        """What was counted in this second, for the frame's `seconds`: `db`."""

    def load(now: float) -> Any:
        """The frame's `load` of this window, a `Load` (`agent/load.py`) to add to at once; not to be kept."""

    def link(at: float, a: tuple[str, str], b: tuple[str, str], task_s: float, executions: int | None) -> None:
        """Two values, each as (dimension, value), have so many task-seconds and executions in common."""

    def lost(now: float, **numbers: float) -> None:
        """What is missing from this window, for the frame's `lost`."""


class IExplainer(Interface):
    """Explains a window (the collector's; pages and API ask it)."""

    def explain(projects: frozenset[str] | None, start: float, end: float, host: str | None) -> Deferred[Any]:
        """The `analysis.report.Report` of [start, end), unix seconds, against the hour before it.

        Of one project: fails with `HttpProblem` 400 where several of the caller's have frames there, 503 when too many
        ask at once.
        """
