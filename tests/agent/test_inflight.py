"""Pairing begin, route, end and spooled by connection, with a time that is only a number."""

from __future__ import annotations

import json

from bitville_apm import reading
from bitville_apm.agent.inflight import InFlight, Peer, died_body
from bitville_apm.records import Begin
from tests.agent.rig import begin_line

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"
OTHER = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b02"
PEER = Peer(4711, 33)


def begun(flight: InFlight, connection: str, id_: str, now: float, **more: object) -> bytes:
    line = begin_line(id_, **more)
    message = reading.read_line(line, 0).message
    assert isinstance(message, Begin)
    flight.begun(connection, message, line, PEER, now)
    return line


def test_an_end_closes_its_request_and_nothing_is_left() -> None:
    """A begun request that ends is neither died nor lost, however long it ran."""
    flight = InFlight()
    begun(flight, "c", ID, 100.0)
    assert len(flight) == 1
    ended = flight.ended("c", ID)
    assert ended is not None
    assert (ended.peer, ended.since) == (PEER, 100.0)
    flight.closed("c", 101.0)
    assert len(flight) == 0
    assert flight.due(1e9) == []


def test_a_gone_process_is_died_with_what_is_known_of_it() -> None:
    """PHP-11: killed without an end: after 10 s a died record, the begin line plus its time and its route."""
    flight = InFlight()
    begun(flight, "c", ID, 100.0, method="GET", uri="/a", client="203.0.113.9", future_field=[1])
    flight.routed("c", ID, "GET /a")
    flight.closed("c", 102.5)
    assert flight.due(112.4) == []
    (closed,) = flight.due(112.5)
    assert flight.due(1e9) == []
    died = flight.judged(closed, alive=False)
    assert died is not None
    body = died_body(closed, died)
    read = reading.read_body("died", body, 0)
    assert (read.id, read.message.ms, read.message.route) == (ID, 2500.0, "GET /a")
    fields = json.loads(body)
    assert fields["future_field"] == [1]
    assert "t" not in fields
    assert (flight.died, flight.end_lost) == (1, 0)


def test_a_living_process_only_lost_its_end() -> None:
    """The process lives on: its end was lost, which is counted apart and leaves no record."""
    flight = InFlight()
    begun(flight, "c", ID, 0.0)
    flight.closed("c", 1.0)
    (closed,) = flight.due(20.0)
    assert flight.judged(closed, alive=True) is None
    assert (flight.died, flight.end_lost) == (0, 1)


def test_half_a_line_means_the_end_was_on_its_way() -> None:
    """A connection cut within a line was no death, even when the process is gone."""
    flight = InFlight()
    begun(flight, "c", ID, 0.0)
    flight.closed("c", 1.0, mid_line=True)
    (closed,) = flight.due(20.0)
    assert flight.judged(closed, alive=False) is None
    assert flight.end_lost == 1


def test_a_spool_file_within_ten_seconds_settles_it() -> None:
    """Found in the spool, announced by `spooled`, or ended on another connection: not died."""
    for settle in ("found", "spooled", "elsewhere"):
        flight = InFlight()
        begun(flight, "c", ID, 0.0)
        if settle == "spooled":
            flight.ended("c", ID)
        flight.closed("c", 1.0)
        if settle == "found":
            flight.found(ID)
        if settle == "elsewhere":
            flight.ended("d", ID)
        assert flight.due(1e9) == []


def test_reconnecting_begins_again_and_is_one_request() -> None:
    """A client whose held connection broke begins again under the same id: the first is forgotten."""
    flight = InFlight()
    begun(flight, "c", ID, 0.0)
    flight.closed("c", 1.0)
    begun(flight, "d", ID, 1.5)
    assert flight.due(1e9) == []
    assert flight.ended("d", ID) is not None


def test_another_begin_on_the_connection_says_that_the_first_one_lost_its_end() -> None:
    """A worker that goes on to its next job without an end for the last."""
    flight = InFlight()
    begun(flight, "c", ID, 0.0)
    begun(flight, "c", OTHER, 5.0)
    assert len(flight) == 1
    (closed,) = flight.due(15.0)
    assert closed.request.id == ID


def test_lines_for_another_request_change_nothing() -> None:
    """A route or an end for an id that this connection did not begin is not paired with it."""
    flight = InFlight()
    begun(flight, "c", ID, 0.0)
    flight.routed("c", OTHER, "/x")
    assert flight.ended("c", OTHER) is None
    request = flight.ended("c", ID)
    assert request is not None
    assert request.route is None


def test_only_those_who_waited_long_enough_are_judged_oldest_first() -> None:
    """Each is given out once, in the order in which connections closed."""
    flight = InFlight()
    ids = [f"0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b{i:02d}" for i in range(10, 15)]
    for i, id_ in enumerate(ids):
        begun(flight, f"c{i}", id_, 0.0)
        flight.closed(f"c{i}", float(i))
    assert [c.request.id for c in flight.due(12.0)] == ids[:3]
    assert [c.request.id for c in flight.due(99.0)] == ids[3:]
