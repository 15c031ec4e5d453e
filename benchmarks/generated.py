"""Requests, frames and records of an application that does not exist, the same ones for the same seed.

Endpoints, functions and statements are drawn by Zipf's law, traffic follows the hours of a day, and a slow request
carries a profile of 30 to 300 functions and 1 to 60 statements: about 8 KB of JSON, as PHP clients send it.

    python benchmarks/generated.py --requests 1000     prints items of wire.md 5, one a line
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import math
import random
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

DAY_S = 86_400.0
_VERBS = ("get", "load", "render", "find", "update", "apply", "parse", "build", "check", "save", "filter", "format")
_NOUNS = (
    "Order", "Cart", "User", "Product", "Price", "Session", "Template", "Query", "Option", "Widget", "Image", "Tax",
    "Invoice", "Stock", "Menu", "Comment", "Block", "Locale", "Cache", "Route",
)  # fmt: skip
_COLUMNS = ("id", "name", "status", "created_at", "price", "customer_id", "parent_id", "sku", "position", "locale")


@attrs.frozen
class Zipf:
    """Draws numbers below `n`, the k-th with a weight of 1 / k."""

    sums: Sequence[float]

    @classmethod
    def of(cls, n: int) -> Zipf:
        """For so many."""
        return cls(list(itertools.accumulate(1 / k for k in range(1, n + 1))))

    def draw(self, chance: random.Random) -> int:
        """One number."""
        return bisect.bisect_left(self.sums, chance.random() * self.sums[-1])


@attrs.frozen
class Endpoint:
    """What requests of one endpoint have in common: its path, and what they call and ask."""

    method: str
    path: str
    ms: float
    stacks: Sequence[str]
    statements: Sequence[str]


class Application:
    """The application: its endpoints, and the requests they get."""

    def __init__(self, seed: int = 1, endpoints: int = 200, functions: int = 2000, statements: int = 800) -> None:
        self.chance = random.Random(seed)
        self._zipf = Zipf.of(endpoints)
        self._functions = [self._function(n) for n in range(functions)]
        self._statements = [self._statement() for _ in range(statements)]
        self.endpoints = [self._endpoint(n) for n in range(endpoints)]

    # --- What there is ------------------------------------------------------------------------------------

    def _function(self, n: int) -> str:
        chance = self.chance
        name = f"{chance.choice(_VERBS)}{chance.choice(_NOUNS)}{n % 97}"
        return f"Shop\\{chance.choice(_NOUNS)}\\{chance.choice(_NOUNS)}Service::{name}" if n % 3 else f"shop_{name}"

    def _statement(self) -> str:
        chance = self.chance
        table, columns = chance.choice(_NOUNS).lower(), chance.sample(_COLUMNS, chance.randint(1, 6))
        where = " AND ".join(f"{column} = ?" for column in chance.sample(_COLUMNS, chance.randint(1, 3)))
        join = f" JOIN {chance.choice(_NOUNS).lower()}_{chance.randrange(40)} b ON b.id = a.parent_id"
        return (
            f"SELECT {', '.join('a.' + column for column in columns)} FROM {table}_{chance.randrange(40)} a"
            f"{join if chance.random() < 0.4 else ''} WHERE {where} ORDER BY {chance.choice(columns)} LIMIT ?"
        )

    def _endpoint(self, n: int) -> Endpoint:
        chance = self.chance
        path = f"/{chance.choice(_NOUNS).lower()}/{chance.choice(_VERBS)}-{n}"
        stacks = []
        for _ in range(chance.randint(10, 110)):
            depth = chance.randint(2, 9)
            stacks.append("index.php;" + ";".join(chance.choice(self._functions) for _ in range(depth)))
        stacks = [stack[: stack.rfind(";", 0, 400)] if len(stack) > 400 else stack for stack in stacks]
        statements = [chance.choice(self._statements) for _ in range(chance.randint(1, 60))]
        return Endpoint(
            chance.choice(("GET", "GET", "GET", "POST")), path, chance.lognormvariate(6.5, 0.7), stacks, statements
        )

    # --- What comes ---------------------------------------------------------------------------------------

    def times(self, n: int, start: float, seconds: float) -> Iterator[float]:
        """`n` times in order, by the hours of a day: five times as many in the afternoon as at night."""
        hours = [start + 3600 * h for h in range(max(1, round(seconds / 3600)))]
        weights = [3 + 2 * math.sin((hour % DAY_S / DAY_S - 0.4) * 2 * math.pi) for hour in hours]
        step = seconds / len(hours)
        for hour, weight in zip(hours, weights, strict=True):
            count = round(n * weight / sum(weights))
            yield from sorted(hour + self.chance.random() * step for _ in range(count))

    def end(self, at: float, short: bool = False) -> dict[str, Any]:
        """One request that ended: the record of wire.md 2."""
        chance = self.chance
        endpoint = self.endpoints[self._zipf.draw(chance)]
        ms = round(endpoint.ms * chance.lognormvariate(0, 0.5) + 1, 3)
        number, page = int(chance.expovariate(1 / 3000)), chance.randrange(100)
        queries = [
            {
                "sql": sql,
                "ms": round(chance.expovariate(1.0) * ms / 90, 3),
                "at": round(chance.random() * ms, 3),
                "n": 1,
            }
            for sql in chance.sample(endpoint.statements, max(1, int(len(endpoint.statements) * chance.random())))
        ]
        kept = chance.sample(endpoint.stacks, max(8, int(len(endpoint.stacks) * chance.uniform(0.3, 0.7))))
        body: dict[str, Any] = {
            "t": "end", "v": 2, "id": self._id(), "at": round(at, 6), "ms": ms,
            "request": {
                "method": endpoint.method, "uri": f"{endpoint.path}/{number}?page={page}",
                "route": f"{endpoint.method} {endpoint.path}/{{id}}",
                "headers": {"Host": "shop.example", "User-Agent": f"Mozilla/5.0 (X11; Linux) {chance.randrange(60)}"},
            },
            "client": f"192.0.{chance.randrange(40)}.{chance.randrange(250)}", "agent": "browser", "release": "2027.1",
            "response": {"status": 500 if chance.random() < 0.01 else 200},
            "ss": [int(ms * 4e5), int(ms * chance.random() * 1e5)],
            "memory": {"peak_bytes": chance.randrange(4 << 20, 40 << 20), "current_bytes": 2 << 20},
            "sql": {"n": len(queries), "ms": round(sum(q["ms"] for q in queries), 3), "failed": 0, "slow": 0,
                    "connections": [{"driver": "pgsql", "host": "db1", "port": 5432, "database": "shop"}],
                    "queries": queries},
            "server": {"hostname": "web1", "php": "8.2.29", "sapi": "fpm-fcgi", "pool": "www", "client": "0.1.0"},
            "client_us": chance.randrange(200, 900),
        }  # fmt: skip
        if short:
            del body["sql"]["queries"], body["request"]["headers"]
            return {**body, "short": True}
        stacks = "\n".join(f"{stack} {chance.randint(1, 9)}" for stack in kept)
        return {**body, "profile": {"kind": "excimer", "period_us": 10000, "stacks": stacks}}

    def frame(self, at: float, cells: float = 1.0) -> dict[str, Any]:
        """Ten seconds of one host: the frame of wire.md 6, every dimension filled to a share `cells` of its cap."""
        chance = self.chance
        caps = {"endpoint": 200, "function": 200, "statement": 200, "client": 50, "process": 50, "agent": 20,
                "release": 20, "external": 20, "wait": 20, "blocker": 20, "request": 20}  # fmt: skip
        made = {}
        for dimension, cap in caps.items():
            values = [self._value(dimension, n) for n in range(max(1, int(cap * cells)))]
            requests = [1 + int(300 / (rank + 1) * chance.random()) for rank in range(len(values))]
            wall = [int(n * chance.lognormvariate(11, 1)) for n in requests]
            columns: dict[str, Any] = {
                "requests": requests,
                "wall_us": wall,
                "cpu_us": [int(us * chance.random() / 2) for us in wall],
                "queue_us": [int(us * chance.random() / 10) if chance.random() < 0.5 else 0 for us in wall],
                "sql_us": [int(us * chance.random() / 2) for us in wall],
                "blocked_s": [round(chance.random(), 3) if chance.random() < 0.1 else 0 for _ in wall],
                "waiting_s": [round(chance.random(), 3) if chance.random() < 0.3 else 0 for _ in wall],
                "max_us": [int(us * chance.uniform(1 / n, 1)) for us, n in zip(wall, requests, strict=True)],
                "errors": [int(chance.random() < 0.02) for _ in wall],
            }
            if dimension in ("function", "statement", "external"):
                columns["executions"] = [n * chance.randint(1, 9) for n in requests]
            if dimension in ("endpoint", "statement"):
                columns["histogram"] = [self._histogram(n) for n in requests]
            made[dimension] = {"values": values, "columns": columns}
        links = [
            ["endpoint", self._value("endpoint", chance.randrange(200)), "function",
             self._value("function", chance.randrange(200)), chance.randrange(1, 90), chance.randrange(1, 900),
             round(chance.expovariate(2), 3)]
            for _ in range(int(400 * cells))
        ]  # fmt: skip
        return {
            "id": self._id(), "at": at, "secs": 10, "v": 2,
            "covers": [1, 1, 500], "final": True, "late": False,
            "seconds": {name: [chance.randrange(20) for _ in range(10)] for name in ("tasks", "db", "in_flight")},
            "load": {"running": 3.5, "blocked": 0.5, "load1": 4.5, "procs_running": 4, "cores": 8},
            "cells": made, "links": links, "lost": {"looks": 0, "in_flight_unknown": 0, "corrupt": 0},
        }  # fmt: skip

    def _id(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))

    def _value(self, dimension: str, n: int) -> str:
        if dimension == "endpoint":
            endpoint = self.endpoints[n % len(self.endpoints)]
            return f"{endpoint.method} {endpoint.path}/{{id}}"
        if dimension in ("function", "statement"):
            known = self._functions if dimension == "function" else self._statements
            return known[(n * 7 + (self.chance.randrange(7) if n % 4 == 0 else 0)) % len(known)]
        if dimension == "request":
            return self._id()
        return f"{dimension}-{n}"

    def _histogram(self, n: int) -> list[list[int]]:
        middle, chance = 120 + self.chance.randrange(20), self.chance
        counts: dict[int, int] = {}
        for _ in range(min(n, 40)):
            i = int(chance.gauss(middle, 6))
            counts[i] = counts.get(i, 0) + max(1, n // 40)
        return [[i, count] for i, count in sorted(counts.items())]


def item(body: dict[str, Any], n: int, *, k: str = "end", framed: bool = True, host: str = "web1") -> bytes:
    """An item of wire.md 5, received as soon as it ended."""
    recv = int((body["at"] + (11 if k == "frame" else body["ms"] / 1000)) * 1000)
    envelope = {"k": k, "id": body["id"], "seq": [1, n], "recv": recv, "host": host, "framed": framed, "body": body}
    return json.dumps(envelope, separators=(",", ":")).encode()


def main() -> None:
    """Print items."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--end", type=float, default=1_800_014_400.0, help="unix time of the last one")
    given = parser.parse_args()
    application = Application()
    times = application.times(given.requests, given.end - given.days * DAY_S, given.days * DAY_S)
    for n, at in enumerate(times, 1):
        print(item(application.end(at), n).decode())


if __name__ == "__main__":
    main()
