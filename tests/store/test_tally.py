"""Rolls held against what their senders know: frames and slow records are posted to a real collector as agents post
them, and every minute, every hour and every closed day must say what the senders counted themselves, exactly.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import math
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import zstandard

from bitville_apm.store.sqlite.blocks import Block
from tests.collector.rig import Rig, item, running
from tests.faults.tools.counts import chance
from tests.store.make import DAY, end_body, new_id

ADDED = ("requests", "executions", "wall_us", "cpu_us", "queue_us", "sql_us", "blocked_s", "waiting_s", "errors")
Key = tuple[int, int, str, str, str]
"""Day of the file (since 1970), minute or hour, dimension, value, host."""


@attrs.define
class Cell:
    """What was counted of one value: columns that add, the longest, durations by bucket."""

    added: Counter[str] = attrs.field(factory=Counter)
    max_us: int = 0
    histogram: Counter[int] = attrs.field(factory=Counter)

    def add(self, other: Cell) -> None:
        self.added.update(other.added)
        self.max_us = max(self.max_us, other.max_us)
        self.histogram.update(other.histogram)


Tally = dict[Key, Cell]


def bucket(us: float) -> int:
    """As wire.md 6 says."""
    return math.ceil(math.log(max(1.0, us)) / math.log(1.1))


def put(tally: Tally, key: Key, cell: Cell) -> None:
    """Count."""
    tally.setdefault(key, Cell()).add(cell)


def by_hour(tally: Tally) -> Tally:
    """Minutes added up."""
    hours: Tally = {}
    for (day, minute, *rest), cell in tally.items():
        put(hours, (day, minute // 60, *rest), cell)  # type: ignore[arg-type]
    return hours


@attrs.define
class Host:
    """One agent: what it sends, and its own tally of it. All times are chosen; only the order of sending is chance."""

    rig: Rig
    key: str
    name: str
    chance: random.Random
    tally: Tally = attrs.field(factory=dict)
    slow: set[str] = attrs.field(factory=set)
    again: int = 0
    """Batches that were sent once more."""
    wrong: list[Any] = attrs.field(factory=list)
    _seq: int = 0

    @property
    def journal(self) -> str:
        return f"{sum(self.name.encode()):032x}"

    def _item(self, body: dict[str, Any], recv: float, **more: Any) -> dict[str, Any]:
        self._seq += 1
        return item(body, n=self._seq, recv=int(recv * 1000), host=self.name, **more)

    def window(self, at: int, late: bool = False) -> Iterator[dict[str, Any]]:
        """The items of ten seconds: its slow records, those no frame counts, and its frame."""
        chance = self.chance
        dimensions: dict[str, dict[str, Cell]] = {}
        for _ in range(chance.randrange(6)):
            us, endpoint = round(chance.lognormvariate(11, 2)), f"GET /{chance.randrange(4)}"
            for dimension, value in (
                ("endpoint", endpoint),
                ("client", chance.choice(("192.0.2.0/24", "~other"))),
                *(("statement", f"SELECT {n}") for n in range(chance.randrange(3))),
            ):
                seen = Cell(Counter(requests=1, wall_us=us, cpu_us=us // 3, queue_us=us // 7, errors=us % 2), us)
                seen.added["blocked_s"] += chance.randrange(80) / 8  # type: ignore[assignment]
                if dimension != "client":
                    seen.histogram[bucket(us)] += 1
                if dimension == "statement":
                    seen.added["executions"] += chance.randrange(1, 9)
                dimensions.setdefault(dimension, {}).setdefault(value, Cell()).add(seen)
                put(self.tally, (at // 86_400, at // 60, dimension, value, self.name), seen)
            if us > 100_000:
                body = end_body(new_id(), at + 5 - us / 1e6, us / 1000, request={"method": "GET", "uri": endpoint[4:]})
                self.slow.add(body["id"])
                yield self._item(body, at + 5, framed=True)
        if chance.random() < 0.3:
            yield self._not_framed(at)
        body = {"id": new_id(), "at": at, "secs": 10, "v": 2, "final": True, "late": late}
        yield self._item(
            {**body, "cells": {d: cells_of(values) for d, values in dimensions.items()}}, at + 11, k="frame"
        )

    def _not_framed(self, at: int) -> dict[str, Any]:
        """A record that the collector itself adds up: into the minute of its end, in the file of its arrival."""
        ms, recv = self.chance.randrange(1, 900_000) / 8, at + 9.5
        body = end_body(new_id(), recv - ms / 1000, ms, request={"method": "GET", "uri": "/alone"})
        self.slow.add(body["id"])
        us = round(ms * 1000)
        seen = Cell(Counter(requests=1, wall_us=us), us, Counter({bucket(us): 1}))
        minute = int((body["at"] + ms / 1000) // 60)
        put(self.tally, (int(recv // 86_400), minute, "endpoint", "GET /alone", self.name), seen)
        return self._item(body, recv, framed=False)

    def send(self, items: list[dict[str, Any]]) -> None:
        """In batches, each until it is answered; some twice although they were, some once more much later."""
        later, wait = [], [items[n : n + 15] for n in range(0, len(items), 15)]
        for batch in wait:
            self._deliver(batch)
            what = self.chance.random()
            if what < 0.2:
                self._deliver(batch, again=True)
            elif what < 0.4:
                later.append(self.chance.sample(batch, len(batch)))
        for batch in later:
            self._deliver(batch, again=True)

    def _deliver(self, batch: list[dict[str, Any]], again: bool = False) -> None:
        self.again += again
        while True:
            try:
                answer = self.rig.post(self.key, *batch, Bitville_Journal=self.journal)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            stored, duplicate = answer.json.get("stored"), answer.json.get("duplicate")
            if answer.status != 200 or stored + duplicate != len(batch) or (again and stored):
                self.wrong.append(answer)
            return


def cells_of(values: dict[str, Cell]) -> dict[str, Any]:
    """One dimension of a frame; columns that are all zero are left out."""
    columns: dict[str, list[Any]] = {
        name: [cell.added[name] or (None if name == "executions" else 0) for cell in values.values()] for name in ADDED
    }
    columns = {name: column for name, column in columns.items() if any(column)}
    columns["max_us"] = [cell.max_us for cell in values.values()]
    columns["histogram"] = [sorted(map(list, cell.histogram.items())) for cell in values.values()]
    return {"values": list(values), "columns": columns}


def held(path: Path, span: int, day: int | None = None) -> Tally:
    """What a file says of minutes (1) or hours (60): a day's (`day`), or all closed days of `main.db`."""
    names = ", ".join(f"(SELECT text FROM name WHERE id = {column})" for column in ("dimension", "host"))
    found: Tally = {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        texts = dict(db.execute("SELECT id, text FROM name"))
        where = "" if day is None else f"WHERE span = {span}"
        rows = db.execute(f"SELECT {'day' if day is None else day}, at, {names}, body FROM block {where}")
        for of_day, at, dimension, host, body in rows:
            block = Block.of(zstandard.decompress(body))
            for row, value in enumerate(block.values):
                columns = block.cell(row)
                counted = {name: n for name in ADDED if (n := getattr(columns, name))}
                cell = Cell(Counter(counted), columns.max_us, Counter(columns.histogram))
                put(found, (of_day, at // span, dimension, texts[value], host), cell)
    return found


def plain(tally: Tally) -> dict[Key, Any]:
    """Without the zeros that a counter remembers."""
    return {
        key: ({name: n for name, n in cell.added.items() if n}, cell.max_us, dict(cell.histogram))
        for key, cell in tally.items()
    }


def days(rig: Rig, span: int) -> Tally:
    """All day files."""
    found: Tally = {}
    for path in rig.data.glob("day-*.db"):
        date = datetime.date(int(path.name[4:8]), int(path.name[8:10]), int(path.name[10:12]))
        found.update(held(path, span, (date - datetime.date(1970, 1, 1)).days))
    return found


def all_send(hosts: list[Host], items: list[list[dict[str, Any]]]) -> list[threading.Thread]:
    """Every host by itself."""
    threads = [threading.Thread(target=host.send, args=(mine,)) for host, mine in zip(hosts, items, strict=True)]
    for thread in threads:
        thread.start()
    return threads


def test_rolls_are_what_the_senders_counted(tmp_path: Path) -> None:
    """I1, QUERY-05: two agents post four days of frames and slow records, batches are sent again at once, later and
    over a killed collector, late frames come for days that were added up already: minute rolls, hour rolls and the
    closed days in main.db equal the agents' own tally, every column of every value of every host.
    """
    with running(tmp_path, extra="[retention]\ndays = 7\n") as rig:
        key, draw = rig.key("shop", "ingest,read,admin"), chance(31)
        hosts = [Host(rig, key, name, random.Random(draw.random())) for name in ("web1", "web2")]
        now = time.time()
        today = int(now // DAY)
        start = (today - 3) * int(DAY)
        # Few windows of each day, so that many requests share a minute; the last ones of a day, so that some cross it.
        windows = [start + d * 86_400 + h * 3600 + 10 * n for d in range(3) for h in (0, 9) for n in range(8)]
        windows += [start + (d + 1) * 86_400 - 10 * n for d in range(3) for n in (3, 2, 1)]

        def drawn(late: bool) -> list[list[dict[str, Any]]]:
            made = []
            for host in hosts:
                mine = [
                    list(host.window(at, late)) for at in host.chance.sample(windows, len(windows) // (1 + 2 * late))
                ]
                made.append([one for window in mine for one in window])
            return made

        def compared() -> None:
            tally: Tally = {}
            for host in hosts:
                assert host.wrong == []
                tally.update(host.tally)  # hosts are in the keys
            assert plain(days(rig, 1)) == plain(tally)
            hours = plain(by_hour(tally))
            assert plain(days(rig, 60)) == hours
            assert rig.ask("POST", "/admin/cleanup", b"", key).status == 200
            closed = {key: cell for key, cell in hours.items() if key[0] < today}
            assert plain(held(rig.data / "main.db", 60)) == closed
            assert len(closed) > 50
            assert {row["id"] for row in rig.stored(key)} == set().union(*(host.slow for host in hosts))

        threads = all_send(hosts, drawn(late=False))
        time.sleep(0.5)
        rig.kill()
        rig.start()
        for thread in threads:
            thread.join()
        compared()
        for thread in all_send(hosts, drawn(late=True)):
            thread.join()
        compared()
        assert sum(host.again for host in hosts) > 0
