"""The store's contract, kept by SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.internet.defer import Deferred

from bitville_apm import limits
from bitville_apm.store.sqlite import SqliteStore
from tests.store.contract import Open, StoreContract
from tests.store.drifts import DriftsContract
from tests.store.make import Pump
from tests.store.questions import QuestionsContract
from tests.store.spikes import SpikesContract


@contextmanager
def sqlite_in(directory: Path, pump: Pump | None = None, days: int = limits.DAYS) -> Iterator[Open]:
    """The store of a directory."""
    pump = pump or Pump()
    store = SqliteStore.open(directory, pump, days)
    try:
        yield Open(store, pump)
    finally:
        pump.ask(Deferred.fromCoroutine(store.close()))


class TestSqlite(StoreContract, QuestionsContract, SpikesContract, DriftsContract):
    """See the module."""

    @contextmanager
    def open(self) -> Iterator[Open]:
        with tempfile.TemporaryDirectory() as directory, sqlite_in(Path(directory)) as opened:
            yield opened
