"""What a collector knows of its agents: their books beside ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.collector.agents import Agents, Batch, Told, told
from tests.agent.rig import end_line
from tests.collector.rig import item, running

JOURNAL = "0f" * 16


def batch(sequences: Sequence[int], delivered: int | None = None, *, run: int = 1, journal: str = JOURNAL) -> Batch:
    books = None if delivered is None else Told(entered=delivered, stored=delivered)
    places = [(run, sequence) for sequence in sequences]
    return Batch("shop", journal, "web1", "0.1.0", 1000.0, places, stored=len(places), told=books)


def shown(agents: Agents) -> tuple[int, tuple[int, int], int]:
    (agent,) = agents.shown_to(None)
    return agent["records"], agent["last_place"], agent["missing"]


def test_repeated_records_are_counted_once_and_holes_are_no_loss() -> None:
    """A batch whose answer was lost comes again, whole or in parts; short records leave holes between places."""
    agents = Agents()
    agents.saw(batch([1, 2, 5], 0))
    agents.saw(batch([1, 2, 5], 0))
    agents.saw(batch([5], 2))
    agents.saw(batch([5, 9], 3))
    agents.saw(batch([1, 2], 4, run=2))
    assert shown(agents) == (6, (2, 2), 0)


def test_what_an_agent_takes_for_stored_and_we_never_saw_is_missing() -> None:
    """The agent says how many records were stored or known before this batch: if we took fewer, some are gone."""
    agents = Agents()
    agents.saw(batch([7, 8], 100))
    agents.saw(batch([12], 105))
    assert shown(agents) == (3, (1, 12), 3)
    agents.saw(batch([13], 106))
    assert shown(agents) == (4, (1, 13), 3)


def test_an_agent_that_says_nothing_of_its_books_is_compared_from_when_it_does() -> None:
    """DAEMON-18: older agents send no such header; an upgrade between two batches looks like no loss."""
    agents = Agents()
    agents.saw(batch([1, 2, 3]))
    agents.saw(batch([4], 3))
    agents.saw(batch([5], 4))
    assert shown(agents) == (5, (1, 5), 0)
    assert agents.shown_to(frozenset({"other"})) == []


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one not heard of for longest is forgotten first."""
    monkeypatch.setattr(limits, "AGENTS_KEPT", 2)
    agents = Agents()
    for journal in ("a", "b", "a", "c"):
        agents.saw(batch([1], journal=journal))
    assert [agent["journal"] for agent in agents.shown_to(None)] == ["c", "a"]


@pytest.mark.parametrize("header", [None, b"", b"{", b"[]", b'{"stored":1}', b'{"entered":"many"}', b"\xff"])
def test_a_header_that_cannot_be_read_says_nothing(header: bytes | None) -> None:
    """It is for people: a batch is never refused because of it."""
    assert told(header) is None


def test_ready_shows_both_sides(tmp_path: Path) -> None:
    """LIST-07: stored, known and rejected per journal, and the agent's own sums beside them."""
    with running(tmp_path) as rig:
        key, reader = rig.key(), rig.key(scopes="read")
        good = [json.loads(end_line()) for _ in range(3)]
        poison = item(good[2], n=4) | {"body": {"t": "end"}}
        books = {"entered": 9, "stored": 5, "duplicate": 1, "quarantined": 0, "dropped": 2, "corrupt": 0}
        headers = {"Bitville_Journal": JOURNAL, "Bitville_Ledger": json.dumps(books)}
        for _twice in range(2):
            lines = [item(body, n=n) for n, body in enumerate(good[:2], 1)]
            assert rig.post(key, *lines, poison, **headers).status == 200
        (agent,) = rig.ask("GET", "/ready", key=reader).json["agents"]
        assert agent["ledger"] == books
        assert (agent["stored"], agent["duplicate"], agent["rejected"]) == (2, 2, 2)
        assert (agent["records"], agent["last_place"], agent["missing"]) == (2, [1, 2], 0)
