"""P9, P10: what is heaviest, a search by URL, one request by its id, percentiles a minute; asked through `IStore`.

Requests of seven days, short records that no frame counts, are stored first; then each question is asked some times,
warm, and its median is told. URLs: one that a few requests have, one that a tenth has, one that nobody has.

    python benchmarks/p10_search.py --requests 100000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from twisted.internet.defer import Deferred

from benchmarks.generated import Application, item
from bitville_apm.collector import bodies
from bitville_apm.collector.bodies import Sender
from bitville_apm.store.interface import Search
from bitville_apm.store.sqlite import SqliteStore
from tests.store.make import DAY, NOON, Pump

TIMES = 9


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    given = parser.parse_args()
    application, pump = Application(), Pump(NOON)
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore.open(Path(directory), pump)
        sender = Sender(project="shop", now=NOON, journal=None, batch=True, postgres=False)
        lines: list[bytes] = []
        some, n, start = "", 0, time.perf_counter()
        for n, at in enumerate(application.times(given.requests, NOON - 7 * DAY, 7 * DAY - 60), 1):
            body = application.end(at, short=True)
            some = body["id"] if n == given.requests // 2 else some
            lines.append(item(body, n, framed=False))
            if len(lines) == 2000:
                pump.ask(store.write([arrival for _, arrival in bodies.read(b"\n".join(lines), sender).arrivals]))
                lines = []
        print(f"{n} requests stored in {time.perf_counter() - start:.0f} s")
        often, route = (
            application.endpoints[1].path,
            f"{application.endpoints[0].method} {application.endpoints[0].path}",
        )
        questions = {
            "url of a few": lambda: store.search(None, Search(url="/1234?page=5")),
            "url of a tenth": lambda: store.search(None, Search(url=often)),
            "url of nobody": lambda: store.search(None, Search(url="/no-such-page")),
            "url, by time": lambda: store.search(None, Search(url=often, sort="time")),
            "slowest": lambda: store.search(None, Search()),
            "one by id": lambda: store.request(None, some),
            "percentiles by minute, 2 h": lambda: store.series(
                None, "endpoint", f"{route}/{{id}}", NOON - 7200, NOON, None
            ),
            "top endpoints, 24 h": lambda: store.top(None, "endpoint", NOON - DAY, NOON, None, 50),
            "top endpoints, 7 d": lambda: store.top(None, "endpoint", NOON - 7 * DAY, NOON, None, 50),
        }
        told = []
        for name, ask in questions.items():
            spent = []
            for _ in range(TIMES):
                begin = time.perf_counter()
                answer = pump.ask(ask())
                spent.append(1e3 * (time.perf_counter() - begin))
            rows = len(answer.items) if hasattr(answer, "items") else len(answer) if isinstance(answer, list) else 1
            print(f"{name}: {statistics.median(spent):.1f} ms, {rows} rows")
            told.append(f"{name} {statistics.median(spent):.1f}")
        pump.ask(Deferred.fromCoroutine(store.close()))
    print(f"P10 (goal 10 ms each), P9 (goals 10 and 100): {', '.join(told)} ms  - {n} requests over 7 days")


if __name__ == "__main__":
    main()
