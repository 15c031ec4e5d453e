"""What a request's time is made of."""

from __future__ import annotations

from typing import Any

import pytest

from bitville_apm.web.detail import detail_json, detail_of
from bitville_apm.web.fields import connections_of, sections_of
from bitville_apm.web.one import parts_of, statements_panel
from tests.web.html import html
from tests.web.made import end_record
from tests.web.memory import Memory


@pytest.mark.parametrize(
    ("ss", "sql_ms", "parts"),
    [
        ([300_000_000, 200_000_000], 400.0, {"cpu": 300, "queue": 200, "sql": 400, "rest": 100}),
        ([600_000_000, 400_000_000], 500.0, {"cpu": 600, "queue": 400}),
        ([600_000_000, 100_000_000], 500.0, {"cpu": 600, "queue": 100, "sql": 300}),
        (None, 400.0, {"sql": 400, "php": 600}),
    ],
)
def test_the_parts_of_a_request_add_up_to_it(ss: Any, sql_ms: float, parts: dict[str, float]) -> None:
    """QUERY-03: CPU and waiting for one are exact; statements fill what is left, and never more than that."""
    record = end_record(ms=1000.0, ss=ss, sql={"n": 1, "ms": sql_ms}, calls=None, cpu=None)
    store = Memory()
    store.add("shop", record)
    assert dict(parts_of(detail_of(store.kept[0]))) == pytest.approx(parts)


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        (
            {"driver": "pgsql", "user": "shop", "host": "db1", "port": 5432, "database": "shop"},
            "pgsql shop@db1:5432/shop",
        ),
        ({"driver": "sqlite", "database": "/srv/shop.sqlite"}, "sqlite /srv/shop.sqlite"),
        ({"driver": "mysql", "host": "/run/mysqld.sock"}, "mysql /run/mysqld.sock"),
        ({"driver": "odbc"}, "odbc"),
    ],
)
def test_where_its_statements_ran(connection: dict[str, Any], told: str) -> None:
    """QUERY-03: a server as one writes it, a file as its path."""
    store = Memory()
    store.add("shop", end_record(sql={"n": 1, "ms": 1.0, "connections": [connection]}))
    assert connections_of(detail_of(store.kept[0])) == [told]


def test_where_statements_come_from() -> None:
    """PHP-06, QUERY-03: each statement has the frames of its longest execution, on the page and in JSON."""
    lines = [f"/srv/shop/app.php:{n} Shop->part{n}" for n in range(3)]
    queries = [
        {"sql": "SELECT ?", "ms": 2.0, "stack": ["/srv/shop/short.php:1 quick", *lines]},
        {"sql": "SELECT ?", "ms": 9.0, "stack": ["/srv/shop/<b>.php:7 Shop->longest", *lines]},
        {"sql": "SELECT ?", "ms": 11.0},
        {"sql": "DELETE", "ms": 1.0, "stack": ["main"]},
        {"sql": "UPDATE", "ms": 0.5, "stack": {"not": "one"}},
    ]
    store = Memory()
    store.add("shop", end_record(sql={"n": 5, "ms": 23.5, "queries": queries}))
    detail = detail_of(store.kept[0])
    stacks = {use["statement"]: list(use["stack"]) for use in detail_json(detail)["statements"]}
    assert stacks == {"SELECT ?": ["/srv/shop/<b>.php:7 Shop->longest", *lines], "DELETE": ["main"], "UPDATE": []}
    page = html(statements_panel(detail))
    assert page.count("from ") == 2
    assert "/srv/shop/&lt;b&gt;.php:7 Shop-&gt;longest" in page
    assert page.index("longest") < page.index("part0") < page.index("part2")
    assert "short.php" not in page


def test_what_was_left_out_is_said_in_words() -> None:
    """PHP-06: what the client left out of a record is told as people say it, what we do not know as it came."""
    store = Memory()
    store.add("shop", end_record(sampled_down=["sql_stack", "memory", "later"]))
    sections = dict(sections_of(detail_of(store.kept[0])))
    (row,) = sections["Left out to keep the client cheap"]
    assert row[1] == "where quick statements came from, all detail, as there was no memory left, later"
