"""What is sent of a server beside frames: records of wire.md 5 (LIST-02). Pure.

Frames add up; these are what a person wants to see of it: the sessions and the lock tree of the worst second of ten,
what ran for one request, what each statement cost, what the log says. Each is bounded, and what did not fit is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.agent.postgres.locks import Forest, Node
from bitville_apm.agent.postgres.names import correlation, named
from bitville_apm.agent.postgres.sessions import Look, Session
from bitville_apm.agent.postgres.statements import Cost
from bitville_apm.sqltext import fingerprint


class Observation(Struct, frozen=True):
    """One record: `source` of LIST-02, `at` unix seconds."""

    source: str
    at: float
    data: Any
    correlation: str | None = None


def session_json(session: Session) -> dict[str, Any]:
    """A session as it is sent: no text of it but its statement."""
    statement = named(session.text)
    told: dict[str, Any] = {
        "pid": session.pid,
        "user": session.user,
        "database": session.database,
        "application": session.application,
        "kind": session.kind,
        "state": session.state,
        "wait": session.waits_for if session.counted else None,
        "statement": statement.value if statement else None,
        "fingerprint": statement.fingerprint if statement else None,
        "query_s": round(session.query_s, 3),
        "transaction_s": round(session.xact_s, 3),
        "state_s": round(session.state_s, 3),
        "leader": session.leader,
        "correlation_id": correlation(session.application, session.text),
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def tree_json(forest: Forest) -> dict[str, Any]:
    """The lock trees of a look: roots, each followed by what is behind it; also when there are none (PG-06)."""
    return {
        "waiting": len(forest.root),
        "roots": sum(node.depth == 0 for node in forest.nodes),
        "tree": [_node_json(node) for node in forest.nodes[: limits.PG_TREE]],
        "left_out": max(0, len(forest.nodes) - limits.PG_TREE),
    }


def _node_json(node: Node) -> dict[str, Any]:
    session = node.session
    statement = named(session.text)
    return {
        "depth": node.depth,
        "session": session.told if session.pid else session.user,
        "state": session.state,
        "statement": statement.value if statement else "",
        "blocked": node.behind,
        **session_json(session),
    }


class _Worked(Struct):
    """What one session did for one request in this window."""

    session: Session
    at: float
    seen: int
    waits: dict[str, float]


@attrs.define
class Window:
    """Ten seconds of looks at one server, until they are sent. `left_out` counts what did not fit, by its source."""

    left_out: dict[str, int] = attrs.Factory(dict)
    _at: int | None = None
    _worst: tuple[float, Look, int] | None = None
    _tree: tuple[float, Forest] | None = None
    _requests: dict[tuple[str, int, str], _Worked] = attrs.Factory(dict)
    _told: dict[str, float] = attrs.Factory(dict)
    _waiting: bool = False

    def look(self, at: float, look: Look, forest: Forest, seconds: float) -> list[Observation]:
        """Take a look that stands for so many seconds; gives back the observations of a window that is over."""
        window = int(at // limits.WINDOW_S)
        done = self.flush(at) if self._at is not None and window != self._at else []
        self._at = window
        active = sum(session.counted for session in look.sessions.values())
        if self._worst is None or active > self._worst[2]:
            self._worst = at, look, active
        if self._tree is None or len(forest.root) > len(self._tree[1].root):
            self._tree = at, forest
        for session in look.sessions.values():
            if session.counted:
                self._note(at, session, seconds)
        return done

    def _note(self, at: float, session: Session, seconds: float) -> None:
        request = correlation(session.application, session.text)
        statement = named(session.text) if request else None
        if request is None or statement is None:
            return
        key = request, session.pid, statement.fingerprint
        worked = self._requests.get(key)
        if worked is None:
            if len(self._requests) >= limits.PG_SESSIONS:
                self.left_out["pg_stat_activity"] = self.left_out.get("pg_stat_activity", 0) + 1
                return
            worked = self._requests[key] = _Worked(session, at, 0, {})
        worked.session, worked.at, worked.seen = session, at, worked.seen + 1
        worked.waits[session.waits_for] = worked.waits.get(session.waits_for, 0.0) + seconds

    def flush(self, now: float) -> list[Observation]:
        """What there is to say of the window, at `now`."""
        found = [*self._sessions(now), *self._locks(now), *self._worked()]
        self._worst = self._tree = None
        self._requests = {}
        return found

    def _due(self, what: str, now: float) -> bool:
        """Whether something that is not remarkable was last said long enough ago."""
        if now - self._told.get(what, float("-inf")) < limits.PG_QUIET_S:
            return False
        self._told[what] = now
        return True

    def _sessions(self, now: float) -> Iterable[Observation]:
        if self._worst is None:
            return
        at, look, active = self._worst
        sessions = sorted(look.sessions.values(), key=lambda s: (not s.counted, -s.query_s, -s.xact_s, s.pid))
        long = any(session.counted and session.query_s * 1000 >= limits.PG_REQUEST_MS for session in sessions)
        if not long and not self._due("sessions", now):
            return
        self._told["sessions"] = now
        kept = sessions[: limits.PG_SESSIONS_SENT]
        data = {
            "active": active,
            "connections": look.connections,
            "idle_in_transaction": look.idle_in_transaction,
            "sessions": [session_json(session) for session in kept],
            "left_out": len(sessions) - len(kept),
        }
        yield Observation("pg_stat_activity", at, data)

    def _locks(self, now: float) -> Iterable[Observation]:
        if self._tree is None:
            return
        at, forest = self._tree
        waiting = bool(forest.root)
        if waiting or self._waiting or self._due("locks", now):
            self._told["locks"] = now
            yield Observation("pg_locks", at, tree_json(forest))
        self._waiting = waiting

    def _worked(self) -> Iterable[Observation]:
        """The statements of each request, those that took long or were seen again."""
        by_request: dict[str, list[_Worked]] = {}
        for (request, _pid, _fingerprint), worked in self._requests.items():
            if worked.seen > 1 or worked.session.query_s * 1000 >= limits.PG_REQUEST_MS:
                by_request.setdefault(request, []).append(worked)
        heaviest = sorted(by_request, key=lambda id_: -sum(sum(w.waits.values()) for w in by_request[id_]))
        self._leave("pg_stat_activity", len(heaviest) - limits.PG_REQUESTS_SENT)
        for request in heaviest[: limits.PG_REQUESTS_SENT]:
            found = sorted(by_request[request], key=lambda w: -sum(w.waits.values()))
            sessions = [
                {
                    **session_json(worked.session),
                    "seen": worked.seen,
                    "waits_s": {name: round(s, 3) for name, s in worked.waits.items()},
                }
                for worked in found[: limits.PG_SESSIONS_SENT]
            ]
            data = {"sessions": sessions, "left_out": max(0, len(found) - limits.PG_SESSIONS_SENT)}
            yield Observation("pg_stat_activity", max(w.at for w in found), data, request)

    def _leave(self, source: str, n: int) -> None:
        if n > 0:
            self.left_out[source] = self.left_out.get(source, 0) + n


def heaviest(costs: Sequence[Cost]) -> list[Cost]:
    """The statements of a reading that are told one by one: half by time, the rest by calls."""
    by_time = sorted(costs, key=lambda cost: -cost.sums.get("total_ms", 0.0))
    kept = by_time[: limits.PG_STATEMENTS_SENT // 2]
    rest = sorted(by_time[len(kept) :], key=lambda cost: -cost.sums.get("calls", 0.0))
    return [*kept, *rest[: limits.PG_STATEMENTS_SENT - len(kept)]]


def called(data: Mapping[str, Any]) -> dict[str, int]:
    """How often each of a reading's dearest statements ran, by its fingerprint: what a frame has of `statements_json`.

    Requests tell how often they asked when they end. While all of them still run, this tells whether they repeat it.
    """
    found: dict[str, int] = {}
    for told in data["statements"]:
        if told["statement"] is not None and "calls" in told:
            key = fingerprint(told["statement"])
            if key in found or len(found) < limits.PG_CALLED:
                found[key] = found.get(key, 0) + round(told["calls"])
    return found


def statements_json(
    costs: Sequence[Cost], seconds: float, texts: Mapping[int, str | None], names: Mapping[tuple[str, int], str]
) -> dict[str, Any]:
    """What statements cost in the last seconds. `texts` by query id, `names` of ("user" or "database", oid)."""
    kept = heaviest(costs)
    told = []
    for cost in kept:
        user, database, query_id, toplevel = cost.key
        statement = named(texts.get(query_id))
        told.append(
            {
                "query_id": str(query_id),
                "user": names.get(("user", user), str(user)),
                "database": names.get(("database", database), str(database)),
                "statement": statement.value if statement else None,
                "fingerprint": statement.fingerprint if statement else None,
                "nested": not toplevel,
                **{name: round(value, 3) for name, value in cost.sums.items()},
            }
        )
    kept_keys = {cost.key for cost in kept}
    others: dict[str, float] = {}
    for cost in costs:
        if cost.key not in kept_keys:
            for name, value in cost.sums.items():
                others[name] = round(others.get(name, 0.0) + value, 3)
    return {"seconds": round(seconds, 3), "statements": told, "others": others, "left_out": len(costs) - len(kept)}
