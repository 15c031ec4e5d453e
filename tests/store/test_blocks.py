"""Rolls as blocks: what is added is there, what is taken out is gone, and files of version 1 become these."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

import hypothesis.strategies as st
import pytest
import zstandard
from hypothesis import given, settings

from bitville_apm import limits
from bitville_apm.cells import SUMS, Columns
from bitville_apm.store.sqlite import blocks, files, ranks
from bitville_apm.store.sqlite.blocks import EMPTY, Block
from tests.store.make import NOON, end, frame
from tests.store.opened import sqlite_in

OTHER = 1

counts = st.one_of(st.integers(0, 9), st.integers(0, 2**40))
seconds = st.one_of(st.just(0.0), st.integers(0, 2**40).map(lambda us: us / 1e6))
histograms = st.dictionaries(st.integers(0, limits.HISTOGRAM_BUCKET), st.integers(1, 2**24), max_size=9)
cells = st.builds(
    Columns,
    requests=st.integers(1, 2**30), executions=st.one_of(st.none(), counts), wall_us=counts, cpu_us=counts,
    queue_us=counts, sql_us=counts, blocked_s=seconds, waiting_s=seconds, max_us=counts, errors=counts,
    histogram=histograms,
)  # fmt: skip
tables = st.dictionaries(st.integers(2, 60), cells, max_size=12)


def other() -> int:
    return OTHER


def again(block: Block, planes: bool) -> Block:
    """Written and read."""
    return Block.of(block.packed(planes))


def plain(block: Block) -> dict[int, Columns]:
    """Value by value."""
    assert list(block.values) == sorted(block.values)
    return {value: block.cell(row) for row, value in enumerate(block.values)}


def summed(*parts: dict[int, Columns]) -> dict[int, Columns]:
    """The same by the plain way."""
    sums: dict[int, Columns] = {}
    for part in parts:
        for value, columns in part.items():
            sums.setdefault(value, Columns()).add(columns)
    return sums


@settings(max_examples=150, deadline=None)
@given(st.lists(tables, max_size=4), st.booleans())
def test_what_is_added_is_there(parts: list[dict[int, Columns]], planes: bool) -> None:
    """I1, QUERY-05: every column of every value is the sum of what was added, however it is written."""
    block = EMPTY
    for part in parts:
        block = again(blocks.added(block, part, other), planes)
    found, sums = plain(block), summed(*parts)
    for value, columns in sums.items():
        assert found[value].blocked_s == pytest.approx(columns.blocked_s, abs=1e-5)
        assert found[value].waiting_s == pytest.approx(columns.waiting_s, abs=1e-5)
        columns.blocked_s, columns.waiting_s = found[value].blocked_s, found[value].waiting_s
    assert found == sums
    assert all(block.row(value) is None for value in (0, 61))


@settings(max_examples=100, deadline=None)
@given(tables, tables, st.booleans())
def test_what_is_taken_out_is_gone(stay: dict[int, Columns], go: dict[int, Columns], planes: bool) -> None:
    """wire.md 5: taking cells out leaves what was there without them; the longest time alone may stay."""
    both = again(blocks.added(blocks.added(EMPTY, stay, other), go, other), planes)
    left = plain(again(blocks.taken_out(both, go, other), planes))
    assert left.keys() == stay.keys()
    for value, columns in left.items():
        for name in SUMS:
            expected = pytest.approx(getattr(stay[value], name) or 0, abs=1e-6)
            assert (getattr(columns, name) or 0) == expected
        assert columns.histogram == stay[value].histogram


def test_a_block_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """design 6: beyond a block's values all goes to ~other, comes out of it again, and the sums stay right."""
    monkeypatch.setattr(limits, "BLOCK_VALUES", 3)
    block = EMPTY
    for value in range(2, 12):
        block = again(blocks.added(block, {value: Columns(requests=1, wall_us=value)}, other), True)
    assert plain(block) == {
        **{value: Columns(requests=1, wall_us=value) for value in (2, 3, 4)},
        OTHER: Columns(requests=7, wall_us=sum(range(5, 12))),
    }
    left = blocks.taken_out(block, {9: Columns(requests=1, wall_us=9)}, other)
    assert plain(left)[OTHER] == Columns(requests=6, wall_us=sum(range(5, 12)) - 9)


def test_numbers_that_are_too_large_stay_the_largest() -> None:
    """faults 9: sums beyond 64 bits, or a part of one where a count belongs, are stored as the nearest integer."""
    block = blocks.added(EMPTY, {2: Columns(requests=2**62, wall_us=7.9)}, other)  # type: ignore[arg-type]
    block = again(blocks.added(block, {2: Columns(requests=2**62 + 5)}, other), False)
    assert plain(block)[2] == Columns(requests=2**63 - 1, wall_us=7)


def test_a_damaged_block_is_an_error() -> None:
    """Faults 16: a block that ends too early is an error, not a block of less."""
    data = blocks.added(EMPTY, {2: Columns(requests=1000, histogram={3: 5}), 3: Columns(requests=1)}, other)
    for planes in (False, True):
        whole = data.packed(planes)
        for cut in range(len(whole)):
            with pytest.raises((ValueError, LookupError, struct.error)):
                Block.of(whole[:cut])


def old_histogram(histogram: dict[int, int]) -> bytes:
    """As version 1 packed it, with the widest arrays."""
    lowest = min(histogram)
    head = struct.pack("<cH", b"I", lowest)
    steps = b"".join(struct.pack("=H", i - lowest) for i in sorted(histogram))
    return head + steps + b"".join(struct.pack("=I", histogram[i]) for i in sorted(histogram))


def downgraded(path: Path, schema: str) -> None:
    """Put a file back to version 1, with rows for what its blocks hold."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        first = [s for s in files._statements(f"{schema}.sql") if "TABLE roll" in s or "TABLE hour" in s]
        for statement in first:
            db.execute(statement)
        day = "day, " if schema == "main" else ""
        span = "60" if schema == "main" else "span"
        for place, at, of_span, project, dimension, host, body in db.execute(
            f"SELECT {'day' if day else '0'}, at, {span}, project, dimension, host, body FROM block"
        ).fetchall():
            block = Block.of(zstandard.decompress(body))
            table, unit = ("hour", "hour") if of_span == 60 else ("roll", "minute")
            for row, value in enumerate(block.values):
                cell = block.cell(row)
                columns = [getattr(cell, name) for name in blocks.COLUMNS]
                histogram = old_histogram(cell.histogram) if cell.histogram else None
                numbers = [
                    *([place] if day else []),
                    project,
                    dimension,
                    at // of_span,
                    host,
                    value,
                    *columns,
                    histogram,
                ]
                db.execute(
                    f"INSERT INTO {table} ({day}project, dimension, {unit}, host, value, {', '.join(blocks.COLUMNS)},"
                    f" histogram) VALUES ({', '.join('?' * len(numbers))})",
                    numbers,
                )
        db.execute("DROP TABLE block")
        if schema == "main":
            db.execute("ALTER TABLE name DROP COLUMN newest")
        else:
            db.execute("DROP INDEX request_duration")
            db.execute("ALTER TABLE request DROP COLUMN letters")
            db.execute("CREATE INDEX request_duration ON request (project, duration_ms, id)")
            db.execute("ALTER TABLE change DROP COLUMN newest")
            db.execute("ALTER TABLE change DROP COLUMN file")
        for table in ("spike", "drift", "graylog") if schema == "main" else ("load", "total"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 1")


def test_files_of_version_1(tmp_path: Path) -> None:
    """design 6: rolls that version 1 kept as rows say the same as blocks, of open days and of closed ones; a day
    without hosts' load has none, and gets it when it is written.
    """
    histogram = [[[3, 1]], [[5, 2], [200, 70_000]]]
    columns = {"requests": [1, 70_002], "wall_us": [5, 2**40], "blocked_s": [0.5, 0], "histogram": histogram}
    with sqlite_in(tmp_path) as opened:
        opened.write(end(body={"request": {"method": "GET", "uri": "/Old/page?x=1"}}))
        for n in range(30):
            opened.write(frame(NOON + 600 * n, cells={"endpoint": {"values": ["a", "b"], "columns": columns}}))
        opened.pump.now = NOON + 86_400
        opened.pump.ask(opened.store.clean_up())
        asked = [(NOON, NOON + 3600), (NOON - 86_400, NOON + 86_400)]
        before = [opened.top(start=start, end=behind) for start, behind in asked]
    downgraded(tmp_path / "main.db", "main")
    downgraded(tmp_path / "day-20270115.db", "day")
    with sqlite_in(tmp_path) as opened:
        assert opened.store.health()["problems"] == []
        assert [opened.top(start=start, end=behind) for start, behind in asked] == before
        assert [found.url for found in opened.search(url="old/PAGE")] == ["/Old/page?x=1"]
        assert opened.pump.ask(opened.store.load(None, NOON, NOON + 60, 60, None)) == []
        opened.write(frame(NOON + 10, seconds={"tasks": [2.0]}))
        assert [load.tasks for load in opened.pump.ask(opened.store.load(None, NOON, NOON + 60, 60, None))] == [2.0]
        files.remove_day(tmp_path, files.day_of(NOON))
        assert opened.top(start=asked[1][0], end=asked[1][1]) == before[1]
        assert sorted(row.requests for row in before[1]) == [1, 30, 30 * 70_002]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 400), tables), max_size=5))
def test_ranks_add_up(parts: list[tuple[int, dict[int, Columns]]]) -> None:
    """P9: loads and wall times by ranks are those of the blocks, to the microsecond, wherever the blocks begin."""
    total, expected = ranks.Sum(), dict[int, ranks.Rank]()
    for first, table in parts:
        wide = {value: Columns(requests=1, cpu_us=value) for value in range(first, first + ranks._LEAST_VALUES)}
        block = blocks.added(blocks.added(EMPTY, wide, other), table, other)
        packed = ranks.packed(block)
        if packed is None:
            total.add_block(block)
        else:
            total.add(packed)
        for value, (load, wall) in ranks.of(block).items():
            known = expected.get(value, (0, 0))
            expected[value] = (known[0] + load, known[1] + wall)
    found = total.found()
    assert found.keys() <= expected.keys()
    for value, rank in expected.items():
        assert found.get(value, (0, 0)) == pytest.approx(rank, abs=2 * len(parts))


def test_damaged_ranks_are_an_error() -> None:
    """Faults 16: ranks that end too early are an error, not smaller ones."""
    block = blocks.added(EMPTY, {value: Columns(requests=1, wall_us=5) for value in range(2, 90)}, other)
    packed = ranks.packed(block)
    assert packed is not None
    for cut in (0, 4, 9, len(packed) // 2, len(packed) - 1):
        with pytest.raises((ValueError, struct.error)):
            ranks.Sum().add(packed[:cut])
