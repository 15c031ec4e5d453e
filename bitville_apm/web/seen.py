"""What Postgres was seen doing for one request, out of the records of it (wire.md 5, LIST-05). Pure.

They come from agents of any version and from anybody with a key: what has another shape is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
from msgspec import Struct

from bitville_apm.store.interface import Stored

T = TypeVar("T", bound=Struct)


class _Body(Struct):
    """A record's frame: `server` is the section of agent.ini."""

    source: str
    data: msgspec.Raw
    server: str | None = None


class _Session(Struct):
    """A session, in lists and in trees of locks."""

    pid: int = 0
    user: str = ""
    database: str = ""
    session: str = ""
    state: str = ""
    statement: str = ""
    fingerprint: str = ""
    waits_s: dict[str, float] = {}
    depth: int = 0
    blocked: int = 0
    correlation_id: str | None = None

    @property
    def told(self) -> str:
        """How people call it."""
        return self.session or (f"{self.user}@{self.database} " if self.user or self.database else "") + str(self.pid)


class _Sessions(Struct):
    sessions: list[_Session] = []


class _Tree(Struct):
    tree: list[_Session] = []


class Event(Struct):
    """A line of the server's log."""

    event: str = ""
    duration_ms: float | None = None
    waited_ms: float | None = None
    what: str | None = None
    mode: str | None = None
    on: str | None = None
    holders: list[int] = []
    severity: str | None = None
    sqlstate: str | None = None
    statement: str = ""
    plan: Any = None


@attrs.frozen
class Ran:
    """A statement that a session was seen at, and for how many seconds by what it waited for."""

    server: str
    session: str
    statement: str
    waits: dict[str, float]

    @property
    def seconds(self) -> float:
        """All of them."""
        return sum(self.waits.values())


@attrs.frozen
class Holder:
    """A session that this request waited for; `request` is the id of its own, where it has one."""

    server: str
    session: str
    state: str
    statement: str
    request: str | None


@attrs.frozen
class Seen:
    """What is known of one request; `held_up` is how many sessions waited for it at a time, at most."""

    ran: Sequence[Ran] = ()
    holders: Sequence[Holder] = ()
    held_up: int = 0
    events: Sequence[tuple[float, str, Event]] = ()

    @classmethod
    def of(cls, id: str, observed: Sequence[Stored], trees: Sequence[Stored]) -> Seen:
        """Out of the records of this request, and of the lock trees of its time."""
        ran: dict[tuple[str, int, str], Ran] = {}
        events: list[tuple[float, str, Event]] = []
        for at, body, place in _bodies(observed):
            if body.source == "pg_stat_activity":
                for session in _read(body, _Sessions()).sessions:
                    key = place, session.pid, session.fingerprint or session.statement
                    known = ran.setdefault(key, Ran(place, session.told, session.statement, {}))
                    for wait, seconds in session.waits_s.items():
                        known.waits[wait] = known.waits.get(wait, 0.0) + max(0.0, seconds)
            elif body.source == "pg_log":
                event = _read(body, Event())
                events += [(at, place, event)] if event.event else []
        holders: dict[tuple[str, str, str], Holder] = {}
        held_up = 0
        for _at, body, place in _bodies(trees):
            above: list[_Session] = []
            for node in _read(body, _Tree()).tree:
                del above[max(0, node.depth) :]
                if node.correlation_id == id:
                    held_up = max(held_up, node.blocked)
                    for one in above:
                        holder = Holder(place, one.told, one.state, one.statement, one.correlation_id)
                        holders.setdefault((place, one.told, one.statement), holder)
                above.append(node)
        heaviest = sorted((one for one in ran.values() if one.waits), key=lambda one: -one.seconds)
        return cls(heaviest, list(holders.values()), held_up, sorted(events, key=lambda event: event[0]))

    def json(self) -> dict[str, Any]:
        """The same for programs; of a line of the log only what it says."""
        sessions = [
            {"server": one.server, "session": one.session, "statement": one.statement, "seconds": one.seconds,
             "waits_s": one.waits}
            for one in self.ran
        ]  # fmt: skip
        log = []
        for at, place, event in self.events:
            said = {name: value for name, value in msgspec.structs.asdict(event).items() if value}
            log.append({"at": at, "server": place, **said})
        holders = [attrs.asdict(one) for one in self.holders]
        return {"sessions": sessions, "held_up_by": holders, "held_up": self.held_up, "log": log}


def _bodies(stored: Sequence[Stored]) -> Iterator[tuple[float, _Body, str]]:
    """Each record that has the shape of one: when it was made, and the server it is of."""
    for one in stored:
        try:
            body = msgspec.json.decode(one.body, type=_Body)
        except msgspec.MsgspecError:
            continue
        yield one.found.at, body, f"{body.server} on {one.found.host}" if body.server else one.found.host


def _read(body: _Body, empty: T) -> T:
    """A record's data; nothing where it has another shape."""
    try:
        return msgspec.json.decode(body.data, type=type(empty))
    except msgspec.MsgspecError:
        return empty
