"""A SQLite store that is open, asked synchronously; its files, and time that passes for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from bitville_apm import limits
from bitville_apm.store.sqlite import SqliteStore
from tests.store.contract import Open
from tests.store.make import Pump

TODAY = "day-20270115.db"
YESTERDAY = "day-20270114.db"
HOUR = 3600.0


@contextmanager
def sqlite_in(directory: Path, pump: Pump | None = None, days: int = limits.DAYS) -> Iterator[Open]:
    """The store of a directory."""
    pump = pump or Pump()
    store = SqliteStore.open(directory, pump, days)
    try:
        yield Open(store, pump)
    finally:
        pump.ask(Deferred.fromCoroutine(store.close()))


def clean(opened: Open) -> Any:
    return opened.pump.ask(opened.store.clean_up())


def days_of(directory: Path) -> list[str]:
    return sorted(path.name[4:12] for path in directory.glob("day-????????.db"))


def later(opened: Open, seconds: float) -> None:
    """Time passes, with a look every two hours: the longest that is believed without doubt."""
    until = opened.pump.now + seconds
    while opened.pump.now < until:
        opened.pump.now = min(until, opened.pump.now + 2 * HOUR)
        clean(opened)
