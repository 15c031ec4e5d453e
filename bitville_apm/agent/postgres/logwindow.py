"""Ten seconds of a server's log: the heaviest of each kind one by one, the rest as counts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.agent.postgres.logformats import Entry
from bitville_apm.agent.postgres.logmessages import Event, event
from bitville_apm.agent.postgres.observations import Observation

_COUNTED = ("error", "temporary_file")
"""Kinds of which a busy server writes thousands: told one by one only where a request asks for them."""


@attrs.define
class LogWindow:
    """Entries in, observations out once their window is over. `seen` counts events by kind since start."""

    seen: Counter[str] = attrs.Factory(Counter)
    left_out: int = 0
    _at: int | None = None
    _events: dict[str, list[tuple[float, Event]]] = attrs.Factory(dict)
    _counts: Counter[tuple[str, str, str, str, str]] = attrs.Factory(Counter)
    _bytes: Counter[tuple[str, str, str, str, str]] = attrs.Factory(Counter)
    _more: int = 0

    def read(self, now: float, entries: Iterable[Entry]) -> list[Observation]:
        """Take entries; gives back the observations of a window that is over."""
        window = int(now // limits.WINDOW_S)
        done = self.flush(now) if self._at is not None and window != self._at else []
        self._at = window
        for entry in entries:
            found = event(entry)
            if found is not None:
                self._take(now, found)
        return done

    def _take(self, now: float, found: Event) -> None:
        self.seen[found.kind] += 1
        # A server's clock, or its zone, may be wrong by hours; what is read now was written just now.
        at = found.at if found.at is not None and abs(now - found.at) < limits.WINDOW_S * 6 else now
        if found.kind in _COUNTED:
            told = found.data
            key = (
                found.kind,
                told.get("severity") or "",
                told.get("sqlstate") or "",
                told.get("what") or "",
                told.get("statement") or "",
            )
            if key in self._counts or len(self._counts) < limits.PG_STATEMENTS_HELD:
                self._counts[key] += 1
                self._bytes[key] += told.get("bytes", 0)
            if found.correlation is None:
                return
        held = self._events.setdefault(found.kind, [])
        held.append((at, found))
        if len(held) > 2 * limits.PG_LOG_SENT:
            self._cut(held)

    def _cut(self, held: list[tuple[float, Event]]) -> None:
        held.sort(key=lambda item: -item[1].weight)
        self._more += len(held) - limits.PG_LOG_SENT
        del held[limits.PG_LOG_SENT :]

    def flush(self, now: float) -> list[Observation]:
        """What there is to say of the window."""
        found: list[Observation] = []
        for held in self._events.values():
            if len(held) > limits.PG_LOG_SENT:
                self._cut(held)
            held.sort(key=lambda item: item[0])
            found += [Observation("pg_log", at, told.data, told.correlation) for at, told in held]
        if self._counts or self._more:
            found.append(Observation("pg_log", now, self._summary()))
        self.left_out += self._more
        self._events, self._counts, self._bytes, self._more = {}, Counter(), Counter(), 0
        return found

    def _summary(self) -> dict[str, Any]:
        kept = self._counts.most_common(limits.PG_LOG_SENT)
        counts = []
        for key, n in kept:
            kind, severity, sqlstate, what, statement = key
            told = {"event": kind, "severity": severity, "sqlstate": sqlstate, "what": what, "statement": statement}
            told = {name: value for name, value in told.items() if value}
            counts.append({**told, "n": n, **({"bytes": self._bytes[key]} if self._bytes[key] else {})})
        rest = sum(self._counts.values()) - sum(n for _, n in kept)
        return {"event": "counts", "counts": counts, "others": rest, "left_out": self._more}
