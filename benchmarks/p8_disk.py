"""P8: bytes on disk for an 8 KB record, everything included, and for a host's frames of a day at full cells.

Records and frames of one day go through a store's writer as the collector hands them over; then the files are measured
as they lie there, and by table. Frames of an hour stand for a day: every dimension is full in each of them.

    python benchmarks/p8_disk.py --records 20000 --frames 360
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred

from benchmarks.generated import Application, item
from bitville_apm.collector import bodies
from bitville_apm.collector.bodies import Sender
from bitville_apm.store.sqlite import SqliteStore
from tests.store.make import DAY, NOON, Pump

FRAMES_A_DAY = 8640


def stored(lines: list[bytes], directory: Path) -> int:
    """The size of a store that took some items, in bytes, `main.db` left out."""
    directory.mkdir()
    pump = Pump(NOON + DAY)
    store = SqliteStore.open(directory, pump)
    sender = Sender(project="shop", now=NOON + DAY, journal="ab" * 16, batch=True, postgres=False)
    for n in range(0, len(lines), 100):
        read = bodies.read(b"\n".join(lines[n : n + 100]), sender)
        assert not read.refused, read.refused[0]
        pump.ask(store.write([arrival for _, arrival in read.arrivals]))
    pump.ask(Deferred.fromCoroutine(store.close()))
    return sum(path.stat().st_size for path in directory.glob("day-*"))


def by_table(directory: Path, n: int) -> str:
    """Bytes each, the largest tables first."""
    sums: dict[str, int] = {}
    for path in directory.glob("day-*.db"):
        db = sqlite3.connect(path)
        for name, size in db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            sums[name] = sums.get(name, 0) + size
        db.close()
    largest = sorted(sums.items(), key=lambda table: -table[1])[:8]
    return ", ".join(f"{name} {size / n:.0f}" for name, size in largest)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=360)
    given = parser.parse_args()
    application, start = Application(), NOON - NOON % DAY
    times = application.times(given.records, start, DAY)
    records = [item(application.end(at), n) for n, at in enumerate(times, 1)]
    frames = [item(application.frame(start + 10 * n), n, k="frame") for n in range(given.frames)]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        a = stored(records, place / "records") / len(records)
        print(f"records: {by_table(place / 'records', len(records))}")
        b = stored(frames, place / "frames") / len(frames) * FRAMES_A_DAY / 1e6
        print(f"frames: {by_table(place / 'frames', len(frames))}")
    each = sum(map(len, records)) / len(records)
    print(
        f"P8: {a:.0f} bytes for a record of {each:.0f} ({a / each * 8192:.0f} for one of 8 KB; goal 2500); {b:.0f} MB"
        f" of frames and their rolls for a host and day (goal 250)  - {len(records)} records, {len(frames)} frames"
    )


if __name__ == "__main__":
    main()
