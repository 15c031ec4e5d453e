"""What is sent on: from which record on, in which order, and that none is passed over, whatever becomes of days."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from bitville_apm import limits
from bitville_apm.store.feed import IFeed, Mark, Waiting
from bitville_apm.store.sqlite import files
from tests.store.contract import Open
from tests.store.make import DAY, NOON, Pump, died, end, frame, new_id, postgres
from tests.store.opened import TODAY, clean, later, sqlite_in


def feed(opened: Open) -> IFeed:
    store: object = opened.store
    found: IFeed = store.feed  # type: ignore[attr-defined]
    return found


def kept(opened: Open) -> Mapping[int, Mark]:
    marks: Mapping[int, Mark] = opened.pump.ask(feed(opened).marks())
    return marks


def unsent(opened: Open, marks: Mapping[int, Mark] | None = None, most: int = 100) -> list[Waiting]:
    """All that is not sent yet, batch by batch."""
    found: list[Waiting] = []
    marks = dict(kept(opened) if marks is None else marks)
    while True:
        batch = opened.pump.ask(feed(opened).unsent(marks, most))
        if not batch.records:
            assert batch.pending == 0
            return found
        assert len(batch.records) <= most
        found += batch.records
        last = batch.records[-1].mark
        marks[last.day] = last


def ids(found: list[Waiting]) -> list[str]:
    return [waiting.stored.found.id for waiting in found]


def pending(opened: Open) -> int:
    return int(opened.pump.ask(feed(opened).unsent(kept(opened), 0)).pending)


def test_it_begins_at_now_and_goes_on(tmp_path: Path) -> None:
    """GELF-06: what is there when it is switched on is not sent; all that comes then is, over restarts; switched off
    and on again it begins at now again.
    """
    with sqlite_in(tmp_path) as opened:
        opened.write(end(), end(at=NOON - DAY), postgres())
        feed(opened).begin(NOON)
        assert unsent(opened) == []
        first = [new_id() for _ in range(3)]
        opened.write(end(first[0]), end(first[1], at=NOON - DAY), end(first[2], at=NOON - 3 * DAY))
        assert sorted(ids(unsent(opened))) == sorted(first)
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON + 1)
        found = unsent(opened)
        assert sorted(ids(found)) == sorted(first)
        opened.pump.ask(feed(opened).sent([found[0].mark]))
        assert sorted(ids(unsent(opened))) == sorted(ids(found[1:]))
        assert pending(opened) == 2
    with sqlite_in(tmp_path) as opened:
        feed(opened).end()
        assert not kept(opened)
        feed(opened).begin(NOON + 2)
        assert unsent(opened) == []


@pytest.mark.parametrize("most", [1, 2, 100])
def test_records_come_whole_and_in_order(tmp_path: Path, most: int) -> None:
    """GELF-01: the oldest day first, each in the order in which it was stored, of every project, as the bytes that
    came; frames are no records.
    """
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        today = [end(at=NOON - n, project=project) for n, project in enumerate(("shop", "blog", "shop"))]
        seen = postgres(NOON + 5)
        opened.write(today[0], frame(), today[1])
        opened.write(seen, today[2], yesterday := end(at=NOON - DAY))
        found = unsent(opened, most=most)
        wanted = [yesterday, today[0], today[1], today[2], seen]
        assert ids(found) == [arrival.id for arrival in wanted]
        for waiting, arrival in zip(found, wanted, strict=True):
            assert waiting.stored.body == arrival.body
            assert waiting.stored.kind == arrival.kind
            assert (waiting.stored.found.project, waiting.stored.found.host) == (arrival.project, arrival.host)


def test_large_records_come_in_small_batches(tmp_path: Path) -> None:
    """GELF-05: a batch is bounded in bytes, whatever waits."""
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(*(end(body={"context": {"x": "y" * limits.MIB}}) for _ in range(5)))
        batch = opened.pump.ask(feed(opened).unsent({}, 100))
        assert (len(batch.records), batch.pending) == (2, 5)
        assert len(unsent(opened)) == 5


def test_an_end_takes_no_row_that_was_sent(tmp_path: Path) -> None:
    """GELF-01: the end of a request that was taken for dead, and sent as such, is sent too: also where it was the last
    of its day, and over a restart.
    """
    dead, other = new_id(), new_id()
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(end(), died(dead))
        found = unsent(opened)
        opened.pump.ask(feed(opened).sent([found[-1].mark]))
        opened.write(end(dead, at=NOON + DAY))  # in the next day: nothing comes behind it in its own
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(end(other))
        assert ids(unsent(opened)) == [other, dead]
        assert [waiting.stored.kind for waiting in unsent(opened)] == ["end", "end"]


def test_a_day_that_was_damaged(tmp_path: Path) -> None:
    """GELF-05: what is saved of a damaged day is sent again rather than passed over."""
    kept_ids = [new_id() for _ in range(3)]
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(*(end(id) for id in kept_ids))
        found = unsent(opened)
        opened.pump.ask(feed(opened).sent([found[-1].mark]))
        assert unsent(opened) == []
    (tmp_path / TODAY).rename(tmp_path / "damaged-20270115-1.db")
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        clean(opened)  # salvages it
        assert sorted(ids(unsent(opened))) == sorted(kept_ids)


def test_a_day_whose_end_was_cut_off(tmp_path: Path) -> None:
    """GELF-05: rows that damage took away and others get later are not passed over for having been sent."""
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(end(), end(), postgres(), postgres())
        found = unsent(opened)
        opened.pump.ask(feed(opened).sent([found[-1].mark]))
    with contextlib.closing(sqlite3.connect(tmp_path / TODAY)) as db:
        db.execute("DELETE FROM request WHERE row = 2")
        db.execute("DELETE FROM payload WHERE row = 2")
        db.execute("DELETE FROM postgres WHERE row = 2")
        db.execute("UPDATE change SET newest = 1, records = 2")
        db.commit()
    with sqlite_in(tmp_path) as opened:
        feed(opened).begin(NOON)
        opened.write(later_one := end(), seen := postgres(NOON + 9))
        assert ids(unsent(opened)) == [later_one.id, seen.id]


def test_days_that_go_before_they_were_sent(tmp_path: Path) -> None:
    """GELF-05: retention counts what it drops unsent, once, and only while records are to be sent."""
    with sqlite_in(tmp_path, days=2) as opened:
        opened.write(end(at=NOON - DAY))
        feed(opened).begin(NOON)
        opened.write(end(at=NOON - DAY), postgres(NOON - DAY), end(), end())
        later(opened, 1.6 * DAY)
        told = opened.pump.ask(feed(opened).unsent(kept(opened), 100))
        assert (told.dropped, told.pending, len(told.records)) == (2, 2, 2)
        opened.pump.ask(feed(opened).sent([told.records[0].mark]))
        later(opened, DAY)
        told = opened.pump.ask(feed(opened).unsent(kept(opened), 100))
        assert (told.dropped, told.pending, kept(opened)) == (3, 0, {})
        feed(opened).end()
        opened.write(end(at=opened.pump.now - DAY))
        later(opened, 3 * DAY)
        assert opened.pump.ask(feed(opened).unsent({}, 0)).dropped == 0


def test_files_of_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GELF-06, design 6: a store that was made before records were sent on takes it up at now."""
    with monkeypatch.context() as patched:
        patched.setitem(files.VERSIONS, "main", 5)
        files.open_writer(tmp_path / "main.db", "main").close()
        patched.setitem(files.VERSIONS, "day", 5)
        with contextlib.closing(files.open_writer(tmp_path / TODAY, "day")) as day:
            day.execute("INSERT INTO postgres (project, id, at, recv_ms, host, source, body) VALUES (1,'',0,0,1,1,'')")
            day.execute(
                "INSERT INTO request (row, project, id, kind, at, duration_ms, recv_ms, host, endpoint, method, url,"
                " sql_n, sql_ms, rolled) VALUES (7,1,'','end',0,0,0,1,1,'','',0,0,0)"
            )
    with sqlite_in(tmp_path, Pump()) as opened:
        feed(opened).begin(NOON)
        mark = kept(opened)[20833]
        assert (mark.request, mark.postgres, len(mark.file)) == (7, 1, 16)
        opened.write(new := end())
        found = unsent(opened)
        assert (ids(found), found[0].mark.request) == ([new.id], 8)
    assert (tmp_path / "main.db.version-5").exists()
