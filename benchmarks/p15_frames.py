"""Frames: what folding a request costs, and how large a frame is.

Folding is everything the agent does with a record beyond reading and journalling it: the common form, its functions,
its cells and links. A frame and a large profile are made in a thread beside the reactor: what still holds the
reactor up is told beside what doing it there would. Realistic: the wire tests' real version 1 payloads, and short
version 2 records made from the same endpoints and statements. Full: every dimension beyond its cap, names of 60
characters.
"""

from __future__ import annotations

import gc
import json
import platform
import random
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import zstandard

from bitville_apm import limits
from bitville_apm.agent.rollup import Rollup
from bitville_apm.profile import Own
from bitville_apm.reading import read_line
from bitville_apm.records import Line
from bitville_apm.requests import External, Request, StatementUse, functions_of, request_of
from tests import wire

T = 1_800_000_000
SHORT = 5000


def short_lines(real: Sequence[Line], n: int) -> list[Line]:
    """Short records as the client sends them: statements added up by shape, a dozen samples."""
    chance = random.Random(1)
    made = []
    for _ in range(n):
        request = request_of(chance.choice(real))
        queries = [{"sql": u.statement, "ms": u.ms, "n": u.n, "c": 0} for u in request.statements[:12]]
        stacks = "".join(f"/srv/index.php;wp_head;do_action;WP_Hook::apply{i} 1\n" for i in range(12))
        record = {
            "t": "end", "v": 2, "id": str(uuid.uuid4()), "at": T + 1, "ms": chance.uniform(5, 400),
            "request": {"method": request.method, "uri": request.uri, "route": request.endpoint},
            "client": f"203.0.{chance.randrange(200)}.9", "agent": "browser", "release": "2026-11-20-1",
            "response": {"status": 200}, "ss": [20_000_000, 3_000_000], "short": True,
            "sql": {
                "n": len(queries), "ms": request.sql_ms, "queries": queries, "connections": [{"driver": "mysqli"}]
            },
            "profile": {"kind": "excimer", "period_us": 10000, "stacks": stacks},
        }  # fmt: skip
        made.append(read_line(json.dumps(record).encode(), 0))
    return made


def fold(rollup: Rollup, lines: Sequence[Line]) -> float:
    """CPU seconds of one record."""
    started = time.process_time()
    for sequence, line in enumerate(lines, 1):
        rollup.record(request_of(line), functions_of(line.message), (1, sequence), T + 5, 0)
    return (time.process_time() - started) / len(lines)


def full(rollup: Rollup) -> None:
    """More of everything than a frame keeps."""
    chance = random.Random(2)

    def name(kind: str) -> str:
        return f"{kind}{chance.randrange(2000)}".ljust(60, "x")

    for n in range(1, 6000):
        functions = [Own(name("f"), chance.randrange(1, 10**5), 3, 10) for _ in range(5)]
        uses = [StatementUse("f", name("SELECT "), 2, chance.uniform(1, 50), 9, 0) for _ in range(3)]
        request = Request(
            id=str(uuid.uuid4()), kind="end", at=T + 1, ms=chance.lognormvariate(4, 2), method="GET", uri="/",
            endpoint=name("GET /"), status=200, cpu_us=chance.randrange(10**6), queue_us=chance.randrange(10**5),
            sql_ms=10.0, statements=tuple(uses), externals=(External(name("host"), 1, 5.0),),
            client=f"10.{chance.randrange(200)}.{chance.randrange(200)}.1", agent=name("a"), release=name("r"),
        )  # fmt: skip
        rollup.record(request, functions, (1, n), T + 5, 0)


def sealed(rollup: Rollup) -> tuple[float, bytes]:
    """CPU seconds of writing the frame, and the frame."""
    started = time.process_time()
    epoch = rollup.due(T + 1e9, 0)
    assert epoch is not None
    parts = rollup.parts(epoch, str)
    return time.process_time() - started, parts[-1].body


def held_up(work: Callable[[], object]) -> str:
    """The longest that a thread which would like to do something each half millisecond has to wait for it.

    Without the collection of garbage, which the agent does between two turns of its reactor.
    """
    gc.disable()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        longest, last = 0.0, time.perf_counter()
        working = pool.submit(work)
        while not working.done():
            time.sleep(0.0005)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    started = time.perf_counter()
    work()
    return f"{longest * 1e3:.1f} ms ({(time.perf_counter() - started) * 1e3:.1f} ms if it were done there)"


def say(what: str, rollup: Rollup) -> None:
    """Print the size of the frame."""
    seconds, body = sealed(rollup)
    packed = len(zstandard.ZstdCompressor(1).compress(body))
    print(f"{what}: {len(body) / 1000:.1f} KB, {packed / 1000:.1f} KB zstd, written in {seconds * 1e3:.1f} ms")


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, {SHORT} short records, caps {limits.DIMENSION_CAPS}")
    real = [read_line(line, T * 1000) for line in wire.lines("version1-real-full.ndjson.gz")]
    short = short_lines(real, SHORT)
    rollup = Rollup()
    each = fold(rollup, short)
    say(f"a frame of {SHORT} short requests", rollup)
    whole = Rollup()
    large = fold(whole, real)
    say(f"a frame of {len(real)} whole requests of version 1 (edges)", whole)
    most = Rollup()
    full(most)
    epoch = most.due(T + 1e9, 0)
    assert epoch is not None
    say("a frame at full cells", most)
    print(f"writing it holds the reactor up for {held_up(lambda: most.parts(epoch, str))}")
    largest = max(real, key=lambda line: len(line.body))
    print(f"a profile of {len(largest.body) / 1000:.0f} KB: {held_up(lambda: functions_of(largest.message))}")
    print(f"folding: {large * 1e6:.0f} µs a whole request with edges, {each * 1e6:.1f} µs a short request")


if __name__ == "__main__":
    sys.exit(main())
