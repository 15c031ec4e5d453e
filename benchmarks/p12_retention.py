"""P12: the longest that the writer stands still while a day is dropped.

One thread writes records all the time and notes how long each batch takes; meanwhile the oldest days, some hundred MB
each, are dropped. Beside it the same without dropping anything, for what the machine itself costs.

    python benchmarks/p12_retention.py --megabytes 200
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.generated import Application, item
from bitville_apm.collector import bodies
from bitville_apm.collector.bodies import Sender
from bitville_apm.store.sqlite import SqliteStore
from bitville_apm.store.sqlite.files import day_of, day_path
from tests.store.make import DAY, NOON, Pump

DAYS = 3


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    given = parser.parse_args()
    application = Application()
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore.open(Path(directory), Pump(NOON))
        files = store._writer.files
        longest = {}
        for what in ("nothing dropped", "days dropped"):
            old = [NOON - (8 + n) * DAY for n in range(DAYS)] if what == "days dropped" else []
            files.let_go(files.first_kept.min)
            for at in old:
                write(files, application, at)
                enlarge(day_path(Path(directory), day_of(at)), given.megabytes)
            os.sync()  # what was just written must not be what the writer waits for
            stalls: list[float] = []
            over = threading.Event()

            def go_on(stalls: list[float] = stalls, over: threading.Event = over) -> None:
                while not over.is_set():
                    batch = read(application, NOON)
                    start = time.perf_counter()
                    store._writer.do(lambda files: files.write([batch]))  # noqa: B023 - waits for it
                    stalls.append(time.perf_counter() - start)

            thread = threading.Thread(target=go_on)
            thread.start()
            until = time.monotonic() + 8
            dropped = store._keeper.clean_up().dropped if old else []
            assert len(dropped) == len(old), dropped
            while time.monotonic() < until:
                time.sleep(0.1)
            over.set()
            thread.join()
            stalls.sort()
            longest[what] = stalls[-1]
            print(f"{what}: {len(stalls)} batches, median {1e3 * stalls[len(stalls) // 2]:.1f} ms, longest"
                  f" {1e3 * stalls[-1]:.1f} ms")  # fmt: skip
    more = 1e3 * (longest["days dropped"] - longest["nothing dropped"])
    print(
        f"P12: {1e3 * longest['days dropped']:.1f} ms is the longest batch while {DAYS} days of {given.megabytes} MB"
        f" are dropped, {more:+.1f} ms against without (goal 25)  - batches of 20 records, SQLite"
        f" {sqlite3.sqlite_version}"
    )


def read(application: Application, at: float) -> list[bodies.Arrival]:
    """Twenty records as the collector reads them."""
    sender = Sender(project="shop", now=NOON, journal=None, batch=True, postgres=False)
    lines = b"\n".join(item(application.end(at - 5), n) for n in range(20))
    return [arrival for _, arrival in bodies.read(lines, sender).arrivals]


def write(files: object, application: Application, at: float) -> None:
    """Make a day."""
    files.write([read(application, at)])  # type: ignore[attr-defined]


def enlarge(path: Path, megabytes: int) -> None:
    """Let a day's file be as large as a busy one, without waiting for its records."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE IF NOT EXISTS filler (body BLOB)")
    db.executemany("INSERT INTO filler VALUES (zeroblob(?))", [(1 << 20,)] * megabytes)
    db.commit()
    db.close()


if __name__ == "__main__":
    main()
