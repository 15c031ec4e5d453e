"""One form of a request, whichever line told of it."""

from __future__ import annotations

import json

from bitville_apm.reading import read_item, read_line
from bitville_apm.requests import client_id, dialect, functions_of, network, profile_of, request_of
from tests import wire

RECV = 1_795_231_262_600


def test_an_end_is_read_by_its_route_and_its_exact_times() -> None:
    """PHP-15: the route names the endpoint; CPU and queue come from schedstat, in microseconds."""
    request = request_of(read_line(wire.lines("end.ndjson")[0], RECV))
    assert request.endpoint == "GET /product/{id}"
    assert (request.cpu_us, request.queue_us, request.memory_peak) == (310_000, 42_000, 8_388_608)
    assert (request.status, request.failed) == (200, False)
    assert [(u.statement, u.n, u.ms, u.max_ms) for u in request.statements] == [
        ("SELECT pg_sleep(?)", 2, 430, 215),
        ("SELECT * FROM product WHERE id = ?", 1, 1.5, 1.5),
    ]
    assert [(e.target, e.n, e.ms) for e in request.externals] == [("api.payments.example", 1, 55.5)]


def test_a_failed_short_request_is_counted_whole() -> None:
    """PHP-06: 60 executions added up by shape stay 60; a fatal error is an error whatever the status."""
    request = request_of(read_line(wire.lines("end.ndjson")[1], RECV))
    assert (request.sql_n, request.statements[0].n, request.statements[1].failed) == (61, 60, 1)
    assert request.cpu_us == 10_000
    assert request.failed
    assert request.fatal


def test_both_spellings_of_version_1_are_one_form() -> None:
    """Version 1: the second spelling's `url`, `status`, `time_ms` and `summary` mean the same."""
    request = request_of(read_line(wire.lines("version1-second-spelling.ndjson")[0], RECV))
    assert (request.method, request.uri, request.status) == ("POST", "/cart?step=2", 302)
    assert (request.ms, round(request.at, 5)) == (640.25, 1795231261.85975)
    assert (request.sql_n, request.sql_ms, request.hostname) == (14, 180.5, "web2")
    assert request.memory_peak == 6_291_456
    assert [u.statement for u in request.statements] == [
        "UPDATE cart SET quantity = ? WHERE id = ?",
        "SELECT * FROM price WHERE sku IN (?)",
    ]
    second = request_of(read_line(wire.lines("version1-second-spelling.ndjson")[1], RECV))
    assert (second.ms, second.failed) == (12.5, True)


def test_every_real_record_has_its_endpoint_statements_and_functions() -> None:
    """All 74 real records: duration and totals as they say, statements without values, functions named."""
    for line in wire.real_version1():
        told = json.loads(line)
        read = read_line(line, RECV)
        request = request_of(read)
        assert request.ms == told["elapsed_ms"]
        assert request.endpoint.startswith(told["request"]["method"] + " /")
        assert request.sql_n == told["sql"]["total_queries"]
        assert sum(u.n for u in request.statements) == len(told["sql"]["queries"])
        profile = profile_of(read.message)
        assert profile is not None
        assert profile.functions


def test_a_died_request_is_an_error() -> None:
    """PHP-11: a request that ended without saying so is known with its endpoint and what it had run."""
    died = next(line for item, line in map(read_item, wire.lines("items.ndjson")) if item.k == "died")
    request = request_of(died)
    assert (request.died, request.failed, request.endpoint, request.ms) == (True, True, "GET /report", 9500)


def test_the_clients_own_id_is_remembered() -> None:
    """An id that is no UUID is kept beside the one it is stored under."""
    job = read_line(wire.lines("end.ndjson")[2], RECV)
    assert client_id(job) == "job-2026-11-21#17"
    assert client_id(read_line(wire.lines("end.ndjson")[0], RECV)) is None


def test_networks_and_dialects() -> None:
    """The dimension client is a /24 or /48; a driver's name gives the dialect."""
    assert network("203.0.113.9") == "203.0.113.0/24"
    assert network("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert network("::ffff:203.0.113.9") == "203.0.113.0/24"
    assert network("unknown") is None
    assert [dialect(d) for d in ("pgsql", "mysqli", "pdo_sqlite", "PostgreSQL", "oci", None)] == [
        "pg",
        "mysql",
        "sqlite",
        "pg",
        "unknown",
        "unknown",
    ]


def test_functions_own_time_is_without_their_statements() -> None:
    """PHP-03, PHP-06: a function does not run while its statements do, also where only a later one says who sent it."""
    queries = [
        {"sql": "SELECT ?", "ms": 5},
        {"sql": "SELECT ?", "ms": 20, "n": 2, "stack": ["/a.php:3 Shop->rows", "/a.php:9 main"]},
        {"sql": "DELETE", "ms": 40},
        {"sql": "UPDATE", "ms": 8, "stack": []},
        {"sql": "SELECT ?", "ms": 3, "stack": [7]},
    ]
    record = {
        "t": "end", "v": 2, "id": "727a44a2-c4ac-4e6e-bcd4-2eae9c2dcc90", "at": 1.8e9, "ms": 100.0,
        "request": {"method": "GET", "uri": "/"}, "sql": {"n": 6, "ms": 76, "queries": queries},
        "profile": {"kind": "excimer", "period_us": 10000, "stacks": "main;Shop::rows 4\nmain 6"},
    }  # fmt: skip
    own = {one.name: (one.us, one.busy_us) for one in functions_of(read_line(json.dumps(record).encode(), 0).message)}
    assert own == {"main": (60_000, 60_000), "Shop::rows": (40_000, 12_000)}
