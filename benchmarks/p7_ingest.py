"""P7, P13: records a second through a collector's socket, against a bare `executemany` of the same bytes.

A real collector in a process of its own gets slow records (about 8 KB each, counted by frames) in batches of 100 and a
full frame after each 5,000, as agents send them: zstd over kept connections. Both sides are measured by CPU seconds and
by wall time, by turns; the collector's resident memory is its peak over the run (P13).

    python benchmarks/p7_ingest.py --records 20000
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import zstandard

from benchmarks.generated import Application, item
from tests.collector.rig import Rig, running

SENDERS = 2
TICK = os.sysconf("SC_CLK_TCK")


def made(records: int, now: float) -> tuple[list[bytes], list[list[bytes]]]:
    """All records, and batches of 100 of their items with a frame after each 50 of them."""
    application = Application()
    items = [item(application.end(now - 600), n) for n in range(1, records + 1)]
    batches = [items[n : n + 100] for n in range(0, records, 100)]
    for n in range(49, len(batches), 50):
        batches[n] = [*batches[n], item(application.frame(now // 10 * 10 - 600 + n), n, k="frame")]
    return items, batches


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_mb(pid: int) -> float:
    """Most memory a process ever had, MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def sent(rig: Rig, key: str, batches: Sequence[list[bytes]]) -> tuple[float, float]:
    """CPU and wall seconds the collector takes for some batches."""
    bodies = [zstandard.compress(b"\n".join(batch), 1) for batch in batches]
    headers = {
        "Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson", "Content-Encoding": "zstd",
        "Bitville-Journal": "ab" * 16,
    }  # fmt: skip

    def send(mine: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", rig.port)
        for body in mine:
            connection.request("POST", "/ingest", body, headers)
            answer = json.loads(connection.getresponse().read())
            assert not answer["rejected"], answer
        connection.close()

    assert rig.process is not None
    before, start = cpu_s(rig.process.pid), time.perf_counter()
    threads = [threading.Thread(target=send, args=(bodies[n::SENDERS],)) for n in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return cpu_s(rig.process.pid) - before, time.perf_counter() - start


def bare(path: Path, items: Sequence[bytes]) -> tuple[float, float]:
    """CPU and wall seconds for the same bytes, committed by the hundred, WAL and FULL too."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS record (row INTEGER PRIMARY KEY, body BLOB)")
    cpu, start = time.process_time(), time.perf_counter()
    for n in range(0, len(items), 100):
        db.execute("BEGIN")
        db.executemany("INSERT INTO record (body) VALUES (?)", [(body,) for body in items[n : n + 100]])
        db.execute("COMMIT")
    spent = time.process_time() - cpu, time.perf_counter() - start
    db.close()
    return spent


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    items, batches = made(given.records, time.time())
    bytes_each = sum(map(len, items)) / len(items)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "collector") as rig:
        key = rig.key()
        share = len(batches) // given.rounds
        for n in range(given.rounds):
            turn = batches[n * share : (n + 1) * share]
            ours.append(sent(rig, key, turn))
            theirs.append(bare(Path(directory) / "bare.db", [line for batch in turn for line in batch]))
        assert rig.process is not None
        memory = peak_mb(rig.process.pid)
        database = rig.ask("GET", "/ready").json["database"]
        size = sum(path.stat().st_size for path in rig.data.glob("day-*"))
    n = share * 100
    for what, which in (("CPU", 0), ("wall", 1)):
        rates = [[n / spent[which] for spent in side] for side in (ours, theirs)]
        ratio = statistics.median(a / b for a, b in zip(*rates, strict=True))
        print(
            f"{what}: {statistics.median(rates[0]):.0f} records/s, bare {statistics.median(rates[1]):.0f}; {ratio:.2f}"
        )
    print(f"stored {database['stored']}, {size / max(1, database['stored']):.0f} bytes each on disk with the WAL")
    print(
        f"P7: {ratio:.2f} of a bare executemany (goal 0.5); P13: {memory:.0f} MB (goal 200)  - {given.records}"
        f" records of {bytes_each:.0f} bytes in batches of 100, {SENDERS} connections, {given.rounds} rounds, SQLite"
        f" {sqlite3.sqlite_version}"
    )


if __name__ == "__main__":
    main()
