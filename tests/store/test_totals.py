"""Days added up: whatever comes in whichever order, a question that is answered from days says what hours say."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bitville_apm import limits
from bitville_apm.store.interface import Arrival, TopRow
from bitville_apm.store.sqlite import files
from tests.store.contract import Open
from tests.store.make import DAY, NOON, died, end, frame, new_id
from tests.store.opened import sqlite_in

HOUR = 3600.0
MIDNIGHT = NOON - DAY / 2

requests = st.tuples(st.integers(0, 47), st.integers(0, 3), st.integers(0, 1), st.integers(1, 500))
"""Hour since the midnight before the last, endpoint, host, ms."""


def arrival(hour: int, endpoint: int, host: int, ms: int) -> Arrival:
    at = MIDNIGHT - DAY + hour * HOUR + ms
    body = {"request": {"method": "GET", "uri": f"/{'abcd'[endpoint]}"}, "ss": [ms * 1000, 0]}
    return end(at=at, ms=ms, body=body, host=f"web{host}")


def totals(directory: Path) -> list[tuple[int, int]]:
    """Begin and end of each day that is added up, hours since 1970."""
    found = []
    for path in files.days_in(directory).values():
        with contextlib.closing(sqlite3.connect(path)) as db:
            found += db.execute("SELECT at / 60, until / 60 FROM total").fetchall()
    return found


def forget_totals(directory: Path) -> None:
    for path in files.days_in(directory).values():
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("DELETE FROM total")


def answers(opened: Open, spans: list[tuple[int, int]]) -> list[list[TopRow]]:
    first = MIDNIGHT - DAY
    return [
        opened.top(start=first + start * HOUR, end=first + (start + hours) * HOUR, host=host)
        for start, hours in spans
        for host in (None, "web1")
    ]


@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.lists(requests, min_size=1, max_size=9), min_size=1, max_size=5),
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(7, 60)), min_size=3, max_size=3),
    forgotten=st.integers(0, 4),
    together=st.integers(1, 4),
)
def test_days_say_what_hours_say(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, int, int, int]]],
    spans: list[tuple[int, int]],
    forgotten: int,
    together: int,
) -> None:
    """P9, I1: days are the sums of their hours, however late and in which order records come, and where a file begins
    to have days only in the middle of one, as one of an older version does.
    """
    directory, spans = tmp_path_factory.mktemp("days"), [(0, 48), (0, 96), *spans]
    with sqlite_in(directory) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "TOTALS_TOGETHER", together)
        for n, batch in enumerate(batches):
            opened.write(*(arrival(*one) for one in batch))
            if n == forgotten:
                forget_totals(directory)
        by_day = answers(opened, spans)
        forget_totals(directory)
        assert answers(opened, spans) == by_day


def test_a_day_follows_its_hours(tmp_path: Path) -> None:
    """P9: a day has its hours as soon as a later one begins, and never the newest."""
    midnight = int(MIDNIGHT // 3600)
    with sqlite_in(tmp_path) as opened:
        for hour, until in ((3, None), (3, None), (5, 5), (4, 5), (9, 9)):
            opened.write(arrival(24 + hour, 0, 0, 50))
            assert set(totals(tmp_path)) == (set() if until is None else {(midnight, midnight + until)})
        assert [row.requests for row in opened.top(start=MIDNIGHT, end=MIDNIGHT + DAY)] == [5]
        assert [row.requests for row in opened.top(start=MIDNIGHT, end=MIDNIGHT + 8 * HOUR)] == [4]


def test_every_dimension_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: of more dimensions than one commit sees to, those come first that have waited for the longest."""
    monkeypatch.setattr(limits, "TOTALS_TOGETHER", 1)
    cells = {name: {"values": ["a"], "columns": {"requests": [1]}} for name in ("endpoint", "function", "statement")}
    with sqlite_in(tmp_path) as opened:
        for hour in range(12):
            opened.write(frame(MIDNIGHT + hour * HOUR, cells=cells))
        ends = sorted(until - int(MIDNIGHT // 3600) for _, until in totals(tmp_path))
        assert ends == [9, 10, 11]
        for name in cells:
            assert [row.requests for row in opened.top(name, start=MIDNIGHT, end=MIDNIGHT + DAY)] == [12]


def test_what_a_died_request_added_goes_from_its_day_too(tmp_path: Path) -> None:
    """wire.md 5: an end that takes the place of a died takes out what that added to a day."""
    id, early = new_id(), MIDNIGHT + HOUR
    with sqlite_in(tmp_path) as opened:
        opened.write(died(id, early), end(at=NOON))
        opened.write(end(at=NOON + HOUR))
        assert opened.write(end(id, early)) == ["stored"]
        rows = opened.top(start=MIDNIGHT, end=MIDNIGHT + DAY)
        assert [(row.requests, row.errors) for row in rows] == [(3, 0)]
        forget_totals(tmp_path)
        assert opened.top(start=MIDNIGHT, end=MIDNIGHT + DAY) == rows


def test_a_dimension_of_many_values_has_no_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: a day beyond its bound is not added up, nor tried again, and nothing is missing from the answer."""
    monkeypatch.setattr(limits, "TOTAL_VALUES", 2)
    with sqlite_in(tmp_path) as opened:
        for n in range(8):
            opened.write(arrival(24 + n, n % 4, 0, 50))
        rows = opened.top(start=MIDNIGHT, end=MIDNIGHT + DAY)
        assert {row.value: row.requests for row in rows} == dict.fromkeys((f"GET /{c}" for c in "abcd"), 2)
        assert (int(MIDNIGHT // 3600),) * 2 in totals(tmp_path)
