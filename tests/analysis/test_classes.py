"""The classes of spikes.md, one readable scenario each: what frames look like in it, and what a report has to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from bitville_apm.analysis import mechanism
from bitville_apm.analysis.explain import explain
from bitville_apm.analysis.merge import explain_hosts
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.rules import UNSEEN
from bitville_apm.records import Frame
from bitville_apm.sqltext import fingerprint
from tests.analysis.made import BEGIN, before, during, frame, load, use

ONSET, END = BEGIN - 1, BEGIN + 60
ID = "5b0c6f0e-9a53-4c6e-8c52-0d6c4b1f2a77"
SHOP = {"GET /": use(100, 0.02), "GET /search": use(50, 0.02), "GET /cart": use(40, 0.03)}
"""Ten seconds of it: 0.42 CPUs."""


def explained(spike: Sequence[Frame], baseline: Sequence[Frame], **more: Any) -> Report:
    return explain(spike, baseline, onset=ONSET, end=END, host="web1", **more)


def busier(times: float) -> dict[str, dict[str, float]]:
    """As many times as many requests, each of them as dear as before."""
    return {name: {column: times * value for column, value in c.items()} for name, c in SHOP.items()}


def queueing(times: float, endpoints: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Requests that wait for a CPU so many times as long as they run."""
    return {
        name: {**c, "queue_us": times * c["cpu_us"], "wall_us": (times + 1) * c["wall_us"]}
        for name, c in endpoints.items()
    }


def first(report: Report) -> tuple[str, str, str]:
    cause = report.causes[0]
    return cause.dimension, cause.value, cause.mechanism


def test_traffic_surge_on_one_endpoint() -> None:
    """ADV-01: more requests for one endpoint: traffic; those that queue behind it are victims."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, in_flight=0.5, load=load(0.42))
    slower = {
        "GET /": use(100, 0.02, wall=0.3, queue=0.2),
        "GET /search": use(1500, 0.02, wall=0.3, queue=0.2),
        "GET /cart": use(40, 0.03, wall=0.4, queue=0.2),
    }
    report = explained(during(tables={"endpoint": slower}, tasks=40.0, in_flight=45.0, load=load(3.4)), usual)
    assert first(report) == ("endpoint", "GET /search", "traffic")
    assert report.kind == "load"
    assert report.causes[0].share > 0.9
    assert {victim.value for victim in report.victims} == {"GET /", "GET /cart"}
    assert report.verdict.startswith("GET /search caused 97 % of the load: 30 times as many requests")


def test_more_traffic_to_everything() -> None:
    """More visitors everywhere are nobody's doing: traffic to all endpoints, not the heaviest one."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, in_flight=0.5, load=load(0.42))
    more = {
        name: use(8 * columns["requests"], columns["cpu_us"] / columns["requests"] / 1e6)
        for name, columns in SHOP.items()
    }
    report = explained(during(tables={"endpoint": more}, tasks=3.5, in_flight=4.0, load=load(3.4)), usual)
    assert first(report) == ("all", "all endpoints", "traffic")


def test_one_statement_regresses() -> None:
    """A statement without its index: the database host's, found there, explained with what PHP knows of it."""
    select = "SELECT * FROM product WHERE name = ?"
    link = lambda ms: [("endpoint", "GET /search", "statement", select, 50, 50.0, 50 * ms / 1000)]  # noqa: E731

    def web(ms: float) -> dict[str, Any]:
        statement = {select: use(50, 0.0, wall=ms / 1000, executions=50, sql_us=50_000 * ms)}
        return {
            "tables": {
                "endpoint": SHOP | {"GET /search": use(50, 0.02, wall=0.02 + ms / 1000)},
                "statement": statement,
            },
            "tasks": 0.4,
            "links": link(ms),
            "load": load(0.42),
        }

    def db(busy: float) -> dict[str, Any]:
        sessions = {"CPU": {"cpu_us": busy * 1e7}}
        return {
            "tables": {"statement": {select: {"cpu_us": busy * 1e7}}, "wait": sessions,
                       "process": {"postgres": {"cpu_us": busy * 1e7}}},
            "tasks": busy, "db": busy, "load": load(busy),
        }  # fmt: skip

    report = explain_hosts(
        {"web1": during(in_flight=20.0, **web(3000)), "db1": during(**db(3.5))},
        {"web1": before(in_flight=0.5, **web(3)), "db1": before(**db(0.02))},
        onset=ONSET,
        end=END,
    )
    assert first(report) == ("statement", select, "regression")
    assert report.kind == "load"
    assert set(report.causes[0].hosts) == {"web1", "db1"}
    assert ("endpoint", "GET /search") in {(step.dimension, step.value) for step in report.causes[0].story}


def test_lock_pile_up() -> None:
    """Sessions wait for a lock: the session that holds it, charged with all; waiting, not load."""
    update, holder = "UPDATE stock SET n = ? WHERE id = ?", "app@shop 4711: UPDATE stock SET n = ? WHERE id = ?"
    usual = before(tables={"statement": {update: {"cpu_us": 1e5}}}, tasks=0.1, db=0.1, load=load(0.1))
    waiting = {
        "statement": {update: {"cpu_us": 1e5, "waiting_s": 200.0}},
        "wait": {"Lock:transactionid": {"waiting_s": 200.0}, "CPU": {"cpu_us": 1e5}},
        "blocker": {holder: {"waiting_s": 200.0}},
    }
    links = [("statement", update, "blocker", holder, 0, None, 200.0)]
    report = explained(during(tables=waiting, tasks=0.1, db=20.0, links=links, load=load(0.1)), usual)
    assert first(report) == ("blocker", holder, "lock")
    assert report.kind == "waiting"
    assert "waiting, not load" in report.verdict
    assert report.waits[0].wait == "Lock:transactionid"


def external(captured: bool) -> Report:
    def tables(ms: float) -> dict[str, Any]:
        calls = {"pay.example": {"requests": 20, "executions": 20, "wall_us": 20_000 * ms}} if captured else {}
        return {
            "endpoint": SHOP | {"POST /pay": use(20, 0.01, wall=ms / 1000, waiting_s=20 * ms / 1000)},
            "function": {"HttpClient::send": {"requests": 20, "wall_us": 20_000 * ms}},
            "external": calls,
        }

    usual = before(tables=tables(100), tasks=0.4, in_flight=0.6, load=load(0.42))
    return explained(during(tables=tables(9000), tasks=0.4, in_flight=18.0, load=load(0.42)), usual)


def test_external_api_slow() -> None:
    """A host that is called answers slowly: that host; waiting, not load."""
    report = external(captured=True)
    assert first(report) == ("external", "pay.example", "external")
    assert report.kind == "waiting"


def test_external_api_slow_without_capture() -> None:
    """Where nobody tells whom PHP called, the function that called is named."""
    report = external(captured=False)
    assert first(report)[2] == "external"
    named = {(s.dimension, s.value) for s in report.causes[0].story}
    assert ("function", "HttpClient::send") in named
    assert report.kind == "waiting"


def test_cron_or_backup() -> None:
    """A program beside PHP: not PHP, whatever PHP's requests suffer."""
    usual = before(tables={"endpoint": SHOP, "process": {"nginx": use(0, 0)}}, tasks=0.4, load=load(0.42))
    other = {
        "endpoint": {
            name: {**c, "queue_us": 20 * c["cpu_us"], "wall_us": 21 * c["wall_us"]} for name, c in SHOP.items()
        },
        "process": {"gzip": {"cpu_us": 3.5e7, "queue_us": 1e7}, "rsync": {"blocked_s": 1.0}},
    }
    report = explained(during(tables=other, tasks=14.0, load=load(4.0)), usual)
    assert first(report) == ("process", "gzip", "not php")
    assert len(report.victims) == 3


def test_backup_that_is_blocked_on_a_disk() -> None:
    """Blocked tasks are load as much as running ones."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42))
    other = {"endpoint": SHOP, "process": {"rsync": {"cpu_us": 1e6, "blocked_s": 60.0}}}
    report = explained(during(tables=other, tasks=6.5, load=load(0.5, blocked=6.0)), usual)
    assert first(report) == ("process", "rsync", "not php")
    assert report.split[0].parts[0].name == "rsync"


def test_crawler() -> None:
    """One client asks for everything: the client, not the pages."""
    clients = {f"10.0.{n}.0/24": use(20, 0.021) for n in range(9)}
    usual = before(tables={"endpoint": SHOP, "client": clients}, tasks=0.4, load=load(0.42))
    more, crawler = busier(8), "203.0.113.0/24"
    links = [
        ("client", crawler, "endpoint", n, 7 * c["requests"], None, 7 * c["cpu_us"] / 1e6) for n, c in SHOP.items()
    ]
    spike = during(
        tables={"endpoint": more, "client": clients | {crawler: use(1330, 0.022)}},
        tasks=3.5, links=links, load=load(3.4),
    )  # fmt: skip
    report = explained(spike, usual)
    assert first(report) == ("client", "203.0.113.0/24", "crawler")
    assert [(c.dimension, c.value) for c in report.changes] == [("client", "203.0.113.0/24")]


def test_crawler_whose_pages_cost_the_database() -> None:
    """A client that costs PHP little is charged with what a database on this host ran for it, of many statements."""
    selects = [f"SELECT {n} FROM page" for n in range(12)]

    def tables(visits: float, read: float) -> dict[str, Any]:
        ours = {"requests": visits, "cpu_us": visits * 1e4, "sql_us": visits * 5e4, "wall_us": visits * 7e4}
        theirs = {"requests": read, "cpu_us": read * 1e4, "sql_us": read * 5e4, "wall_us": read * 7e4}
        every = visits + read
        each = {
            "requests": every / 12,
            "executions": every / 12,
            "sql_us": every * 5e4 / 12,
            "cpu_us": every * 4e4 / 12,
        }
        page = {"requests": every / 12, "cpu_us": every * 1e4 / 12, "sql_us": every * 5e4 / 12, "wall_us": 1e5}
        return {
            "client": {"192.0.2.0/24": ours} | ({"198.51.100.0/24": theirs} if read else {}),
            "endpoint": {f"GET /page/{n}": page for n in range(12)},
            "statement": dict.fromkeys(selects, each),
            "process": {"postgres (short-lived)": {"cpu_us": every * 4e4}},
        }

    usual = before(tables=tables(60, 0), tasks=0.3, load=load(0.3))
    report = explained(during(tables=tables(60, 600), tasks=4.0, load=load(3.3)), usual)
    assert first(report) == ("client", "198.51.100.0/24", "crawler")
    assert report.causes[0].share > 0.9
    assert len(report.causes) == 1, "its statements are its own load, seen once more"


def test_swap_storm() -> None:
    """Memory is short: that comes first, and what grew most after it."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42, psi={"memory": {"some": 0, "full": 0}}))
    slow = {name: {**c, "blocked_s": 20.0, "cpu_us": 3 * c["cpu_us"]} for name, c in SHOP.items()}
    pressed = load(1.3, blocked=6.0, psi={"memory": {"some": 60, "full": 35}}, swap={"in_bytes": 1e8, "out_bytes": 1e8})
    report = explained(during(tables={"endpoint": slow}, tasks=7.3, load=pressed), usual)
    assert first(report) == ("memory", "memory pressure", "memory pressure")


def test_deploy_regression() -> None:
    """A function is dearer since a new release: the function, and the release with it."""

    def tables(release: str, cpu: float) -> dict[str, Any]:
        return {
            "endpoint": SHOP | {"GET /list": use(50, cpu)},
            "function": {"List::render": use(50, cpu * 0.9), "Router::match": use(190, 0.001)},
            "release": {release: use(240, 0.02)},
        }

    links = lambda cpu: [("endpoint", "GET /list", "function", "List::render", 50, None, 50 * cpu * 0.9)]  # noqa: E731
    usual = before(tables=tables("1.0", 0.01), tasks=0.5, links=links(0.01), load=load(0.5))
    report = explained(during(tables=tables("1.1", 0.6), tasks=4.0, links=links(0.6), load=load(3.5)), usual)
    assert first(report) == ("function", "List::render", "deploy")
    assert [step.value for step in report.causes[0].story] == ["1.1", "GET /list", "List::render"]
    assert report.changes[0].value == "1.1"
    assert "release 1.1" in report.verdict
    # Deployed some seconds before load had risen: hardly there before is new as well.
    both = tables("1.0", 0.01)
    both["release"] = {"1.0": use(240, 0.02), "1.1": use(20, 0.02)}
    usual = before(tables=both, tasks=0.5, links=links(0.01), load=load(0.5))
    report = explained(during(tables=tables("1.1", 0.6), tasks=4.0, links=links(0.6), load=load(3.5)), usual)
    assert first(report) == ("function", "List::render", "deploy")


def test_browsers_are_no_cause_beside_a_page() -> None:
    """Who asks for a page that has become dearer is in its story or nowhere, and explains it no second time."""
    page = {"GET /search": use(50, 0.5)}
    cron = {"process": {"backup": use(1, 5)}}
    browsers = {f"browser {n}": use(30, 0.02) for n in range(6)}
    dearer = {name: use(30, 0.28 if name == "browser 0" else 0.12) for name in browsers}
    usual = before(tables={"endpoint": SHOP, "agent": browsers}, tasks=0.5, load=load(0.45))
    spike = during(tables={"endpoint": SHOP | page, "agent": dearer, **cron}, tasks=4.0, load=load(3.35))
    report = explained(spike, usual)
    assert first(report) == ("endpoint", "GET /search", "regression")
    assert [cause.dimension for cause in report.causes] == ["endpoint", "process"]


def test_a_release_that_ran_well_for_a_while_is_no_deploy() -> None:
    """Deployed just before the onset it is a deploy; a quarter of an hour before, it is not."""
    page = {"GET /search": use(50, 0.4)}

    def told(minutes: float) -> str:
        old = [frame(f.at, {"endpoint": SHOP, "release": {"r1": use(190, 0.02)}}, tasks=0.4, load=load(0.42))
               for f in before(150) if f.at < BEGIN - 60 * minutes]  # fmt: skip
        new = [frame(f.at, {"endpoint": SHOP, "release": {"r2": use(190, 0.02)}}, tasks=0.4, load=load(0.42))
               for f in before(150) if f.at >= BEGIN - 60 * minutes]  # fmt: skip
        spike = {"endpoint": SHOP | page, "release": {"r2": use(190, 0.12)}}
        return first(explained(during(tables=spike, tasks=2.8, load=load(2.4)), [*old, *new]))[2]

    assert told(0) == told(1) == "deploy"
    assert told(15) == "regression"


def test_two_bursts_with_a_pause_between_them() -> None:
    """A spike that was down for longer than it was up is load all the same: it was found for what rose."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42))
    up = {"endpoint": SHOP | {"GET /search": use(50, 0.6)}}
    frames = [
        frame(BEGIN + 10 * n, up if n in (0, 1, 7, 8) else {"endpoint": SHOP}, tasks=30.0 if n in (0, 1, 7, 8) else 0.4,
              load=load(3.4 if n in (0, 1, 7, 8) else 0.42))
        for n in range(9)
    ]  # fmt: skip
    report = explain(frames, usual, onset=ONSET, end=BEGIN + 90, host="web1")
    assert (report.kind, report.measure) == ("load", "tasks")
    assert first(report) == ("endpoint", "GET /search", "regression")


def test_a_function_that_more_requests_come_to_run() -> None:
    """Nobody counts how often functions are called: one that was switched on for a page is no N+1."""

    def tables(cpu: float, switched: dict[str, Any]) -> dict[str, Any]:
        return {
            "endpoint": SHOP | {"GET /list": use(50, cpu)},
            "function": {"Router::match": use(190, 0.001)} | switched,
        }

    link = ("endpoint", "GET /list", "function", "Offers::all")
    few, all_ = {"Offers::all": use(1, 0.5)}, {"Offers::all": use(50, 0.5)}
    usual = before(tables=tables(0.02, few), tasks=0.5, links=[(*link, 1, None, 0.5)], load=load(0.5))
    report = explained(
        during(tables=tables(0.52, all_), tasks=4.0, links=[(*link, 50, None, 25.0)], load=load(3.5)), usual
    )
    assert report.causes[0].mechanism == "regression"
    assert "more of the requests run it" in report.verdict
    assert ("function", "Offers::all") in {(s.dimension, s.value) for s in report.causes[0].story}


def test_killer_request() -> None:
    """A single request takes it all: that request, with its endpoint."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42))
    tables = {
        "endpoint": SHOP | {"GET /report": {"cpu_us": 2.8e7}},
        "request": {"0a1b": {"cpu_us": 2.8e7}, "~other": use(190, 0.02)},
    }
    report = explained(during(tables=tables, tasks=3.2, load=load(3.2)), usual)
    assert first(report) == ("request", "0a1b", "killer request")
    assert "GET /report" in report.verdict


def test_killer_request_whose_statement_runs() -> None:
    """A statement that nobody has finished and one request waits for all the time: that request, with its endpoint."""
    shop = {"endpoint": SHOP | {"GET /report": use(0, 0)}}
    usual = before(tables=shop, tasks=0.5, load=load(0.5))
    one = {"waiting_s": 9.9}
    during_it = {
        "endpoint": SHOP | {"GET /report": one},
        "request": {ID: one},
        "statement": {"SELECT all": {"cpu_us": 3e7}},
        "process": {"postgres": {"cpu_us": 3e7}},
    }
    report = explained(during(tables=during_it, tasks=3.5, load=load(3.5)), usual)
    assert first(report) == ("request", ID, "killer request")
    assert [(step.dimension, step.value) for step in report.causes[0].story] == [
        ("endpoint", "GET /report"), ("request", ID), ("statement", "SELECT all"),
    ]  # fmt: skip
    ended = {"requests": 1.0, "executions": 3.0, "sql_us": 5.9e7, "cpu_us": 3e7}
    at_its_end = during_it | {"request": {ID: {"requests": 1.0, "sql_us": 5.9e7}}, "statement": {"SELECT all": ended}}
    last = frame(BEGIN + 50, at_its_end, tasks=3.5, load=load(3.5))
    whole = explained([*during(5, tables=during_it, tasks=3.5, load=load(3.5)), last], usual)
    assert first(whole) == ("request", ID, "killer request"), "also when it ends meanwhile and says how often it asked"
    with mock.patch.object(mechanism, "asking", wraps=mechanism.asking) as asking:
        explained(during(tables=during_it, tasks=3.5, load=load(3.5)), usual)
    assert asking.call_count == 1, "it goes through all requests and endpoints of all hosts"
    two = during_it | {"request": {ID: one, ID[::-1]: one}}
    assert first(explained(during(tables=two, tasks=3.5, load=load(3.5)), usual))[0] == "statement", "whose is it?"


def test_n_plus_one() -> None:
    """An endpoint asks for each row by itself: the endpoint with its statement, N+1."""
    select = "SELECT * FROM price WHERE id = ?"

    def tables(each: float, cpu: float) -> dict[str, Any]:
        executions = 50 * each
        statement = use(50, 0.0, wall=each * 0.001, executions=executions, sql_us=executions * 1000)
        return {
            "endpoint": SHOP | {"GET /list": use(50, cpu)},
            "statement": {select: {**statement, "cpu_us": executions * 800}},
            "process": {"postgres": {"cpu_us": executions * 800}},
        }

    links = lambda each: [("endpoint", "GET /list", "statement", select, 50, 50 * each, 50 * each / 1000)]  # noqa: E731
    usual = before(tables=tables(1, 0.01), tasks=0.5, links=links(1), load=load(0.5))
    report = explained(during(tables=tables(300, 0.25), tasks=3.0, links=links(300), load=load(2.9)), usual)
    assert first(report)[2] == "n+1"
    assert {("endpoint", "GET /list"), ("statement", select)} <= {
        (s.dimension, s.value) for s in report.causes[0].story
    }
    assert report.causes[0].factors["q"].after > 100 * report.causes[0].factors["q"].before


def running_lists(calls: float | None, sessions: float = 5.0) -> tuple[list[Frame], list[Frame]]:
    """Requests of GET /list that all still wait for a statement; its server says how often it ran in ten seconds.

    Before, each request ran it once.
    """
    select = "SELECT * FROM price WHERE id = ?"

    def server(n: float | None) -> dict[str, Any]:
        return {"db": {"main": {"active": 1} | ({} if n is None else {"calls": {fingerprint(select): n}})}}

    usual = before(
        tables={
            "endpoint": SHOP | {"GET /list": use(50, 0.01)},
            "statement": {select: use(50, 0.0, executions=50, sql_us=5e4) | {"cpu_us": 4e4}},
            "process": {"postgres": {"cpu_us": 4e4}},
        },
        tasks=0.5, in_flight=0.5, links=[("endpoint", "GET /list", "statement", select, 50, 50, 0.05)],
        load=load(0.5, **server(None if calls is None else 50)),
    )  # fmt: skip
    now = {
        "endpoint": SHOP | {"GET /list": {"waiting_s": 10 * sessions}},
        "request": {ID: {"waiting_s": 9.9}},
        "statement": {select: {"cpu_us": 10 * sessions * 1e6}},
        "process": {"postgres": {"cpu_us": 3e7}},
    }
    return usual, during(tables=now, tasks=3.5, in_flight=sessions, load=load(3.5, **server(calls)))


def test_n_plus_one_while_all_its_requests_run() -> None:
    """Nobody has told how often it asked, for no request has ended: the database knows how often it ran.

    Where it does not tell, there is no label. The request that came first, and was there longest, is one of many.
    """
    usual, spike = running_lists(calls=400)
    report = explained(spike, usual)
    assert first(report)[2] == "n+1"
    assert ("endpoint", "GET /list") in {(s.dimension, s.value) for s in report.causes[0].story}
    assert report.causes[0].factors["q"].after > 20
    usual, spike = running_lists(calls=0.2)
    report = explained(spike, usual)
    assert first(report) == ("statement", "SELECT * FROM price WHERE id = ?", "regression")
    assert report.causes[0].factors["q"].after < 2
    usual, spike = running_lists(calls=None)
    assert first(explained(spike, usual))[2] == "unclear"


def beside_php(in_flight: float, *, told: bool = True) -> tuple[list[Frame], list[Frame]]:
    """Sessions that run a report, beside a shop that goes on; `told`: PHP says what it asks for."""
    asked = {"SELECT cart": use(40, 0.0, executions=40, sql_us=2e5) | {"cpu_us": 2e5}} if told else {}
    usual = {
        "endpoint": SHOP | {"GET /cart": use(40, 0.03, sql_us=5e3)},
        "statement": asked or {"SELECT cart": {"cpu_us": 2e5}},
        "process": {"postgres": {"cpu_us": 2e5}},
    }
    busy = usual | {
        "statement": usual["statement"] | {"SELECT report": {"cpu_us": 3e7}},
        "process": {"postgres": {"cpu_us": 3.02e7}},
    }
    return (
        before(tables=usual, tasks=0.5, in_flight=0.5, load=load(0.5)),
        during(tables=busy, tasks=3.5, in_flight=in_flight, load=load(3.5)),
    )


def test_a_statement_that_no_request_asked_for() -> None:
    """Sessions ran it for longer than all requests that may have asked for it were there: it is not PHP's.

    Where they were there for long enough, or nobody tells what PHP asks for, that is not said.
    """
    usual, spike = beside_php(0.4)
    report = explained(spike, usual)
    assert first(report) == ("statement", "SELECT report", "not php")
    assert "no PHP request asked for it" in report.verdict
    usual, spike = beside_php(2.0)
    assert first(explained(spike, usual)) == ("statement", "SELECT report", "unclear")
    usual, spike = beside_php(0.4, told=False)
    assert first(explained(spike, usual)) == ("statement", "SELECT report", "unclear")


def test_cache_stampede() -> None:
    """The same statement all at once on many endpoints: the statement, a stampede."""
    rebuild = "SELECT * FROM menu"
    names = ["GET /", "GET /search", "GET /cart"]

    def tables(n: float) -> dict[str, Any]:
        statement = use(3 * n, 0.0, wall=0.2, executions=3 * n, sql_us=3 * n * 2e5, blocked_s=0.0)
        return {
            "endpoint": SHOP,
            "statement": {rebuild: {**statement, "cpu_us": 3 * n * 2e5}},
            "process": {"postgres": {"cpu_us": 3 * n * 2e5}},
        }

    links = lambda n: [("endpoint", name, "statement", rebuild, n, n, n * 0.2) for name in names]  # noqa: E731
    usual = before(tables=tables(0.1), tasks=0.5, links=links(0.1), load=load(0.42))
    report = explained(during(3, tables=tables(50), tasks=3.5, links=links(50), load=load(3.4)), usual)
    assert first(report) == ("statement", rebuild, "stampede")


def test_knee() -> None:
    """A small intruder on a busy host: the intruder, though all others queue far more than it."""
    busy = busier(8.5)
    usual = before(tables={"endpoint": busy, "process": {"cron": use(0, 0)}}, tasks=4.2, load=load(3.6))
    choked = {name: {**c, "queue_us": 12 * c["cpu_us"], "wall_us": 13 * c["wall_us"]} for name, c in busy.items()}
    spike = during(
        tables={"endpoint": choked, "process": {"python3": {"cpu_us": 4e6, "queue_us": 2e6}}},
        tasks=45.0,
        load=load(4.0),
    )
    report = explained(spike, usual)
    assert first(report) == ("process", "python3", "not php")


def test_database_on_the_same_host() -> None:
    """mysqld, whose sessions nobody looks at: followed to the statement that PHP waited longer for."""
    slow, other = "SELECT * FROM log WHERE text LIKE ?", "SELECT * FROM user WHERE id = ?"

    def tables(ms: float, cpu: float) -> dict[str, Any]:
        return {
            "endpoint": SHOP,
            "statement": {
                slow: use(20, 0.0, wall=ms / 1000, executions=20, sql_us=20_000 * ms),
                other: use(300, 0.0, wall=0.002, executions=300, sql_us=6e5),
            },
            "process": {"mysqld": {"cpu_us": cpu * 1e7}},
        }

    links = [("endpoint", "GET /search", "statement", slow, 20, 20, 1.0)]
    usual = before(tables=tables(5, 0.05), tasks=0.5, links=links, load=load(0.5))
    report = explained(during(tables=tables(1700, 3.0), tasks=3.5, links=links, load=load(3.5)), usual)
    assert first(report) == ("statement", slow, "regression")


def test_pool_saturated() -> None:
    """All workers are busy with requests that sleep: the pool, and what fills it."""
    pool = lambda busy, queue: [{"name": "www", "busy": busy, "max": 40, "listen_queue": queue}]  # noqa: E731
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, in_flight=1.0, load=load(0.42, pools=pool(2, 0)))
    full = {"endpoint": SHOP | {"GET /poll": use(10, 0.001, wall=30.0, waiting_s=380.0)}}
    report = explained(during(tables=full, tasks=0.4, in_flight=40.0, load=load(0.42, pools=pool(40, 25))), usual)
    assert first(report) == ("pool", "www", "pool")
    assert ("endpoint", "GET /poll") in {(s.dimension, s.value) for s in report.causes[0].story}
    assert report.kind == "waiting"
    # On a UNIX socket php-fpm cannot tell the queue: none free in all windows is full, in one of three is not.
    unix = load(0.42, pools=pool(40, 0))
    report = explained(during(tables=full, tasks=0.4, in_flight=40.0, load=unix), usual)
    assert first(report) == ("pool", "www", "pool")
    moment = during(3, tables=full, tasks=0.4, in_flight=40.0, load=unix)
    rest = during(tables=full, tasks=0.4, in_flight=40.0, load=load(0.42, pools=pool(39, 0)))[3:]
    assert first(explained([*moment, *rest], usual))[0] != "pool"


def test_two_at_once() -> None:
    """Two things happen together: both are told."""
    usual = before(tables={"endpoint": SHOP, "process": {"nginx": use(0, 0)}}, tasks=0.4, load=load(0.42))
    both = {"endpoint": SHOP | {"GET /search": use(900, 0.02)}, "process": {"gzip": {"cpu_us": 1.5e7}}}
    report = explained(during(tables=both, tasks=4.0, load=load(3.6)), usual)
    assert {(c.dimension, c.value) for c in report.causes} == {("endpoint", "GET /search"), ("process", "gzip")}
    assert "; also " in report.verdict


def test_quiet() -> None:
    """Two equal windows: nothing rose, and nobody is blamed."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, in_flight=0.5, load=load(0.42))
    report = explained(during(tables={"endpoint": SHOP}, tasks=0.45, in_flight=0.5, load=load(0.42)), usual)
    assert (report.kind, report.causes, report.unexplained) == ("none", [], 0.0)
    assert report.verdict.startswith("Nothing rose")


def test_cpu_that_a_hypervisor_took() -> None:
    """Tasks pile up though nobody runs more: the machine has less to give."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42))
    robbed = load(0.42, running=6.0)
    robbed["cpu"] = {**robbed["cpu"], "steal_s": 30.0}
    report = explained(during(tables={"endpoint": queueing(12, SHOP)}, tasks=6.0, load=robbed), usual)
    assert first(report) == ("host", "CPU time taken by the hypervisor", "not php")


def test_cpu_that_other_containers_took() -> None:
    """CPU time that belongs to no process seen is named as that, with its part of the rise; so is a queue behind it."""
    seen = {"endpoint": SHOP, "process": {"nginx": use(1, 0.01)}}
    usual = before(tables=seen, tasks=0.4, load=load(0.45))
    risen = explained(during(tables=seen | {"endpoint": queueing(3, SHOP)}, tasks=6.0, load=load(3.5)), usual)
    assert first(risen) == ("host", UNSEEN, "not php")
    assert risen.causes[0].share > 0.9
    assert UNSEEN in risen.verdict
    # They had the CPUs before, too: now more of us queue behind them.
    full = before(tables=seen, tasks=0.8, load=load(4.0))
    crowd = seen | {"endpoint": queueing(12, SHOP)}
    queued = explained(during(tables=crowd, tasks=8.0, load=load(4.0, running=8.0)), full)
    assert first(queued) == ("host", UNSEEN, "not php")
    nobody = {"endpoint": SHOP}
    blind = explained(
        during(tables=nobody, tasks=6.0, load=load(3.5)), before(tables=nobody, tasks=0.4, load=load(0.45))
    )
    assert all(cause.value != UNSEEN for cause in blind.causes), "nobody looked at processes: nothing is known of them"


def test_what_was_ruled_out_is_said_only_where_the_data_says_so() -> None:
    """No memory pressure measured: nothing said of it. Measured and none: ruled out."""
    usual = before(tables={"endpoint": SHOP}, tasks=0.4, load=load(0.42))
    spike = {"endpoint": SHOP | {"GET /search": use(50, 0.6)}}
    said = explained(during(tables=spike, tasks=4.0, load=load(3.4)), usual).ruled_out
    assert not any(line.startswith(("Memory", "A deploy", "Other processes", "The database")) for line in said)
    assert any(line.startswith("Traffic") for line in said)
    measured = load(3.4, psi={"memory": {"some": 0.0, "full": 0.0}})
    told = explained(
        during(
            tables=spike | {"process": {"nginx": use(1, 0.01)}, "release": {"1": use(1, 1)}}, tasks=4.0, load=measured
        ),
        before(tables={"endpoint": SHOP, "release": {"1": use(1, 1)}}, tasks=0.4, load=load(0.42)),
    ).ruled_out
    assert [line.split(":")[0] for line in told] == ["Memory pressure", "A deploy", "Other processes", "Traffic"]
