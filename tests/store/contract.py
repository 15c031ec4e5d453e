"""What every test of a store needs, whatever it is made of; a subclass of each contract says how to open one."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from bitville_apm.store.interface import Arrival, Found, IStore, Projects, Search
from tests.store.make import DAY, NOON, Pump, end, new_id

SHOP = frozenset({"shop"})
BLOG = frozenset({"blog"})
quick = settings(max_examples=30, deadline=None)


@attrs.define
class Open:
    """An open store, asked synchronously."""

    store: IStore
    pump: Pump

    def write(self, *batch: Arrival) -> list[str]:
        return list(self.pump.ask(self.store.write(batch)))

    def search(self, projects: Projects = None, **parameters: Any) -> list[Found]:
        return self.pump.ask(self.store.search(projects, Search(**parameters))).items

    def pages(self, projects: Projects, **parameters: Any) -> Iterator[list[Found]]:
        """All pages of a search."""
        after = None
        while True:
            page = self.pump.ask(self.store.search(projects, Search(after=after, **parameters)))
            yield page.items
            after = page.cursor
            if after is None:
                return

    def request(self, id: str, projects: Projects = None) -> Any:
        return self.pump.ask(self.store.request(projects, id))

    def top(
        self, dimension: str = "endpoint", start: float = 0, end: float = 1e10, *, projects: Projects = None,
        host: str | None = None, limit: int = 200,
    ) -> list[Any]:  # fmt: skip
        return self.pump.ask(self.store.top(projects, dimension, start, end, host, limit))

    def frames(self, start: float, end: float, projects: Projects = None, host: str | None = None) -> list[Any]:
        return [framed.frame for framed in self.pump.ask(self.store.frames(projects, start, end, host))]


def some_ends(projects: Sequence[str] = ("shop", "blog")) -> st.SearchStrategy[list[Arrival]]:
    """Requests of some projects whose ids, times and durations often coincide, over two days."""
    return st.lists(
        st.builds(
            lambda project, n, day, ms, minute, path, framed: end(
                new_id(n),
                NOON + day * DAY + minute * 60,
                ms,
                project=project,
                framed=framed,
                body={"request": {"method": "GET", "uri": path}},
            ),
            st.sampled_from(projects),
            st.integers(0, 12),
            st.sampled_from([0, -1]),
            st.sampled_from([10.0, 10.0, 20.0]),
            st.integers(0, 1),
            st.sampled_from(["/a", "/b?x=1"]),
            st.booleans(),
        ),
        max_size=25,
    )


def recounted(arrivals: Sequence[Arrival]) -> dict[str, tuple[int, float]]:
    """Endpoint -> requests and wall ms, of arrivals that are to be rolled up."""
    totals: dict[str, tuple[int, float]] = {}
    for arrival in arrivals:
        for (dimension, value), columns in arrival.cells.items():
            if dimension == "endpoint":
                n, ms = totals.get(value, (0, 0.0))
                totals[value] = (n + columns.requests, ms + columns.wall_us / 1000)
    return totals


class Contract(abc.ABC):
    """Tests of any store."""

    @abc.abstractmethod
    def open(self) -> AbstractContextManager[Open]:
        """A new, empty store at noon of `NOON`'s day."""

    @pytest.fixture
    def opened(self) -> Iterator[Open]:
        with self.open() as opened:
            yield opened
