"""What a store keeps of the records it is given, and what of those that came before; see `contract.py`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.store.interface import Arrival
from tests.store.contract import BLOG, SHOP, Contract, Open, quick, recounted, some_ends
from tests.store.make import DAY, NOON, died, end, frame, new_id, postgres, request


class RecordsContract(Contract):
    """Each record once, whole, and on its day."""

    def test_a_record_comes_back_as_the_bytes_it_came_as(self, opened: Open) -> None:
        """STOR-03: a stored record is found by its id, whole, with what a search shows of it."""
        body = {"response": {"status": 503}, "release": "r7", "unknown": {"kept": [1, "ü"]}, "ss": [5_000_000, 0]}
        arrival = end(at=NOON, ms=250.5, body=body)
        assert opened.write(arrival) == ["stored"]
        stored = opened.request(arrival.id)
        assert stored.body == arrival.body
        assert json.loads(stored.body)["unknown"] == {"kept": [1, "ü"]}
        assert (stored.kind, stored.recv_ms, stored.client_id) == ("end", arrival.recv_ms, None)
        found = stored.found
        assert (found.project, found.source, found.endpoint) == ("shop", "php_agent", "GET /cart")
        assert (found.status, found.duration_ms, found.release, found.cpu_ms) == (503, 250.5, "r7", 5.0)
        assert opened.search() == [found]
        assert opened.request(new_id()) is None

    @quick
    @given(batches=st.lists(some_ends(), min_size=1, max_size=3))
    def test_a_duplicate_changes_nothing(self, batches: list[list[Arrival]]) -> None:
        """I1: of several arrivals of one identity the first is stored and counted, the others are duplicates;
        rolls equal a recount of what was stored and no frame counts.
        """
        with self.open() as opened:
            kept: dict[tuple[str, str], Arrival] = {}
            for batch in batches:
                wanted = []
                for arrival in batch:
                    new = (arrival.project, arrival.id) not in kept
                    kept.setdefault((arrival.project, arrival.id), arrival)
                    wanted.append("stored" if new else "duplicate")
                assert opened.write(*batch) == wanted
            found = [item for page in opened.pages(None, limit=7) for item in page]
            assert sorted((f.project, f.id) for f in found) == sorted(kept)
            counted = {row.value: (row.requests, row.wall_ms) for row in opened.top()}
            assert counted == recounted(list(kept.values()))
            for (project, id), arrival in kept.items():
                assert opened.request(id, frozenset({project})).body == arrival.body

    @pytest.mark.parametrize("apart", [0.0, DAY])
    @pytest.mark.parametrize("framed", [False, True])
    def test_an_end_takes_the_place_of_a_died(self, opened: Open, apart: float, framed: bool) -> None:
        """wire.md 5: an end replaces a died of its own day or the one before, in the rolls as well."""
        id = new_id()
        other = end(at=NOON, ms=30)
        first = died(id, NOON - apart, 50, framed=framed)
        assert opened.write(other, first) == ["stored", "stored"]
        assert opened.request(id).found.died
        last = end(id, NOON - apart, 50 + apart * 1000, framed=framed)
        assert opened.write(last) == ["stored"]
        assert opened.request(id).body == last.body
        assert [f.died for f in opened.search(correlation_id=id)] == [False]
        rows = {row.value: row for row in opened.top()}
        wanted = recounted([other, last])
        assert {value: (row.requests, row.wall_ms) for value, row in rows.items()} == wanted
        assert rows["GET /cart"].errors == 0
        assert opened.write(last, first) == ["duplicate", "duplicate"]
        assert opened.request(id).body == last.body

    @pytest.mark.parametrize("framed", [False, True])
    def test_a_batch_knows_what_came_earlier_in_it(self, opened: Open, framed: bool) -> None:
        """I1, wire.md 5: within one batch too a died gives way to its end, and what comes again is a duplicate."""
        id, other = new_id(), end(at=NOON, ms=30)
        first, last = died(id, NOON, 50, framed=framed), end(id, NOON, 50, framed=framed)
        written = opened.write(other, first, first, last, other, last, first)
        assert written == ["stored", "stored", "duplicate", "stored", "duplicate", "duplicate", "duplicate"]
        assert opened.request(id).body == last.body
        assert sorted((f.id, f.died) for f in opened.search()) == sorted([(id, False), (other.id, False)])
        assert opened.search(url="/cart") == opened.search()
        assert {row.value: (row.requests, row.errors) for row in opened.top()} == {"GET /cart": (2 - framed, 0)}

    def test_died_twice_is_a_duplicate(self, opened: Open) -> None:
        """A second `died` of an id changes nothing."""
        id = new_id()
        assert opened.write(died(id), died(id, ms=70)) == ["stored", "duplicate"]
        assert opened.request(id).found.duration_ms == 50

    def test_the_same_id_in_two_projects_is_two_records(self, opened: Open) -> None:
        """wire.md 5: identity is (project, id)."""
        id = new_id()
        assert opened.write(end(id, project="shop"), end(id, project="blog", ms=7)) == ["stored", "stored"]
        assert opened.request(id, BLOG).found.duration_ms == 7
        assert opened.request(id, SHOP).found.duration_ms == 100

    @pytest.mark.parametrize("later", [-DAY, DAY])
    def test_a_duplicate_is_seen_across_midnight(self, opened: Open, later: float) -> None:
        """I1: the same id received on a neighbouring day is a duplicate."""
        id = new_id()
        assert opened.write(end(id, recv=NOON)) == ["stored"]
        assert opened.write(end(id, recv=NOON + later)) == ["duplicate"]
        assert recounted([end(id)]) == {row.value: (row.requests, row.wall_ms) for row in opened.top()}

    def test_a_day_no_longer_kept_is_expired(self, opened: Open) -> None:
        """wire.md 5: what belongs to a day that is gone is refused as expired, its neighbours are stored."""
        assert opened.write(end(recv=NOON - 8 * DAY), end(), frame(NOON - 8 * DAY)) == ["expired", "stored", "expired"]
        assert len(opened.search()) == 1

    def test_odd_values_are_kept_or_cut(self, opened: Open) -> None:
        """Refused on arrival: no value that was accepted can break the store or its neighbours."""
        huge, text = 2**53, "x\x00y\u2028" * 20_000
        arrival = end(
            body={
                "cpu": {"user_us": huge, "system_us": huge},
                "memory": {"peak_bytes": huge},
                "sql": {"n": huge, "ms": 9e10, "queries": [{"sql": text, "ms": 1, "n": huge}] * 2},
                "request": {"method": text, "uri": text},
                "release": text,
            }
        )
        old = {"correlation_id": "x" * 5000, "timestamp": 1, "elapsed_ms": 1, "xhprof": {"memory": {"peak": 1e300}}}
        odd = request("v1", {**old, "response": {"status": "-1e300"}, "at": 1, "ms": 1}, recv=NOON)
        assert opened.write(arrival, odd, end()) == ["stored"] * 3
        assert opened.request(arrival.id).found.memory_peak_bytes == huge
        assert opened.request(odd.id).body == odd.body
        assert opened.request(odd.id).client_id == "x" * 5000
        assert opened.write(end(body={"cpu": {"user_us": huge}})) == ["stored"]
        assert len(opened.top("endpoint")) == 3
        assert len(opened.top("statement")) == 1

    def test_a_postgres_record_comes_back(self, opened: Open) -> None:
        """LIST-02: an observation is stored once, whole, and found by its id."""
        seen = postgres(NOON, server="main")
        assert opened.write(seen, seen) == ["stored", "duplicate"]
        assert opened.write(seen) == ["duplicate"]
        stored = opened.request(seen.id)
        assert (stored.kind, stored.body, stored.found.endpoint) == ("pg", seen.body, "pg_locks")
        assert stored.found.source == "postgres_agent"

    def test_health_of_a_store_that_works(self, opened: Open) -> None:
        """LIST-07: a store that stores says so."""
        opened.write(end())
        assert opened.store.health()["ok"] is True
        assert opened.store.health()["problems"] == []
