"""P9, P10: what is heaviest, a search by URL, one request by its id, percentiles a minute; asked through `IStore`.

Requests of seven days that no frame counts, each with its 30 to 300 functions and 1 to 60 statements in the rolls, are
stored first; then each question is asked some times, warm, and its median is told. URLs: one that a few requests have,
one that a tenth has, one that nobody has. `--rows`: the same question about 24 hours to a table with a row for each
request and each of its values, of as many requests as a day of the store has.

    python benchmarks/p10_search.py --requests 100000
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from benchmarks.generated import Application, item
from bitville_apm.collector import bodies
from bitville_apm.collector.bodies import Sender
from bitville_apm.store.interface import Arrival, Search
from bitville_apm.store.sqlite import SqliteStore
from tests.store.make import DAY, NOON, Pump

TIMES = 9
BATCH = 5_000
TEMPLATES = 10_000
DIMENSIONS = ("endpoint", "function", "statement")


def drawn(application: Application, project: str, end: float = NOON) -> list[Arrival]:
    """Requests to draw from: each adds its functions and statements, and is kept as a short record."""
    sender = Sender(project=project, now=end, journal=None, batch=True, postgres=False)
    made = []
    for n in range(TEMPLATES):
        body = application.end(end - DAY)
        read = bodies.read(item(body, n, framed=False), sender)
        short = {name: value for name, value in body.items() if name not in ("profile", "sql")}
        _, arrival = read.arrivals[0]
        made.append(msgspec.structs.replace(arrival, body=json.dumps(short, separators=(",", ":")).encode()))
    return made


def arrivals(application: Application, n: int, days: float, end: float = NOON) -> Iterator[Arrival]:
    """Requests until `end`, each with an id, a time and a URL of its own."""
    templates, chance = drawn(application, "shop", end), application.chance
    for at in application.times(n, end - days * DAY, days * DAY - 60):
        of = chance.choice(templates)
        assert of.request is not None
        id, start = str(uuid.UUID(int=chance.getrandbits(128), version=4)), of.request.uri.rpartition("/")[0]
        request = msgspec.structs.replace(
            of.request, at=at, uri=f"{start}/{int(chance.expovariate(1 / 3000))}?page={chance.randrange(100)}"
        )
        body = of.body.replace(of.id.encode(), id.encode()).replace(of.request.uri.encode(), request.uri.encode())
        yield msgspec.structs.replace(
            of, id=id, recv_ms=int(1000 * at + request.ms), request=request, body=body,
        )  # fmt: skip


def normalised(application: Application, n: int, directory: Path) -> Iterator[tuple[str, int, float]]:
    """24 hours of `n` requests as a table with a row for each request and each of its values, indexed by time: the rows
    of a dimension and the milliseconds that ranking its values takes. Percentiles are not asked for.
    """
    path = directory / "rows.db"
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA page_size = 16384")
    db.execute("PRAGMA journal_mode = OFF")
    columns = ("requests", "wall_us", "cpu_us", "queue_us", "sql_us", "errors", "max_us")
    db.execute(f"CREATE TABLE used (dimension TEXT, at REAL, value INTEGER, {', '.join(columns)})")
    names: dict[str, int] = {}

    def rows() -> Iterator[tuple[Any, ...]]:
        for arrival in arrivals(application, n, 1):
            assert arrival.request is not None
            for (dimension, value), cell in arrival.cells.items():
                if dimension in DIMENSIONS:
                    number = names.setdefault(value, len(names))
                    yield (dimension, arrival.request.at, number, *(getattr(cell, column) for column in columns))

    db.execute("BEGIN")
    db.executemany(f"INSERT INTO used VALUES ({', '.join('?' * (3 + len(columns)))})", rows())
    db.execute("COMMIT")
    db.execute("CREATE INDEX used_at ON used (dimension, at)")
    sums = ", ".join(f"sum({column})" for column in columns)
    for dimension in DIMENSIONS:
        where, place = "WHERE dimension = ? AND at >= ? AND at < ?", (dimension, NOON - DAY, NOON)
        (rows_in,) = db.execute(f"SELECT count(*) FROM used {where}", place).fetchone()
        spent = []
        for _ in range(3):
            begin = time.perf_counter()
            db.execute(
                f"SELECT value, {sums} FROM used {where} GROUP BY value ORDER BY sum(cpu_us + queue_us) DESC LIMIT 50",
                place,
            ).fetchall()
            spent.append(1e3 * (time.perf_counter() - begin))
        yield dimension, rows_in, statistics.median(spent)
    db.close()
    path.unlink()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="a directory for the store, used again if it has one")
    parser.add_argument("--rows", type=int, default=0, help="also ask a table of rows of so many requests in a day")
    given = parser.parse_args()
    application, pump = Application(), Pump(NOON)
    with contextlib.ExitStack() as stack:
        directory = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(exist_ok=True)
        store = SqliteStore.open(directory, pump)
        start = time.perf_counter()
        if not pump.ask(store.statistics(None)).requests:
            waiting = arrivals(application, given.requests, 7)
            while batch := list(itertools.islice(waiting, BATCH)):
                pump.ask(store.write(batch))
        n = pump.ask(store.statistics(None)).requests
        print(f"{n} requests stored in {time.perf_counter() - start:.0f} s")
        often = application.endpoints[1].path
        heaviest = {name: pump.ask(store.top(None, name, NOON - DAY, NOON, None, 1))[0].value for name in DIMENSIONS}
        some = pump.ask(store.search(None, Search(timestamp_end=NOON - 3 * DAY, sort="time"))).items[0].id
        questions = {
            "url of a few": lambda: store.search(None, Search(url="/1234?page=5")),
            "url of a tenth": lambda: store.search(None, Search(url=often)),
            "url of nobody": lambda: store.search(None, Search(url="/no-such-page")),
            "url, by time": lambda: store.search(None, Search(url=often, sort="time")),
            "slowest": lambda: store.search(None, Search()),
            "one by id": lambda: store.request(None, some),
            "percentiles by minute, 2 h": lambda: store.series(
                None, "endpoint", heaviest["endpoint"], NOON - 7200, NOON, None
            ),
            **{
                f"top {dimension}s, {days} d": functools.partial(
                    store.top, None, dimension, NOON - days * DAY, NOON, None, 50
                )
                for dimension in DIMENSIONS
                for days in (1, 7)
            },
        }
        told, asked = [], {}
        for name, ask in questions.items():
            spent = []
            for _ in range(TIMES):
                begin = time.perf_counter()
                answer = pump.ask(ask())
                spent.append(1e3 * (time.perf_counter() - begin))
            rows = len(answer.items) if hasattr(answer, "items") else len(answer) if isinstance(answer, list) else 1
            print(f"{name}: {statistics.median(spent):.1f} ms, {rows} rows")
            asked[name] = statistics.median(spent)
            told.append(f"{name} {asked[name]:.1f}")
        pump.ask(Deferred.fromCoroutine(store.close()))
        if given.rows:
            for dimension, rows, ms in normalised(application, given.rows, Path(directory)):
                times = ms / asked[f"top {dimension}s, 1 d"]
                print(
                    f"rows, top {dimension}s, 1 d: {ms:.0f} ms from {rows} rows of {given.rows} requests, {times:.0f} x"
                )
    print(f"P10 (goal 10 ms each), P9 (goals 10 and 100): {', '.join(told)} ms  - {n} requests over 7 days")


if __name__ == "__main__":
    main()
