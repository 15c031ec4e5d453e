"""`bitville requests` and `bitville request` with a real collector: as its own user, and by a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bitville_apm.cli.requests import request_lines
from tests.cli.conftest import Run
from tests.collector.rig import Rig, item, running
from tests.web.sent import IDS, NOW, record

DIED = {
    "id": "d0000000-0000-4000-8000-000000000000", "at": NOW - 120, "ms": 64_000.0, "method": "GET",
    "uri": "/report?year=2027", "state": "D", "ss": [2_000_000_000, 500_000_000], "release": "r7",
}  # fmt: skip
PAGES = [record(0), record(1, memory={"peak_bytes": 4 << 20}), record(2, at=NOW - 90_000)]
RUNNING = "e0000000-0000-4000-8000-000000000000"
SHORT = {
    "t": "end", "v": 2, "id": "50000000-0000-4000-8000-000000000000", "at": NOW - 90_000, "ms": 3.0,
    "request": {"method": "GET", "uri": "/"},
}  # fmt: skip
STACK = ["/srv/Cart.php:7 Shop\\Cart->price", "/srv/index.php:3 main"]
WHOLE = record(
    3, id="a0000000-0000-4000-8000-000000000000", at=NOW - 90_000, ms=5000.0, ss=[900_000_000, 600_000_000],
    request={"method": "GET", "uri": "/cart/41?x=\x1by", "route": "GET /cart/{id}"}, release="r9",
    response={"status": 500}, memory={"peak_bytes": 39_950_000},
    sql={
        "n": 502, "ms": 2500.0, "connections": [
            {"driver": "pgsql", "host": "db1", "port": 5432, "user": "shop", "database": "shop"}
        ],
        "queries": [
            {"sql": "SELECT price FROM item WHERE id = ?", "ms": 1991.0, "n": 499, "failed": 3, "c": 0},
            {"sql": "SELECT price FROM item WHERE id = ?", "ms": 9.0, "n": 1, "c": 0, "stack": STACK},
            {"sql": "UPDATE stock SET n = ?", "ms": 500.0, "n": 2, "c": 0},
        ],
    },
    calls=[
        {"kind": "http", "target": "cache", "n": 9, "ms": 100.0},
        {"kind": "http", "target": "api.example.com", "n": 3, "ms": 900.0},
    ],
    fatal={"type": 1, "message": "Allowed memory size exhausted", "file": "/srv/Cart.php", "line": 41},
    profile={
        "kind": "excimer", "period_us": 10_000,
        "stacks": "main;Shop\\Cart::price 100\nmain;Shop\\Db::query 300\nmain 100\n",
    },
)  # fmt: skip
SESSION = {
    "pid": 4711, "session": "shop@shop 4711", "user": "shop", "database": "shop", "state": "active",
    "statement": "UPDATE stock SET n = ?", "fingerprint": "f1",
}  # fmt: skip
HOLDER = {**SESSION, "pid": 4700, "session": "shop@shop 4700", "state": "idle in transaction", "depth": 0, "blocked": 3,
          "statement": "SELECT ? FOR UPDATE", "correlation_id": IDS[0]}  # fmt: skip
WAIT = {
    "event": "lock_wait", "what": "waiting", "mode": "ShareLock", "on": "transaction 731", "waited_ms": 1200.0,
    "holders": [4700], "statement": "UPDATE stock SET n = ?",
}  # fmt: skip


def observed(n: int, source: str, data: Any, request: str | None = None) -> dict[str, Any]:
    """What an agent tells of the server `main`."""
    body = {"id": f"f000000{n}-0000-4000-8000-000000000000", "source": source, "at": NOW - 90_000 + n, "server": "main"}
    return item({**body, "data": data, "correlation_id": request}, k="pg", n=n)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A collector with requests of two projects, one of which died, and what a Postgres was seen doing."""
    with running(tmp_path_factory.mktemp("collector")) as rig:
        waiting = {**SESSION, "depth": 1, "blocked": 2, "correlation_id": WHOLE["id"]}
        sent = [
            *(item(body, n=n) for n, body in enumerate((*PAGES, SHORT, WHOLE), 10)),
            item(DIED, k="died", n=1),
            observed(
                2, "pg_stat_activity",
                {"sessions": [{**SESSION, "waits_s": {"Lock:transactionid": 2.0, "CPU": 0.5}}]}, WHOLE["id"],
            ),
            observed(3, "pg_locks", {"tree": [HOLDER, waiting]}),
            observed(4, "pg_log", WAIT, WHOLE["id"]),
            observed(5, "pg_stat_activity", {"sessions": [{**SESSION, "waits_s": {"CPU": 1.0}}]}, RUNNING),
        ]  # fmt: skip
        answer = rig.post(rig.key("shop"), *sent)
        assert answer.json["stored"] == len(sent), answer.body
        other = record(3, id="b0000000-0000-4000-8000-000000000000", request={"method": "GET", "uri": "/\x1b[2J"})
        assert rig.post(rig.key("blog"), item(other, host="web9")).json["stored"] == 1
        yield rig


def ids(run: Run, *arguments: str) -> list[str]:
    code, out, err = run("requests", "--json", *arguments)
    assert (code, err) == (0, "")
    return [one["id"] for one in json.loads(out)["items"]]


def test_the_slowest(run: Run) -> None:
    """QUERY-02: without a key, on the collector's machine: the slowest of every project in the last hour, no record of
    Postgres among them, whole ids, and nothing that a terminal obeys.
    """
    code, out, err = run("requests")
    assert (code, err) == (0, "")
    first, head, *lines = out.splitlines()
    assert first.endswith(" UTC, the slowest first")
    assert head.split() == [
        "BEGAN", "(UTC)", "TOOK", "CPU", "SQL", "IN", "SQL", "STATUS", "HOST", "PROJECT", "ENDPOINT", "ID"
    ]  # fmt: skip
    assert lines[0].split()[1:] == [
        "1", "m", "04", "s", "-", "-", "-", "died", "web1", "shop", "GET", "/report", DIED["id"]
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines[2:]] == [IDS[1], IDS[0]]
    assert lines[3].split()[1:] == [
        "100", "ms", "-", "2", "10", "ms", "200", "web1", "shop", "GET", "/page/even", IDS[0]
    ]  # fmt: skip
    assert "\x1b" not in out
    assert all(len(line) <= 140 for line in lines)


def test_filters(run: Run) -> None:
    """QUERY-02: every filter is the search's; a time before, the newest first, and how many there are more."""
    everything = ids(run)
    assert len(everything) == 4
    assert ids(run, "--newest")[:2] == [DIED["id"], IDS[0]]
    assert ids(run, "--from", "26h", "--project", "shop") == [
        DIED["id"],
        WHOLE["id"],
        IDS[2],
        IDS[1],
        IDS[0],
        SHORT["id"],
    ]
    assert ids(run, "--from", "26h", "--to", "24h") == [WHOLE["id"], IDS[2], SHORT["id"]]
    for arguments, wanted in (
        (("--path", "page%x=1"), [IDS[1]]), (("--endpoint", "GET /page/odd"), [IDS[1]]),
        (("--status", "200"), [IDS[0]]), (("--release", "r7"), [DIED["id"]]), (("--min-ms", "1e4"), [DIED["id"]]),
        (("--host", "web9"), everything[1:2]), (("--host", "web7"), []),
    ):  # fmt: skip
        assert ids(run, *arguments) == wanted, arguments
    lines = run("requests", "--limit", "2", "--project", "shop", "--from", "26h")[1].splitlines()
    assert lines[-1] == "there are more than these 2"
    assert "HOST" not in lines[1]
    assert "PROJECT" not in lines[1]
    assert len(lines[2].split()[0]) == len("2027-01-15")
    said = run("requests", "--host", "web7")[1]
    assert said.startswith("no such request was kept from ")
    assert "are kept whole" in said


def test_what_cannot_be_asked(run: Run, rig: Rig) -> None:
    """QUERY-02: bad input is one line that names it; a key sees its project and no other."""
    for arguments, why in (
        (("--limit", "101"), "limit"), (("--status", "-1"), "status"), (("--min-ms", "nan"), "duration_min"),
        (("--from", "later"), "is no time"), (("--from", "1h", "--to", "2h"), "not after --from"),
        (("--host", ""), "host: empty"), (("--url", rig.url), "wants to know who asks"),
    ):  # fmt: skip
        code, out, err = run("requests", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert why in err
    assert len(ids(run, "--url", rig.url, "--key", rig.key("blog", "read"))) == 1
    assert run("requests", "--url", rig.url, "--key", rig.key("blog", "read"), "--project", "shop")[0] == 1
    with pytest.raises(SystemExit, match="2"):
        run("requests", "--status", "good")


def test_days_are_named_where_they_differ() -> None:
    """Requests of one day are told by the time of day; of two, each with its day. An endpoint is cut, never an id."""
    one = {
        "id": IDS[0], "project": "shop", "source": "php_agent", "at": 1_800_021_600.5, "endpoint": "GET /" + "x" * 90,
        "method": "GET", "url": "/", "status": None, "duration_ms": 0.42, "cpu_ms": None, "sql_count": 1234,
        "sql_ms": 0.0, "memory_peak_bytes": None, "host": "web1", "release": None, "died": False,
    }  # fmt: skip
    same = list(request_lines([one, one], 100))
    assert same[1].startswith("14:00:00 ")
    assert same[1].split()[1:8] == ["0.42", "ms", "-", "1,234", "0", "ms", "-"]
    assert all(len(line) <= 100 and line.endswith((IDS[0], "ID")) for line in same)
    before = {**one, "at": 1_799_935_200.0}
    assert [line[:10] for line in request_lines([one, before], 140)][1:] == ["2027-01-15", "2027-01-14"]


# --- One request ------------------------------------------------------------------------------------------


def test_a_request_whole(run: Run, rig: Rig) -> None:
    """QUERY-03, VIZ-04, LIST-05: where its time went, what it ran and from where, whom it called, what its database was
    seen doing and who held it up, and its permanent link; nothing that a terminal obeys, and as wide as it is.
    """
    code, out, err = run("request", WHOLE["id"])
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "GET /cart/41?x= y",
        "endpoint GET /cart/{id}",
        "status 500",
        "time CPU 900 ms (18 %); waiting for a CPU 600 ms (12 %); waiting for SQL 2.5 s (50 %); waiting for others 1 s "
        "(20 %)",
        "SQL 502 statements, 2.5 s (50 %) on pgsql shop@db1:5432/shop",
        "memory 38.1 MB at its peak",
        "on web1, project shop, release r9",
        "FATAL ERROR",
        "Allowed memory size exhausted",
        "/srv/Cart.php:41",
        "FUNCTIONS (3, by self time)",
        "SELF INCLUSIVE FUNCTION",
        "3 s 60 % 3 s 60 % Shop\\Db::query",
        "STATEMENTS (2)",
        "2 s 40 % 500 4 ms 9 ms repeated 500\u00d7, failed 3\u00d7",
        "SELECT price FROM item WHERE id = ?",
        "from /srv/Cart.php:7 Shop\\Cart->price",
        "called by /srv/index.php:3 main",
        "CALLS TO OTHERS (2)",
        "900 ms 3 api.example.com",
        "IN THE DATABASE (looked at once a second)",
        "2.5 s: Lock:transactionid 2 s, CPU 500 ms; session shop@shop 4711, main on web1",
        "WHO HELD IT UP",
        f"idle in transaction; session shop@shop 4700, main on web1, request {IDS[0]}",
        "SELECT ? FOR UPDATE",
        "2 sessions waited for it at a time",
        "IN THE SERVER'S LOG",
        f"{rig.url}/requests/{WHOLE['id']}",
    ):
        assert line in lines, f"{line}\n{out}"
    assert "\x1b" not in out
    assert "ShareLock on transaction 731 after 1.20 s, held by 4700; main on web1" in out
    assert all(len(line) <= 140 for line in out.splitlines())
    assert "FUNCTIONS (1 of 3, by self time)" in run("request", WHOLE["id"].upper(), "--limit", "1")[1]


def test_a_request_as_json(run: Run, rig: Rig) -> None:
    """QUERY-05: `--json` is what the API answers; a key sees the requests of its project only."""
    by_key = ("--url", rig.url, "--key", rig.key("shop", "read"))
    code, out, _ = run("request", WHOLE["id"], "--json", *by_key)
    answer = rig.ask("GET", f"/api/correlation/{WHOLE['id']}", key=by_key[3]).json
    assert (code, json.loads(out)) == (0, answer)
    assert answer["trace"]["php_request"]["statements"][0]["stack"][0] == "/srv/Cart.php:7 Shop\\Cart->price"
    assert run("request", WHOLE["id"], "--url", rig.url, "--key", rig.key("blog", "read"))[0] == 1


def test_requests_that_tell_little(run: Run) -> None:
    """QUERY-05: of one that died, how it was last seen; of one without a profile or statements, that; of one that has
    no record yet, what its database was seen doing.
    """
    _, died, _ = run("request", DIED["id"])
    assert "ran 1 m 04 s" in died
    assert "IT DIED" in died
    assert "waiting for the disk" in died
    assert "STATEMENTS" not in died
    assert "FUNCTIONS" not in died
    _, other, _ = run("request", "b0000000-0000-4000-8000-000000000000")
    assert "\x1b" not in other
    _, short, _ = run("request", SHORT["id"])
    assert "no profile" in short
    assert "STATEMENTS" not in short
    assert "status    not told" in short
    code, seen, _ = run("request", RUNNING)
    assert code == 0
    assert seen.startswith(f"{RUNNING} is not kept, or still runs")
    assert "UPDATE stock SET n = ?" in seen


@pytest.mark.parametrize("id", ["c0000000-0000-4000-8000-000000000000", "", "..", "x y/\x1bz", "é" * 400])
def test_no_such_request(run: Run, id: str) -> None:
    """QUERY-05: an id that is not kept, whatever it looks like, is one line that says what to look at; exit code 1."""
    code, out, err = run("request", id)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "top --live" in err
    assert "\x1b" not in err


def test_no_request_at_all(run: Run, rig: Rig) -> None:
    """QUERY-05: a record of Postgres is no request, and is said where to find."""
    found = rig.ask("GET", "/api/search?source=postgres_agent", key=rig.key("shop", "read")).json["items"][0]["id"]
    code, _, err = run("request", found)
    assert (code, f"/api/requests/{found} has it" in err) == (1, True)
    with pytest.raises(SystemExit, match="2"):
        run("request", IDS[0], "--limit", "0")
