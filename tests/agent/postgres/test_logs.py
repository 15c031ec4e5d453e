"""Logs in every format, fed whole, bytewise and with trailing data; no value of an application gets through."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.agent.postgres import plans
from bitville_apm.agent.postgres.logformats import Csv, Entry, Json, Parser, Stderr
from bitville_apm.agent.postgres.logmessages import Event, event
from bitville_apm.agent.postgres.logwindow import LogWindow
from bitville_apm.agent.postgres.prefix import compiled, unix

ID = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"
SECRET = "hunter2secret"
AT = 1795844663.25

# --- Prefixes ----------------------------------------------------------------------------------------------

ESCAPES = {
    "a": ("application", f"bitville-{ID}"), "u": ("user", "shop"), "d": ("database", "shop_db"),
    "r": (None, "10.0.0.1(5432)"), "h": (None, "[local]"), "L": (None, "127.0.0.1"), "b": ("kind", "client backend"),
    "p": ("pid", "4711"), "P": (None, ""), "m": ("time", "2026-11-28 05:44:23.250 UTC"),
    "n": ("epoch", "1795844663.250"), "i": (None, "idle in transaction"), "e": ("sqlstate", "00000"),
    "c": (None, "69293d37.1267"), "l": (None, "17"), "s": (None, "2026-11-28 05:40:00 UTC"), "v": (None, "3/17"),
    "x": (None, "0"), "Q": ("query_id", "-42"), "%": (None, "%"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "line", "expected"),
    [
        ("%m [%p] ", "2026-11-28 05:44:23.250 UTC [4711] ", {"pid": "4711"}),
        ("%m [%p] %q%u@%d ", "2026-11-28 05:44:23.250 UTC [4711] shop@db ", {"user": "shop", "database": "db"}),
        ("%m [%p] %q%u@%d ", "2026-11-28 05:44:23.250 UTC [4711] ", {"user": None, "pid": "4711"}),
        ("%t:%r:%u@%d:[%p]: ", "2026-11-28 05:44:23 CET:10.0.0.1(55):shop@db:[7]: ", {"user": "shop", "pid": "7"}),
        ("<%-10u|%5p> ", "<shop      | 4711> ", {"user": "shop", "pid": "4711"}),
        ("", "", {}),
        ("100%% %a: ", "100% my app: ", {"application": "my app"}),
        ("%m %m %p %p ", "2026-11-28 05:44:23.250 UTC 2026-11-28 05:44:23.250 UTC 7 7 ", {"pid": "7"}),
        ("%n %e %Q ", "1795844663.250 40P01 -17 ", {"sqlstate": "40P01", "query_id": "-17", "epoch": "1795844663.250"}),
    ],
)
def test_prefixes_people_use(prefix: str, line: str, expected: dict[str, str | None]) -> None:
    """PG-03: Debian's, pgBadger's, padded ones, none at all: what they hold is read back."""
    match = compiled(prefix).match(f"{line}LOG:  duration: 1.5 ms")
    assert match is not None
    assert match["rest"] == "duration: 1.5 ms"
    for name, value in expected.items():
        found = match[name]
        assert (found.strip() if found else found) == value


@given(st.lists(st.tuples(st.sampled_from(sorted(ESCAPES)), st.sampled_from([" ", " [", "] ", ": ", " - ", "|", ","])),
                min_size=1, max_size=8, unique_by=lambda part: part[0]))  # fmt: skip
def test_any_prefix_is_read_back(parts: list[tuple[str, str]]) -> None:
    """PG-03: whatever is put together from a prefix's parts, with something between them, is told apart again."""
    prefix = "".join(f"%{letter}{between}" for letter, between in parts)
    line = "".join(ESCAPES[letter][1] + between for letter, between in parts)
    match = compiled(prefix).match(f"{line}ERROR:  no")
    assert match is not None
    assert (match["word"], match["rest"]) == ("ERROR", "no")
    for letter, _ in parts:
        name, value = ESCAPES[letter]
        if name in ("pid", "epoch", "time", "sqlstate", "query_id"):
            assert match[name] == value


def test_times_of_logs() -> None:
    """PG-03: UTC and numeric zones are understood; letters that may mean two zones are not guessed at."""
    assert unix("2026-11-28 05:44:23.250 UTC") == AT
    assert unix("2026-11-28 06:44:23.250 +01") == AT
    assert unix("2026-11-28 00:14:23.250 -05:30") == AT
    for other in ("2026-11-28 05:44:23.250 CET", "2026-13-28 05:44:23 UTC", "", None):
        assert unix(other) is None


# --- One log in three formats ------------------------------------------------------------------------------

STATEMENT = f"/* correlation:{ID} */ SELECT *\n  FROM orders\tWHERE name = '{SECRET}' AND \"order\" = 17"
MESSAGES: list[dict[str, str]] = [
    {"severity": "LOG", "message": f"duration: 1234.567 ms  statement: {STATEMENT}"},
    {"severity": "LOG", "message": f"duration: 7.5 ms  execute <unnamed>: {STATEMENT}",
     "detail": f"parameters: $1 = '{SECRET}', $2 = '17'"},
    {"severity": "LOG", "message": "process 11 still waiting for ShareLock on transaction 747 after 1000.123 ms",
     "detail": "Process holding the lock: 12. Wait queue: 11, 13.", "statement": STATEMENT},
    {"severity": "LOG", "message": "process 11 acquired ShareLock on transaction 747 after 2500.5 ms",
     "statement": STATEMENT},
    {"severity": "ERROR", "message": "deadlock detected", "sqlstate": "40P01", "statement": STATEMENT,
     "detail": "Process 21 waits for ShareLock on transaction 748; blocked by process 22.\n"
               "Process 22 waits for ShareLock on transaction 749; blocked by process 21.\n"
               f"Process 21: UPDATE t\n SET v = '{SECRET}'\nProcess 22: DELETE FROM t WHERE v = '{SECRET}'"},
    {"severity": "ERROR", "message": f'duplicate key value violates unique constraint "{SECRET}"', "sqlstate": "23505",
     "detail": f"Key (email)=({SECRET}) already exists.", "statement": STATEMENT},
    {"severity": "ERROR", "message": SECRET, "sqlstate": "P0001", "statement": STATEMENT},
    {"severity": "ERROR", "message": "canceling statement due to statement timeout", "sqlstate": "57014"},
    {"severity": "LOG", "message": "checkpoint complete: wrote 42 buffers (0.3%); 0 WAL file(s) added, 0 removed, "
               "1 recycled; write=4.123 s, sync=0.010 s, total=4.200 s; sync files=9, longest=0.004 s"},
    {"severity": "LOG", "message": 'temporary file: path "base/pgsql_tmp/pgsql_tmp7.0", size 1048576',
     "statement": STATEMENT},
    {"severity": "LOG", "message": 'automatic vacuum of table "shop.public.orders": index scans: 1\npages: 0 removed\n'
               "system usage: CPU: user: 0.01 s, system: 0.00 s, elapsed: 2.50 s"},
    {"severity": "LOG", "message": "database system is ready to accept connections"},
    {"severity": "LOG", "message": f"something else about {SECRET}"},
    {"severity": "LOG", "message": f"duration: 88.1 ms  plan:\nQuery Text: {STATEMENT}\n"
               f"Query Parameters: $1 = '{SECRET}'\n"
               "Sort  (cost=10.00..11.00 rows=5 width=8) (actual time=0.1..0.2 rows=5 loops=1)\n"
               f"  Sort Key: (name || '{SECRET}'::text)\n  Sort Method: quicksort  Memory: 25kB\n"
               "  ->  Seq Scan on orders  (cost=0.00..9.00 rows=5 width=8) (actual time=0.0..0.1 rows=5 loops=1)\n"
               f"        Filter: (name = '{SECRET}'::text)\n        Rows Removed by Filter: 95"},
]  # fmt: skip
PREFIX = "%m [%p] %q%u@%d/%a "


def as_stderr() -> bytes:
    lines = []
    for message in MESSAGES:
        head = f"2026-11-28 05:44:23.250 UTC [4711] shop@db/bitville-{ID} "
        for word, name in ((message["severity"], "message"), ("DETAIL", "detail"), ("STATEMENT", "statement")):
            if message.get(name):
                lines.append(f"{head}{word}:  " + message[name].replace("\n", "\n\t"))
    return "\n".join([*lines, ""]).encode()


def as_csv() -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for m in MESSAGES:
        row = [""] * 26
        row[0:4] = ["2026-11-28 05:44:23.250 UTC", "shop", "db", "4711"]
        row[11:15] = [m["severity"], m.get("sqlstate", "00000"), m["message"], m.get("detail", "")]
        row[19], row[22], row[23] = m.get("statement", ""), f"bitville-{ID}", "client backend"
        writer.writerow(row)
    return out.getvalue().encode()


def as_json() -> bytes:
    lines = []
    for m in MESSAGES:
        told = {"timestamp": "2026-11-28 05:44:23.250 UTC", "user": "shop", "dbname": "db", "pid": 4711,
                "error_severity": m["severity"], "state_code": m.get("sqlstate"), "message": m["message"],
                "detail": m.get("detail"), "statement": m.get("statement"), "application_name": f"bitville-{ID}",
                "query_id": 0}  # fmt: skip
        lines.append(json.dumps({name: value for name, value in told.items() if value is not None}))
    return "\n".join([*lines, ""]).encode()


FORMATS = {"stderr": (as_stderr, lambda: Stderr(PREFIX)), "csv": (as_csv, Csv), "json": (as_json, Json)}


def read(parser: Parser, *pieces: bytes) -> list[Entry]:
    return [entry for piece in pieces for entry in parser.feed(piece)] + parser.flush()


def told(entries: list[Entry]) -> list[dict[str, Any]]:
    """What entries tell, without what only some formats know."""
    events = [found for entry in entries if (found := event(entry)) is not None]
    return [{k: v for k, v in e.data.items() if k not in ("sqlstate", "kind")} for e in events]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_same_is_read_however_it_comes(name: str) -> None:
    """PG-03: a log whole, byte by byte, and with the beginning of the next entry behind it, is the same entries."""
    make, parser = FORMATS[name]
    whole = read(parser(), make())
    assert len(whole) == len(MESSAGES)
    assert [entry.message for entry in whole] == [message["message"] for message in MESSAGES]
    assert whole == read(parser(), *(bytes([byte]) for byte in make()))
    trailing = parser()
    assert [*trailing.feed(make() + b'2026-11-28 05:44:23.250 UTC,"half'), *trailing.flush()][: len(whole)] == whole
    assert {entry.at for entry in whole} == {AT}


def test_three_formats_tell_the_same() -> None:
    """PG-03: what happened does not depend on how it was written."""
    stderr, as_csv_, as_json_ = (told(read(parser(), make())) for make, parser in FORMATS.values())
    assert stderr == as_csv_ == as_json_
    assert [t["event"] for t in stderr] == [
        "slow", "slow", "lock_wait", "lock_wait", "deadlock", "error", "error", "error", "checkpoint",
        "temporary_file", "autovacuum", "server", "plan",
    ]  # fmt: skip


def events() -> list[Event]:
    return [found for entry in read(Json(), as_json()) if (found := event(entry)) is not None]


def test_no_value_gets_through() -> None:
    """PG-03: neither literals of statements, nor parameters, DETAIL, error messages or conditions of plans are sent."""
    for found in events():
        assert SECRET not in repr(found.data), found.data
        assert "17" not in str(found.data.get("statement", "")), found.data
    window = LogWindow()
    window.read(AT, read(Stderr(PREFIX), as_stderr()))
    assert SECRET not in repr(window.flush(AT + 10))


def test_what_entries_tell() -> None:
    """PG-03, PG-05: durations, lock queues, deadlocks with who waited for whom, and the request they belong to."""
    slow, execute, waiting, acquired, deadlock, *_, plan = events()
    assert slow.data["duration_ms"] == 1234.567
    assert slow.data["statement"] == execute.data["statement"] == 'SELECT * FROM orders WHERE name = ? AND "order" = ?'
    assert {found.correlation for found in (slow, execute, waiting, acquired, deadlock, plan)} == {ID}
    assert waiting.data | {"waiting_pid": 11, "what": "waiting", "mode": "ShareLock", "on": "transaction 747",
                           "waited_ms": 1000.123, "holders": [12], "queue": [11, 13]} == waiting.data  # fmt: skip
    assert (acquired.data["what"], acquired.data["waited_ms"]) == ("acquired", 2500.5)
    first, second = deadlock.data["processes"]
    assert (first["pid"], first["blocked_by"], first["statement"]) == (21, 22, "UPDATE t SET v = ?")
    assert (second["pid"], second["blocked_by"], second["statement"]) == (22, 21, "DELETE FROM t WHERE v = ?")
    assert plan.data["plan"].split("\n") == [
        "Sort  (cost=10.00..11.00 rows=5 width=8) (actual time=0.1..0.2 rows=5 loops=1)",
        "  Sort Key: (name || ?::text)",
        "  Sort Method: quicksort  Memory: 25kB",
        "  ->  Seq Scan on orders  (cost=0.00..9.00 rows=5 width=8) (actual time=0.0..0.1 rows=5 loops=1)",
        "        Filter: (name = ?::text)",
        "        Rows Removed by Filter: 95",
    ]
    checkpoint, temporary, vacuum = (next(e for e in events() if e.kind == kind)
                                     for kind in ("checkpoint", "temporary_file", "autovacuum"))  # fmt: skip
    assert (checkpoint.data["buffers"], checkpoint.data["write_s"]) == (42, 4.123)
    assert temporary.data["bytes"] == 1048576
    assert (vacuum.data["table"], vacuum.data["elapsed_s"]) == ("shop.public.orders", 2.5)


def test_a_plan_as_json_keeps_names_and_numbers_only() -> None:
    """PG-03: of auto_explain's JSON format likewise; of its others only the statement, which the log repeats not."""
    plan = {"Query Text": STATEMENT, "Query Parameters": f"$1 = '{SECRET}'", "Settings": {"search_path": SECRET},
            "Plan": {"Node Type": "Seq Scan", "Relation Name": "orders", "Actual Rows": 5, "Triggers": [],
                     "Filter": f"(name = '{SECRET}'::text)", "Output": ["name"], "Odd": f"'{SECRET}'"}}  # fmt: skip
    text, as_text, as_json_ = plans.cleaned(json.dumps(plan))
    assert (text, as_text) == (STATEMENT, None)
    assert SECRET not in repr(as_json_)
    assert as_json_["Plan"]["Filter"] == "(name = ?::text)"
    assert (as_json_["Plan"]["Node Type"], as_json_["Plan"]["Actual Rows"]) == ("Seq Scan", 5)
    assert plans.cleaned("Plan: yaml") == ("", None, None)
    assert plans.cleaned('{"Plan":') == ("", None, None)


@given(st.binary(), st.sampled_from(sorted(FORMATS)))
def test_any_bytes_are_read(data: bytes, name: str) -> None:
    """PG-03: a log with anything in it raises nothing."""
    make, parser = FORMATS[name]
    for pieces in ([data], [make()[:200], data, make()]):
        for entry in read(parser(), *pieces):
            event(entry)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_line_without_end_takes_no_memory(name: str) -> None:
    """PG-03: what is longer than any entry is passed over and counted, and what follows is read."""
    make, parser_of = FORMATS[name]
    parser = parser_of()
    begin = {"stderr": b"", "csv": b'2026-11-28 05:44:23.250 UTC,"', "json": b'{"message":"'}[name]
    read(parser, begin, *[b"x" * 65536] * 40)
    assert parser.odd
    after = read(parser, b"\n", make(), make())
    assert len(after) >= len(MESSAGES)


def test_a_window_is_bounded() -> None:
    """PG-03: of a flood of one kind the heaviest are sent and the rest counted; errors are counts."""
    window = LogWindow()
    slow = [Entry(severity="LOG", message=f"duration: {n}.0 ms  statement: SELECT {n}") for n in range(1000)]
    errors = [Entry(severity="ERROR", sqlstate="23505", message="x", statement=f"INSERT {n}") for n in range(1000)]
    assert window.read(100.0, [*slow, *errors]) == []
    found = window.read(110.0, [])
    assert sorted(o.data["duration_ms"] for o in found[:-1]) == [1000.0 - n for n in range(limits.PG_LOG_SENT, 0, -1)]
    summary = found[-1].data
    assert summary["counts"] == [
        {"event": "error", "severity": "ERROR", "sqlstate": "23505", "statement": "INSERT ?", "n": 1000}
    ]
    assert summary["left_out"] == window.left_out == 1000 - limits.PG_LOG_SENT
    assert window.flush(120.0) == []


def test_our_own_lines_are_no_news() -> None:
    """PG-07: what the agent's own sessions leave in the log is not sent."""
    assert (
        event(Entry(severity="LOG", application="bitville-apm", message="duration: 1.0 ms  statement: SELECT 1"))
        is None
    )
