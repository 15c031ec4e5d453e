"""The whole way for tests: a real collector, a real agent that sends to it, and a key that reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.agent import rig as agents
from tests.collector import rig as collectors


class Way:
    """One collector, one agent that sends to it, and a key that reads."""

    def __init__(self, directory: Path) -> None:
        self.collector = collectors.Rig(directory / "collector")
        self.collector.start()
        self.read_key = self.collector.key(scopes="read")
        self.agent = agents.Agent(directory / "agent", self.collector.url, key=self.collector.key())
        self.agent.start()

    def end(self) -> None:
        """Let no process remain."""
        self.agent.clean_up()
        self.collector.end()

    def ask(self, path: str, **parameters: Any) -> Any:
        """The API's answer."""
        answer = self.collector.ask("GET", f"/api/{path}?{urlencode(parameters)}", key=self.read_key)
        assert answer.status == 200, answer.body
        return answer.json

    def stored(self) -> list[dict[str, Any]]:
        """Every record there is, by all pages of a search."""
        return self.collector.stored(self.read_key)

    def counted(self) -> int:
        """How many requests the rolls of all endpoints hold."""
        return sum(self.collector.counted(self.read_key).values())

    def delivered(self) -> bool:
        """Whether the agent has nothing left to send."""
        return bool(self.agent.ledger()["pending"] == 0)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Way]:
    """Both have started, and are gone afterwards."""
    way = Way(directory)
    try:
        yield way
    finally:
        way.end()
