"""How long things are kept: days that go, hours that stay, clocks that cannot be trusted."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.store.interface import TopRow
from bitville_apm.store.sqlite import files, keeping
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, died, end, frame, new_id
from tests.store.opened import HOUR, clean, days_of, later, sqlite_in

WEEK = 7 * DAY


def at_path(path: str, at: float, ms: float = 100.0, **more: Any) -> Any:
    """A request of a path."""
    return end(at=at, ms=ms, body={"request": {"method": "GET", "uri": path}}, **more)


# --- Days that go -----------------------------------------------------------------------------------------


def test_days_go_as_a_whole_and_their_records_are_expired(tmp_path: Path) -> None:
    """STOR-02, wire.md 5: after seven days a day's file goes with all that is beside it; a record for it is expired,
    not stored and not counted, also after a restart; the days that are kept are untouched.
    """
    with sqlite_in(tmp_path) as opened:
        records = [end(at=NOON - n * DAY) for n in range(8)]
        opened.write(*records)
        assert clean(opened).dropped == []
        assert len(days_of(tmp_path)) == 8
        later(opened, DAY)
        assert days_of(tmp_path) == [f"202701{n:02}" for n in range(9, 16)]
        assert not list(tmp_path.glob("day-20270108*"))
        before = opened.top(start=0)
        assert opened.write(records[7], end(at=NOON - WEEK), records[0]) == ["expired", "expired", "duplicate"]
        assert opened.top(start=0) == before
        assert len(opened.search()) == 7
    with sqlite_in(tmp_path, Pump(NOON + DAY)) as opened:
        assert opened.write(records[7], records[6]) == ["expired", "duplicate"]


def test_a_dropped_day_stays_dropped_when_more_days_are_kept(tmp_path: Path) -> None:
    """design 6: `dropped_through` is kept: with a longer retention a dropped day's records are expired all the same."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end(at=NOON - WEEK))
        later(opened, DAY)
    with sqlite_in(tmp_path, Pump(NOON + DAY), days=30) as opened:
        assert opened.write(end(at=NOON - WEEK), end(at=NOON - 6 * DAY)) == ["expired", "stored"]


@pytest.mark.parametrize("when", ["before the sums", "before unlinking"])
def test_a_crash_while_a_day_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """design 6: whatever step of dropping a day is the last before a crash, the next start ends it, and its hours
    are there once.
    """

    def crash(*_: Any) -> None:
        raise OSError("power cut")

    with sqlite_in(tmp_path) as opened:
        opened.write(end(at=NOON - WEEK))
        later(opened, DAY / 2 - HOUR)
        target, name = (keeping.hours, "replace") if when == "before the sums" else (keeping, "remove_day")
        if when == "before the sums":
            opened.write(end(at=NOON - WEEK))  # so that there is something to add up
        wanted = opened.top(start=NOON - 2 * WEEK, end=NOON + WEEK)
        monkeypatch.setattr(target, name, crash)
        opened.pump.now += 2 * HOUR
        with pytest.raises(OSError, match="power cut"):
            clean(opened)
        monkeypatch.undo()
        assert days_of(tmp_path) == ["20270108"]
        assert opened.top(start=NOON - 2 * WEEK, end=NOON + WEEK) == wanted
    with sqlite_in(tmp_path, opened.pump) as opened:
        clean(opened)
        assert days_of(tmp_path) == []
        assert opened.top(start=NOON - 2 * WEEK, end=NOON + WEEK) == wanted


def test_a_question_under_way_does_not_fail_when_its_day_goes(tmp_path: Path) -> None:
    """STOR-02: unlinking a file that a question is reading harms neither; the next one does not see it."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end(at=NOON - WEEK))
        path = files.day_path(tmp_path, files.day_of(NOON - WEEK))
        reader = files.open_reader(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM request").fetchone() == (1,)
        later(opened, DAY)
        assert not path.exists()
        assert reader.execute("SELECT count(*) FROM request").fetchone() == (1,)
        reader.close()
        assert opened.search() == []
        assert opened.store.health()["problems"] == []


# --- Clocks -----------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_ahead_drops_nothing_at_once(tmp_path: Path) -> None:
    """Faults 17: after a jump of two days nothing young is dropped; when the clock still says so a day later, it is
    believed.
    """
    steady = [0.0]
    with sqlite_in(tmp_path) as opened:
        opened.store._keeper.steady = lambda: steady[0]
        opened.write(*(end(at=NOON - n * DAY) for n in range(8)))
        clean(opened)
        opened.pump.now += 2 * DAY
        for _ in range(24):
            assert clean(opened).dropped == [] or steady[0] >= DAY / 2  # midnight has come, whatever the clock says
            steady[0] += HOUR
            opened.pump.now += HOUR
        assert len(days_of(tmp_path)) >= 6
        clean(opened)
        assert days_of(tmp_path) == [f"202701{n:02}" for n in range(11, 16)]


def test_a_clock_that_jumps_back_drops_nothing(tmp_path: Path) -> None:
    """Faults 17: in 1970 nothing is dropped and nothing of today refused; back in the present all goes on."""
    with sqlite_in(tmp_path) as opened:
        opened.write(*(end(at=NOON - n * DAY) for n in range(8)))
        clean(opened)
        opened.pump.now = 3600.0
        assert clean(opened).dropped == []
        assert opened.write(end()) == ["stored"]
        opened.pump.now = NOON + HOUR
        assert clean(opened).dropped == []
        assert len(days_of(tmp_path)) == 8


def test_a_start_far_in_the_future_keeps_the_days(tmp_path: Path) -> None:
    """Faults 17: a start whose clock is years ahead of the last look drops nothing and refuses nothing of before."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end())
        clean(opened)
    with sqlite_in(tmp_path, Pump(NOON + 1000 * DAY)) as opened:
        assert clean(opened).dropped == []
        assert days_of(tmp_path) == ["20270115"]
        assert opened.write(end()) == ["stored"]


# --- Hours ------------------------------------------------------------------------------------------------


def some(n: int) -> list[Any]:
    """Requests and frames over three days and some hours, several hosts, projects and endpoints."""
    made: list[Any] = []
    for i in range(n):
        at = NOON - (i % 3) * DAY + (i % 7) * 1801
        sql = {"n": 2, "ms": 4, "queries": [{"sql": f"SELECT {'x' * (i % 5 + 1)} FROM t", "ms": 4, "n": 2}]}
        made.append(
            at_path(f"/p{i % 4}", at, 10.0 + i, host=f"web{i % 2}", project=("shop", "blog")[i % 2], recv=at + 40)
        )
        made.append(end(at=at, ms=5.0, body={"sql": sql, "ss": [i * 1000, i * 10]}, recv=at + 10))
    columns = {"requests": [3], "wall_us": [5000], "cpu_us": [70], "blocked_s": [0.25], "histogram": [[[60, 3]]]}
    made += [frame(NOON - d * DAY, cells={"endpoint": {"values": ["GET /f"], "columns": columns}}) for d in range(3)]
    return made


def answers(opened: Open, start: float, end: float) -> dict[str, list[TopRow]]:
    asked = [("endpoint", None), ("statement", None), ("endpoint", "web1"), ("statement", "web0")]
    return {f"{d} {host}": opened.top(d, start, end, host=host) for d, host in asked}


@settings(max_examples=4, deadline=None)
@given(n=st.integers(1, 40), start=st.integers(0, 80), length=st.integers(7, 90))
def test_hours_say_what_minutes_say(tmp_path_factory: pytest.TempPathFactory, n: int, start: int, length: int) -> None:
    """P9: a long range, answered from hours, has the figures that minutes give; so it has from `main.db` when the
    days are gone.
    """
    first = NOON - 3 * DAY + start * HOUR
    span = (first, first + length * HOUR)
    with sqlite_in(tmp_path_factory.mktemp("hours")) as opened, pytest.MonkeyPatch.context() as patch:
        opened.write(*some(n))
        by_hour = answers(opened, *span)
        patch.setattr(limits, "MINUTES_WINDOW_S", 1e9)
        by_minute = answers(opened, *span)
        assert by_hour == by_minute
        patch.undo()
        later(opened, 11 * DAY)
        assert opened.search() == []
        assert answers(opened, *span) == by_hour
        shop = frozenset({"shop"})
        assert {row.value for row in opened.top("endpoint", *span, projects=shop)} <= {
            row.value for row in by_hour["endpoint None"]
        }
        assert opened.top("endpoint", *span, projects=frozenset({"none"})) == []


def test_hours_follow_a_request_that_was_not_dead(tmp_path: Path) -> None:
    """wire.md 5: an end that takes the place of a died takes its share out of the hours too."""
    id = new_id()
    with sqlite_in(tmp_path) as opened:
        opened.write(died(id, NOON), end(ms=5))
        opened.write(end(id, NOON, 70))
        rows = opened.top(start=NOON - DAY, end=NOON + DAY)
        assert [(row.requests, row.errors, row.wall_ms) for row in rows] == [(2, 0, 75)]


def test_a_late_record_is_added_up_again(tmp_path: Path) -> None:
    """design 6: a record that comes for a day already added up replaces the day's hours, before the day goes; a day
    without news is not added up again.
    """
    with sqlite_in(tmp_path) as opened:
        opened.write(end(at=NOON - DAY))
        assert clean(opened).added_up == ["2027-01-14"]
        assert clean(opened).added_up == []
        opened.write(end(at=NOON - DAY))
        assert clean(opened).added_up == ["2027-01-14"]
        opened.write(end(at=NOON - DAY))
        later(opened, 8 * DAY)
        assert days_of(tmp_path) == []
        assert [row.requests for row in opened.top(start=NOON - 2 * DAY, end=NOON)] == [3]


def test_a_short_question_gets_whole_hours_of_a_dropped_day(tmp_path: Path) -> None:
    """design 6: of a day that is gone, a question of minutes is answered by the hours that lie wholly in it."""
    with sqlite_in(tmp_path) as opened:
        opened.write(*(end(at=NOON + n * 1800) for n in range(6)))
        later(opened, 9 * DAY)
        assert [row.requests for row in opened.top(start=NOON, end=NOON + 2 * HOUR)] == [4]
        assert [row.requests for row in opened.top(start=NOON + 60, end=NOON + 2 * HOUR)] == [2]
        assert opened.top(start=NOON + 60, end=NOON + HOUR) == []


def test_the_heaviest_values_keep_their_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """design 6: of many values the heaviest stay, the same in every hour of the day; nothing of the sum is lost."""
    monkeypatch.setattr(limits, "HOUR_VALUES", 3)
    with sqlite_in(tmp_path) as opened:
        opened.write(
            *(at_path(f"/p/{'abcdefgh'[n]}", NOON + h * HOUR, 10.0 * (n + 1)) for n in range(8) for h in (0, 1))
        )
        before = opened.top(start=NOON - DAY, end=NOON + DAY)
        later(opened, 9 * DAY)
        rows = {row.value: row for row in opened.top(start=NOON - DAY, end=NOON + DAY)}
        assert set(rows) == {"GET /p/h", "GET /p/g", "GET /p/f", "~other"}
        assert rows["GET /p/h"].requests == 2
        assert rows["~other"].requests == 10
        assert sum(row.wall_ms for row in rows.values()) == sum(row.wall_ms for row in before)


def test_hours_go_after_ninety_days(tmp_path: Path) -> None:
    """design 6: hours are kept for 90 days, and names that nothing has any more go with them."""
    with sqlite_in(tmp_path) as opened:
        opened.write(at_path("/old", NOON), at_path("/new", NOON + DAY, recv=NOON + DAY))
        opened.pump.now = NOON
        later(opened, 90 * DAY)
        assert len(opened.top(start=NOON - DAY, end=NOON + DAY * 2)) == 2
        later(opened, 1 * DAY)
        assert [row.value for row in opened.top(start=NOON - DAY, end=NOON + DAY * 2)] == ["GET /new"]
    db = sqlite3.connect(tmp_path / "main.db")
    names = {text for (text,) in db.execute("SELECT text FROM name")}
    db.close()
    assert "GET /new" in names
    assert "GET /old" not in names


def test_a_damaged_day_keeps_nobody_from_cleaning_up(tmp_path: Path) -> None:
    """STOR-02, faults 16: a day that cannot be read is dropped when its time is over, and the others are looked at."""
    with sqlite_in(tmp_path) as opened:
        opened.write(end(), end(at=NOON - WEEK))
    files.day_path(tmp_path, files.day_of(NOON - WEEK)).write_bytes(b"garbage" * 10_000)
    with sqlite_in(tmp_path) as opened:
        later(opened, 2 * DAY)
        assert days_of(tmp_path) == ["20270115"]
        assert len(opened.search()) == 1
