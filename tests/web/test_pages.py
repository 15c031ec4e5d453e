"""The pages: what they show, and that nothing a record holds becomes part of them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from bitville_apm.store.interface import TooSlow
from tests.web.html import Elements, shown
from tests.web.made import NOW, end_record
from tests.web.memory import Memory
from tests.web.world import World, shop

ID = end_record()["id"]


def test_the_slowest_request_is_on_top() -> None:
    """QUERY-01: the first page has the slowest request first, with its times, and leads to it."""
    w = shop()
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


def test_where_the_time_went() -> None:
    """QUERY-01: above the requests stand the endpoints that took the most time; each leads to its requests."""
    w = shop()
    page = w.ask("/", session=w.session()).text
    assert page.index("Where the time went") < page.index("Requests found")
    assert 'href="/?endpoint=GET+%2Flist%2F%7B%7D"' in page
    assert "Where the time went" not in w.ask("/?url=cart", session=w.session()).text


def test_one_request_names_its_slow_function_and_statement() -> None:
    """PHP-03, PHP-06: a request's page has its functions by self time, its statements, and marks a repeated one."""
    w = shop()
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


def test_an_empty_installation_says_what_to_do() -> None:
    """CFG-02: before the first record the page says how to send one; a search without matches says that instead."""
    w = World()
    assert "bitville php install" in w.ask("/", session=w.session()).text
    found = shop()
    found.store.kept.clear()
    text = found.ask("/?url=nothing", session=found.session()).text
    assert "No request matches" in text
    assert "bitville php install" not in text


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
    w = shop()
    page = w.ask(path, session=w.session())
    assert page.status == status
    assert said in shown(page.text)
    assert page.text.startswith("<!DOCTYPE html>")


def test_pages_for_programs() -> None:
    """QUERY-01: every page is also JSON, with the same data, and says where."""
    w = shop()
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
    w = shop()
    w.store.add("blog", end_record(id="b"))
    page = w.ask("/?project=shop&last=6h", session=w.session()).text
    assert 'href="/top?project=shop&amp;last=6h&amp;dimension=function"' in page
    assert 'href="/?project=blog&amp;last=6h"' in page


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
    w = shop()
    for name in ("search", "spikes", "load"):
        right = getattr(w.store, name)
        setattr(w.store, name, lambda *given, **named: fail(TooSlow()))
        answer = w.ask("/", session=w.session())
        assert answer.status == 503
        assert "ask for a shorter time" in answer.text
        setattr(w.store, name, right)
