"""What a store counts: frames come back, and are ranked with what no frame counts; see `contract.py`."""

from __future__ import annotations

import msgspec
import pytest

from bitville_apm import cells, sqltext
from tests.store.contract import SHOP, Contract, Open
from tests.store.make import DAY, NOON, end, frame


class CountsContract(Contract):
    """Frames and rolls."""

    def test_frames_of_a_window(self, opened: Open) -> None:
        """wire.md 6: frames come back in the order of their time, each once, from the start up to the end."""
        later, first, elsewhere = frame(NOON + 10), frame(NOON), frame(NOON, host="web2")
        day_before = frame(NOON - DAY)
        assert opened.write(later, first, elsewhere, first, day_before) == [*["stored"] * 3, "duplicate", "stored"]
        assert [f.at for f in opened.frames(NOON - DAY, NOON + 10)] == [NOON - DAY, NOON, NOON]
        assert [f.id for f in opened.frames(NOON, NOON + 20, host="web1")] == [first.id, later.id]
        assert opened.frames(NOON, NOON + 20, host="nowhere") == []
        opened.write(frame(NOON, project="blog", host="web2"))
        found = opened.pump.ask(opened.store.frames(None, NOON, NOON + 10, None))
        assert sorted((f.project, f.host) for f in found) == [("blog", "web2"), ("shop", "web1"), ("shop", "web2")]

    def test_frames_without_cells(self, opened: Open) -> None:
        """wire.md 6: asked without cells, or with some of their columns, a frame has everything else."""
        columns = {"histogram": [[[90, 3], [95, 1]], []], "requests": [4, 0], "wall_us": [4000, 0]}
        columns |= {"blocked_s": [0.25, 0.0], "waiting_s": [0.1, 1 / 3], "sql_us": [70_000, 5]}
        cells = {"endpoint": {"values": ["GET /a", "GET /b"], "columns": columns}}
        links = [["endpoint", "GET /a", "function", "f", 3, None, 0.5]]
        more = {"seconds": {"tasks": [1.0, None]}, "load": {"cores": 4}, "lost": {"looks": 1}}
        arrival = frame(cells=cells, links=links, **more)
        opened.write(arrival)
        (whole,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1"))
        (bare,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1", cells=False))
        assert whole.frame == arrival.frame
        assert bare.frame == msgspec.structs.replace(whole.frame, cells={}, links=[])
        assert bare.frame.seconds == more["seconds"]
        (some,) = opened.pump.ask(opened.store.frames(SHOP, NOON, NOON + 1, "web1", columns=["wall_us", "requests"]))
        assert some.frame.links == whole.frame.links
        assert some.frame.cells["endpoint"].values == ["GET /a", "GET /b"]
        kept = {name: columns[name] for name in ("requests", "wall_us")}
        assert some.frame.cells["endpoint"].columns == kept

    def test_a_frame_counts_once_and_framed_records_do_not(self, opened: Open) -> None:
        """I1: what a frame counted is in `top` through the frame alone, and once however often it comes."""
        counted = frame(
            cells={
                "endpoint": {
                    "values": ["GET /a", "~other"],
                    "columns": {
                        "requests": [3, 1],
                        "wall_us": [3000, 1000],
                        "cpu_us": [2_000_000, 0],
                        "queue_us": [500_000, 0],
                        "blocked_s": [0.5, 0],
                        "max_us": [1500, 1000],
                        "histogram": [[[cells.bucket(1000), 3]], []],
                        "later": ["unknown", None],
                    },
                }
            }
        )
        assert opened.write(counted, end(framed=True), counted) == ["stored", "stored", "duplicate"]
        first, other = opened.top()
        assert (first.value, first.requests, first.executions, first.wall_ms) == ("GET /a", 3, None, 3)
        assert (first.running_s, first.blocked_s, first.max_ms) == (2.5, 0.5, 1.5)
        assert first.p50_ms == pytest.approx(1, rel=0.05)
        assert (other.value, other.requests, other.p50_ms) == ("~other", 1, None)

    def test_top_is_ranked_by_load_where_there_is_any(self, opened: Open) -> None:
        """design: load is task-seconds; only where nobody measured them does wall time rank."""
        busy = {"request": {"method": "GET", "uri": "/busy"}, "ss": [90_000_000, 0]}
        idle = {"request": {"method": "GET", "uri": "/idle"}}
        opened.write(end(ms=100, body=busy), end(at=NOON + 60, ms=5000, body=idle))
        assert [row.value for row in opened.top()] == ["GET /busy", "GET /idle"]
        assert [row.value for row in opened.top(start=NOON + 60, end=NOON + 120)] == ["GET /idle"]
        assert [row.value for row in opened.top(limit=1)] == ["GET /busy"]
        assert opened.top(host="web2") == []
        assert opened.top("nonsense") == []

    def test_top_statements_and_percentiles(self, opened: Open) -> None:
        """wire.md 8: statements count executions; percentiles are right within the histogram's 5 %."""
        sql = {"n": 4, "ms": 40, "queries": [{"sql": "SELECT 1 FROM a WHERE b = 'x'", "ms": 40, "n": 4}]}
        opened.write(*(end(ms=ms, body={"sql": sql}) for ms in range(1, 101)))
        statement = opened.top("statement")[0]
        assert (statement.requests, statement.executions, statement.sql_ms) == (100, 400, 4000)
        assert statement.value == sqltext.statement("SELECT 1 FROM a WHERE b = 'x'", "unknown")
        endpoint = opened.top()[0]
        assert (endpoint.requests, endpoint.executions) == (100, None)
        assert endpoint.p50_ms == pytest.approx(50, rel=0.06)
        assert endpoint.p95_ms == pytest.approx(95, rel=0.06)
        assert endpoint.p99_ms == pytest.approx(99, rel=0.06)
        assert endpoint.max_ms == 100

    def test_a_late_record_counts_in_its_own_minute(self, opened: Open) -> None:
        """wire.md 6: the window is that of the end, clamped to six days before it was received and not after."""
        opened.write(end(at=NOON - DAY, ms=1000, recv=NOON))
        opened.write(end(at=NOON + 600, ms=1000, recv=NOON))
        opened.write(end(at=1.0, ms=1000, recv=NOON))
        assert opened.top(start=NOON - DAY, end=NOON - DAY + 60)[0].requests == 1
        assert opened.top(start=NOON, end=NOON + 60)[0].requests == 1
        assert opened.top(start=NOON - 6 * DAY, end=NOON - 6 * DAY + 60)[0].requests == 1
