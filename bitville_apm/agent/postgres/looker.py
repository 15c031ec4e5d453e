"""One look at a server's sessions a second, as what it adds to frames and what is sent of it. Blocks: for a thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.agent.postgres import sessions
from bitville_apm.agent.postgres.link import Facts, Link
from bitville_apm.agent.postgres.locks import forest
from bitville_apm.agent.postgres.names import leading_comments
from bitville_apm.agent.postgres.observations import Observation, Window
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.sessions import Look, Session
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.tally import Tally, tally


@attrs.frozen
class Seen:
    """One look at `at` (unix seconds) that stands for `seconds`; `lost` are those before it that nobody saw."""

    at: float
    seconds: float
    lost: float
    facts: Facts
    connections: int
    tally: Tally
    observations: list[Observation]


@attrs.define(eq=False)
class Looker:
    """`now` is unix seconds. `pace` learns what looks cost; `texts` knows statements longer than a session shows."""

    link: Link
    pace: Pace
    texts: Texts
    now: Callable[[], float]
    window: Window = attrs.Factory(Window)
    took_ms: float = 0.0
    _last: float | None = None

    def look(self) -> Seen:
        """One look. Raises `Unreachable` and `TooSlow`."""
        facts = self.link.open()
        own, began = time.thread_time(), time.monotonic()
        look = sessions.look_of(self.link.rows(sessions.look_sql(facts.version)))
        missing = sessions.missing_blockers(look)
        if missing:
            found = self.link.rows(sessions.blockers_sql(facts.version, missing))
            look.sessions.update((s.pid, s) for s in map(sessions.session_of, found))
        answered = time.monotonic()
        if facts.text_bytes <= limits.PG_TEXT_CHARACTERS:
            self._whole_texts(look, facts.text_bytes)
        at = self.now()
        passed = answered - self._last if self._last is not None else limits.PG_LOOK_S
        self._last = answered
        seconds = min(passed, max(limits.PG_STANDS_FOR_S, 1.5 * self.pace.period))
        trees = forest(look.sessions)
        added = tally(look.sessions, trees, seconds)
        observations = self.window.look(at, look, trees, seconds)
        self.took_ms = (time.monotonic() - began) * 1000
        self.pace.took(time.thread_time() - own, answered - began, self.link.server_cpu())
        return Seen(at, seconds, passed - seconds, facts, look.connections, added, observations)

    def _whole_texts(self, look: Look, text_bytes: int) -> None:
        """A text that was cut has its whole statement in pg_stat_statements, where the server tells which it is."""
        for session in look.sessions.values():
            if session.query_id is None or len(session.text) * 4 < text_bytes - 1:
                continue
            if len(session.text.encode("utf-8", "replace")) >= text_bytes - 1:
                whole = self.texts.of(session.query_id)
                if whole is not None:
                    look.sessions[session.pid] = _with_text(session, whole)

    def close(self) -> None:
        """Let go of the connection."""
        self.link.close()


def _with_text(session: Session, whole: str) -> Session:
    return msgspec.structs.replace(session, text=leading_comments(session.text) + whole)
