"""The store's contract, kept by SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.store.contract import Open
from tests.store.counts import CountsContract
from tests.store.drifts import DriftsContract
from tests.store.opened import sqlite_in
from tests.store.questions import QuestionsContract
from tests.store.records import RecordsContract
from tests.store.searches import SearchesContract
from tests.store.spikes import SpikesContract


class TestSqlite(RecordsContract, SearchesContract, CountsContract, QuestionsContract, SpikesContract, DriftsContract):
    """See the module."""

    @contextmanager
    def open(self) -> Iterator[Open]:
        with tempfile.TemporaryDirectory() as directory, sqlite_in(Path(directory)) as opened:
            yield opened
