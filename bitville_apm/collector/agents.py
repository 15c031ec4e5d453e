"""Which agents were heard of since the start: version, clock, and whether their books and ours agree.

Each batch says what its agent knew before it (`Bitville-Ledger`, wire.md 5): how many records of that journal ever
entered it and what became of them. We count the same from our side, a record by its place (run, sequence), which
repetitions do not change. What an agent takes for stored or known here and we never saw is `missing`: somebody else
answered in our place, or a commit is gone. Both sides are compared from the first batch after our start on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import msgspec
from msgspec import Struct

from bitville_apm import limits
from bitville_apm.store.interface import Projects

Place = tuple[int, int]


class Told(Struct, frozen=True):
    """An agent's own sums of one journal, in records since the journal was made, as of before the batch."""

    entered: int
    stored: int = 0
    duplicate: int = 0
    quarantined: int = 0
    dropped: int = 0
    corrupt: int = 0

    @property
    def delivered(self) -> int:
        """What the agent takes for being here."""
        return self.stored + self.duplicate


@attrs.frozen
class Batch:
    """One batch that was committed: the places of the records taken, and what became of all of them here.

    `sent` is the agent's time (unix seconds), `now` ours.
    """

    project: str
    journal: str
    host: str
    version: str
    now: float
    places: Iterable[Place] = ()
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    sent: float | None = None
    told: Told | None = None


@attrs.define
class Agent:
    """One agent's journal in one project; numbers are since the start.

    `skew_s` is our time less its own; None while it did not say. `last_place` is the highest (run, sequence) taken,
    `records` how many different ones, `ledger` what the agent said last.
    """

    project: str
    journal: str
    host: str = ""
    version: str = ""
    last: float = 0.0
    skew_s: float | None = None
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    records: int = 0
    last_place: Place = (0, 0)
    missing: int = 0
    ledger: Told | None = None
    _before: int | None = None

    def add(self, batch: Batch) -> None:
        """One more batch of it."""
        self.host = batch.host or self.host
        self.version, self.last = batch.version, batch.now
        self.skew_s = None if batch.sent is None else batch.now - batch.sent
        if batch.told is not None:
            if self._before is None:
                self._before = batch.told.delivered - self.records
            self.missing = max(0, batch.told.delivered - self._before - self.records)
            self.ledger = batch.told
        self.stored += batch.stored
        self.duplicate += batch.duplicate
        self.rejected += batch.rejected
        new = {place for place in batch.places if place > self.last_place}
        self.records += len(new)
        self.last_place = max(new, default=self.last_place)

    def shown(self) -> dict[str, Any]:
        """For `/ready`."""
        plain = attrs.asdict(self, filter=lambda field, _: not field.name.startswith("_"))
        return plain | {"ledger": None if self.ledger is None else msgspec.structs.asdict(self.ledger)}


@attrs.define(eq=False)
class Agents:
    """The agents, by project and journal; the one not heard of for longest is forgotten first."""

    _seen: dict[tuple[str, str], Agent] = attrs.field(factory=dict)

    def saw(self, batch: Batch) -> None:
        """A batch came."""
        name = batch.project, batch.journal
        agent = self._seen.pop(name, None) or Agent(*name)
        agent.add(batch)
        self._seen[name] = agent
        if len(self._seen) > limits.AGENTS_KEPT:
            del self._seen[next(iter(self._seen))]

    def __len__(self) -> int:
        return len(self._seen)

    def shown_to(self, projects: Projects) -> list[dict[str, Any]]:
        """What a caller may see of them, the last heard first."""
        return [
            agent.shown() for agent in reversed(self._seen.values()) if projects is None or agent.project in projects
        ]


_told = msgspec.json.Decoder(Told)


def told(header: bytes | None) -> Told | None:
    """What a `Bitville-Ledger` header says; None without one, or when it cannot be read."""
    try:
        return _told.decode(header) if header else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
