"""The pages: what they show, and that nothing a record holds becomes part of them."""

from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from twisted.internet.defer import Deferred, fail

from bitville_apm import limits
from bitville_apm.store.interface import TooSlow
from tests.web.world import NOW, Memory, World, end_record, top_row

ID = end_record()["id"]
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}&lt;javascript:alert(3)\u202e\x00"


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def world() -> World:
    made = World()
    made.store.add("shop", end_record())
    made.store.add("shop", end_record(id="b", ms=80.0, request={"method": "GET", "uri": "/cart"}, profile=None))
    made.store.tops["endpoint"] = [top_row("GET /list/{}"), top_row("GET /cart", wall_ms=80.0)]
    made.store.tops["function"] = [top_row("Shop\\Brand::load", p50_ms=None, p95_ms=None, p99_ms=None)]
    return made


def shown(text: str) -> str:
    """A page as it is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).replace("\u202f", " ")


def test_the_slowest_request_is_on_top() -> None:
    """QUERY-01: the first page has the slowest request first, with its times, and leads to it."""
    w = world()
    page = w.ask("/", session=w.session())
    body = page.text[page.text.index("</thead>", page.text.index("Requests found")) :]
    assert body.index("2.31") < body.index("80.0")
    assert f'href="/requests/{ID}"' in body
    text = shown(body)
    assert "GET /list/shoes?page=2" in text
    assert "43" in text
    assert "1.60 s" in text
    assert "310 ms" in text
    assert "40.0 MB" in text


def test_php_outside_of_requests_has_words() -> None:
    """QUERY-01: what PHP ran in no request is an endpoint that nobody can search for; it is said in words."""
    w = World()
    w.store.tops["endpoint"] = [top_row("~php"), top_row("~other")]
    page = w.ask("/top?dimension=endpoint", session=w.session()).text
    assert "PHP outside of requests" in page
    assert "all others together" in page
    assert "endpoint=~php" not in page.replace("%7E", "~")


def test_where_the_time_went() -> None:
    """QUERY-01: above the requests stand the endpoints that took the most time; each leads to its requests."""
    w = world()
    page = w.ask("/", session=w.session()).text
    assert page.index("Where the time went") < page.index("Requests found")
    assert 'href="/?endpoint=GET+%2Flist%2F%7B%7D"' in page
    assert "Where the time went" not in w.ask("/?url=cart", session=w.session()).text


def test_one_request_names_its_slow_function_and_statement() -> None:
    """PHP-03, PHP-06: a request's page has its functions by self time, its statements, and marks a repeated one."""
    w = world()
    page = w.ask(f"/requests/{ID}", session=w.session()).text
    text = shown(page)
    assert text.index("Shop\\Brand::load") < text.index("Shop\\Listing::show")
    assert "1.90 s" in text
    assert text.index("SELECT name FROM brand") < text.index("SELECT * FROM product")
    assert "repeated 42\u00d7" in text
    assert "longest" in text
    assert "pgsql shop@db1:5432/shop" in text
    assert "stock.example" in text
    assert "items[0][id]" in text
    assert "customer" in text
    assert f"/requests/{ID}.json" in page


def test_a_fatal_error_is_told_first() -> None:
    """PHP-11: the error that ended a request stands above its numbers, with its place."""
    w = World()
    fatal = {"type": 1, "message": "Allowed memory size exhausted", "file": "/srv/shop/Cart.php", "line": 7}
    w.store.add("shop", end_record(fatal=fatal))
    text = shown(w.ask(f"/requests/{ID}", session=w.session()).text)
    assert text.index("Allowed memory size exhausted") < text.index("/srv/shop/Cart.php:7") < text.index("Duration")


def test_noise_is_left_out_and_counted() -> None:
    """PHP-03: functions under 1 ms and beyond 100 are not shown, the page says how many; the JSON has them all."""
    w = World()
    edges = {"main()": {"ct": 1, "wt": 900_000}}
    edges |= {f"main()==>f{i}": {"ct": 1, "wt": 2000 if i < 150 else 10} for i in range(300)}
    w.store.add("shop", end_record(profile={"kind": "xhprof", "edges": edges}))
    text = shown(w.ask(f"/requests/{ID}", session=w.session()).text)
    assert "100 of 301, by self time" in text
    assert len(w.ask(f"/api/requests/{ID}", session=w.session()).json()["functions"]) == 301


def test_tops() -> None:
    """QUERY-01: the heaviest functions, with what a profiler cannot know left open rather than zero."""
    w = world()
    text = shown(w.ask("/top?dimension=function", session=w.session()).text)
    assert "Shop\\Brand::load" in text
    assert "Self time" in text
    assert "p95" not in text
    assert "p95" in shown(w.ask("/top?dimension=endpoint", session=w.session()).text)
    assert "whole hours" in shown(w.ask("/top?dimension=function&last=24h", session=w.session()).text)


@pytest.mark.parametrize("dimension", limits.DIMENSION_CAPS)
def test_every_dimension_has_a_page(dimension: str) -> None:
    """QUERY-01: each dimension of wire.md 6 can be looked at, empty or not, whatever its values are called."""
    w = World()
    assert "Nothing was counted" in w.ask(f"/top?dimension={dimension}", session=w.session()).text
    w.store.tops[dimension] = [top_row(HOSTILE), top_row("~other")]
    page = w.ask(f"/top?dimension={dimension}", session=w.session())
    assert page.status == 200
    assert_harmless(page.text)


def test_an_empty_installation_says_what_to_do() -> None:
    """CFG-02: before the first record the page says how to send one; a search without matches says that instead."""
    w = World()
    assert "bitville php install" in w.ask("/", session=w.session()).text
    found = world()
    found.store.kept.clear()
    text = found.ask("/?url=nothing", session=found.session()).text
    assert "No request matches" in text
    assert "bitville php install" not in text


def hostile_records() -> list[dict[str, Any]]:
    hostile = {HOSTILE: HOSTILE, "list": [{HOSTILE: [HOSTILE]}]}
    return [
        end_record(
            id=HOSTILE + str(i),
            request={
                "method": HOSTILE, "uri": HOSTILE, "route": route, "query": hostile, "headers": hostile,
                "post": hostile, "files": hostile,
            },
            response={"status": 500, "headers": hostile},
            sql={
                "n": 1, "ms": 5.0, "queries": [{"sql": f'SELECT "{HOSTILE}" -- {HOSTILE}', "ms": 5.0, "c": 0}],
                "connections": [{"driver": "pgsql", "host": HOSTILE, "database": HOSTILE, "user": HOSTILE}],
            },
            calls=[{"kind": "http", "target": HOSTILE, "ms": 1.0}],
            profile=profile, fatal={"type": HOSTILE, "message": HOSTILE, "file": HOSTILE, "line": 1},
            context=hostile, release=HOSTILE, client=HOSTILE, agent=HOSTILE, server={"hostname": HOSTILE},
            trace=hostile, host=HOSTILE,
        )
        for i, (route, profile) in enumerate(
            [
                (HOSTILE, {"kind": "xhprof", "edges": {HOSTILE: {"ct": 1, "wt": 9000}}}),
                (None, {"kind": "excimer", "period_us": 10_000, "stacks": f"{HOSTILE};{HOSTILE} 12\n"}),
            ]
        )
    ]  # fmt: skip


def assert_harmless(text: str) -> None:
    """No element, attribute or address in a page that its templates do not have."""
    page = Elements(text)
    scripts = [s.get("src") or "" for s in page.all("script")]
    assert len(scripts) in (1, 3)  # ours, and on pages with charts uPlot and what calls it
    assert all(src.startswith("/static/") for src in scripts)
    assert all((i.get("src") or "").startswith("/static/") for i in page.all("img"))
    for tag, attributes in page.found:
        assert re.fullmatch(r"[a-z][a-z0-9]*", tag), tag
        assert not {"style", "srcdoc", "onerror"} & set(attributes)
        assert all(re.fullmatch(r"[a-z-]+", name) and not name.startswith("on") for name in attributes), attributes
        for name in ("href", "action", "src"):
            address = urlsplit(attributes.get(name) or "")
            assert (address.scheme, address.netloc) == ("", ""), attributes
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_hostile_text_in_every_field() -> None:
    """PHP-09 and design 7: whatever text a record holds anywhere, a page shows it as text and as nothing else."""
    w = World()
    for record in hostile_records():
        w.store.add(HOSTILE, record)
        w.store.add("second" + HOSTILE, {**record, "id": record["id"] + "2"})
    session = w.session("<b>eve</b>" + HOSTILE)
    pages = ["/", *(f"/requests/{kept.found.id}" for kept in w.store.kept)]
    for path in pages:
        page = w.ask(path, session=session)
        assert page.status == 200, path
        assert "alert(1)" in page.text
        assert_harmless(page.text)


@pytest.mark.parametrize("name", ["url", "endpoint", "release", "host", "project", "correlation_id", "after"])
def test_hostile_text_in_every_parameter(name: str) -> None:
    """Design 7: what an address holds is shown as text, on a page of results or of an error."""
    w = world()
    assert_harmless(w.ask(f"/?{name}={quote(HOSTILE)}", session=w.session()).text)
    assert_harmless(w.ask(f"/?{quote(HOSTILE)}=1", session=w.session()).text)
    assert_harmless(w.ask(f"/{quote(HOSTILE)}", session=w.session()).text)
    assert_harmless(w.ask(f"/login/{quote(HOSTILE, safe='')}").text)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/?status=abc", 400, "status"), ("/?colour=red", 400, "colour"),
        ("/?timestamp_start=5", 400, "timestamp_start"), ("/?source=php_agent", 400, "source"),
        ("/top?dimension=colour", 400, "dimension"), ("/?last=2y", 400, "last"), ("/?from=5&to=4", 400, "to"),
        ("/?after=nonsense", 400, "after"), ("/nothing/here", 404, "/nothing/here"),
        ("/requests/unknown", 404, "unknown"), (f"/requests/{ID}?x=1", 400, "x"),
    ],
)  # fmt: skip
def test_errors_are_pages(path: str, status: int, said: str) -> None:
    """LIST-04, QUERY-02: a wrong parameter or address is a page that names it, with its status."""
    w = world()
    page = w.ask(path, session=w.session())
    assert page.status == status
    assert said in shown(page.text)
    assert page.text.startswith("<!DOCTYPE html>")


def test_pages_for_programs() -> None:
    """QUERY-01: every page is also JSON, with the same data, and says where."""
    w = world()
    session = w.session()
    for path in ("/", "/?sort=time&url=a", "/top?dimension=function", f"/requests/{ID}"):
        page = Elements(w.ask(path, session=session).text)
        (address,) = [a["href"] for a in page.all("a") if a.get("rel") == "alternate"]
        assert w.ask(address or "", session=session).status == 200
    assert next(i["id"] for i in w.ask("/index.json", session=session).json()["items"]) == ID


def test_the_next_page_is_fixed_in_time() -> None:
    """QUERY-02: a cursor continues the same search, though "the last hour" has moved on since."""
    w = World()
    for i in range(3):
        w.store.add("shop", end_record(id=str(i), ms=1000.0 - i))
    page = Elements(w.ask("/?limit=2&url=a", session=w.session()).text)
    (following,) = [a["href"] for a in page.all("a") if a.get("rel") == "next"]
    first = next(a[2] for a in reversed(w.store.asked) if a[0] == "search")
    w.clock.advance(500)
    second = w.ask(following or "", session=w.session())
    assert second.status == 200
    search = next(a[2] for a in reversed(w.store.asked) if a[0] == "search")
    assert (search.timestamp_start, search.timestamp_end, search.after, search.limit, search.url) == (
        first.timestamp_start, NOW, "2", 2, "a"
    )  # fmt: skip


def test_static_files_may_be_kept_for_ever() -> None:
    """Design 7: style, script and icon come from us, under an address that changes with them; nothing else does."""
    w = World()
    page = Elements(w.ask("/login").text)
    addresses = [a.get("href") or a.get("src") or "" for tag in ("link", "script", "img") for a in page.all(tag)]
    assert len(set(addresses)) == 3
    for address in addresses:
        answer = w.ask(address)
        assert answer.status == 200
        assert answer.header("cache-control") == "public, max-age=31536000, immutable"
    assert w.ask("/static/../pages.py").status == 404
    assert w.ask("/static/bitville.css").status == 404


def test_links_keep_project_and_range() -> None:
    """QUERY-01: project and range travel with every link of the navigation."""
    w = world()
    w.store.add("blog", end_record(id="b"))
    page = w.ask("/?project=shop&last=6h", session=w.session()).text
    assert 'href="/top?project=shop&amp;last=6h&amp;dimension=function"' in page
    assert 'href="/?project=blog&amp;last=6h"' in page


@pytest.mark.parametrize("dimension", ["endpoint", "function"])
def test_what_rows_are_ranked_by_comes_first(dimension: str) -> None:
    """QUERY-01: where anything has a load, that is the first number and the bar; else wall time is."""
    w = World()
    w.store.tops[dimension] = [
        top_row("waits little", running_s=3.0, blocked_s=1.0, wall_ms=5000.0),
        top_row("waits long", running_s=1.0, wall_ms=90_000.0),
    ]
    loaded = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert re.findall(r"<th[^>]*>([A-Z][^<]*)<", loaded)[1] == "Load"
    assert re.findall(r'<td class="num strong">([^<]+)<', loaded) == ["4.00\u202fs", "1.00\u202fs"]
    w.store.tops[dimension] = [top_row("waits long", running_s=0.0, wall_ms=90_000.0)]
    waited = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert ">Load<" not in waited
    assert re.findall(r'<td class="num strong">([^<]+)<', waited) == ["1\u202fm 30\u202fs"]


@pytest.mark.parametrize(
    ("dimension", "columns"),
    [
        ("process", ["Process", "Load", "CPU", "Waited for a CPU", "Blocked"]),
        ("wait", ["Database wait", "Session time", "Running", "Disk", "Waiting"]),
        ("blocker", ["Blocker", "Held up"]),
        ("external", ["External call", "Load", "Total time", "Calls", "Requests", "Mean", "Max", "CPU", "Errors"]),
    ],
)
def test_columns_that_a_dimension_has(dimension: str, columns: list[str]) -> None:
    """QUERY-01: what only looks know (processes, database waits, blockers) has no columns of requests; what waits the
    longest comes first, though it is no load.
    """
    w = World()
    w.store.tops[dimension] = [
        top_row("short", cpu_ms=910.0, queue_ms=0.0, waiting_s=0.0),
        top_row("long", cpu_ms=910.0, queue_ms=0.0, waiting_s=9.0),
    ]
    page = w.ask(f"/top?dimension={dimension}", session=w.session()).text
    assert re.findall(r"<th[^>]*>([^<]+)<", page) == columns
    waited = dimension in ("wait", "blocker")
    assert (page.index(">long<") < page.index(">short<")) == waited
    assert ("9.91" in page) == waited


class Waiting(Memory):
    """A store that answers nothing before it has been asked for everything that the first page shows."""

    def __attrs_post_init__(self) -> None:
        self.waiting: dict[str, tuple[Deferred[Any], Deferred[Any]]] = {}
        for name in ("search", "hosts", "top", "load", "spikes"):
            setattr(self, name, functools.partial(self._later, name, getattr(self, name)))

    def _later(self, name: str, question: Any, *given: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.waiting[name] = answer, question(*given)
        if len(self.waiting) == 5:
            for waited, known in self.waiting.values():
                known.chainDeferred(waited)
        return answer


def test_the_first_page_asks_for_all_at_once() -> None:
    """P16: questions do not wait for each other's answers: under load each wait for a thread is long."""
    w = World(store=Waiting())
    w.store.add("shop", end_record())
    page = w.ask("/", session=w.session())
    assert page.status == 200
    assert "2.31" in page.text


def test_one_answer_of_several_fails() -> None:
    """QUERY-02: whichever question takes too long, the page says so, and nothing of the others' is left over."""
    w = world()
    for name in ("search", "spikes", "load"):
        right = getattr(w.store, name)
        setattr(w.store, name, lambda *given, **named: fail(TooSlow()))
        answer = w.ask("/", session=w.session())
        assert answer.status == 503
        assert "ask for a shorter time" in answer.text
        setattr(w.store, name, right)
