"""What `key` and `user` share: the collector's `main.db`, found through collector.ini, beside a running daemon."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from bitville_apm.cli.errors import NotDone
from bitville_apm.collector.config import CollectorConfig
from bitville_apm.ini import ConfigError
from bitville_apm.store.sqlite import Main
from bitville_apm.store.sqlite.files import is_damage


@contextlib.contextmanager
def opened(settings: CollectorConfig) -> Iterator[Main]:
    """The keyring of an installation that exists. Raises `ConfigError` where there is none, `StoreError` and `NotDone`
    where `main.db` cannot be used.
    """
    data = settings.collector.data
    path = data / "main.db"
    if not os.access(data, os.R_OK | os.X_OK):
        if not data.exists():
            raise ConfigError(data, "no collector has run here yet; start it once, or give --config FILE")
        raise ConfigError(data, "not readable for you; run this as the collector's user, for example with sudo -u")
    if not path.exists():
        raise ConfigError(path, "no collector has run here yet; start it once, or give --config FILE")
    if not os.access(path, os.W_OK):
        raise ConfigError(path, "not writable for you; run this as the collector's user, for example with sudo -u")
    main = Main.open(data)
    try:
        yield main
    except sqlite3.Error as error:
        what = "; restart the collector, it saves what can be read" if is_damage(error) else ""
        raise NotDone(f"{path}: {error}{what}") from None
    finally:
        main.close()


def now() -> float:
    """Unix seconds."""
    return datetime.now(timezone.utc).timestamp()


def when(seconds: float | None) -> str:
    """A unix time for people, UTC; `-` for none."""
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}Z"


def show(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """A table for people, or the same rows as JSON."""
    if as_json:
        json.dump([{name: row[name] for name in columns} for row in rows], sys.stdout, indent=2)
        print()
        return
    text = [[when(row[c]) if isinstance(row[c], float | None) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *text]) for i in range(len(columns))]
    for line in [list(columns), *text]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
