"""That nobody has to know an address: every page is linked, near the first one."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from bitville_apm import limits
from bitville_apm.web.pages import Pages
from tests.web.html import Elements
from tests.web.made import NOW, end_record, top_row
from tests.web.reports import kept_spike, loads
from tests.web.world import World

CLICKS = 2
"""How far from the first page a page may be; what it is for programs is a click further."""
UNLINKED = {"icon"}
"""What browsers ask for by themselves."""


def kind(address: str) -> tuple[str, str, str]:
    """What sort of page an address leads to: its route, the ending that says its format, and its dimension."""
    parts = urlsplit(address)
    route, _ = Pages.app.url_map.bind("").match(parts.path, method="GET")
    ending = next((ending for ending in (".json", ".md") if parts.path.endswith(ending)), "")
    dimension = parse_qs(parts.query).get("dimension", [""])[0] if route == "top" else ""
    return route, ending, dimension


def crawled(w: World, session: str, clicks: int) -> dict[tuple[str, str, str], int]:
    """Every sort of page that links lead to, and after how many clicks at the least; one of each is opened."""
    found, now = {kind("/"): 0}, ["/"]
    for click in range(1, clicks + 1):
        ahead = []
        for address in now:
            answer = w.ask(address, session=session)
            assert answer.status == 200, address
            if not (answer.header("content-type") or "").startswith("text/html"):
                continue
            for link in Elements(answer.text).all("a"):
                href = link["href"] or ""
                if href.startswith("/") and kind(href) not in found:
                    found[kind(href)] = click
                    ahead.append(href)
        now = ahead
    return found


def test_every_page_is_linked() -> None:
    """QUERY-01: from the first page each page is two clicks away at most, also each dimension's; and each page links to
    what it is for programs and tickets. None of these links is broken.
    """
    w = World()
    w.store.add("shop", end_record())
    w.store.loads += loads(NOW - 3600, 3600)
    w.store.risen.append(kept_spike(onset=NOW - 600))
    for dimension in limits.DIMENSION_CAPS:
        w.store.tops[dimension] = [top_row("11111111-1111-4111-8111-111111111111")]
    found = crawled(w, w.session(), CLICKS + 1)
    pages = {rule.endpoint for rule in Pages.app.url_map.iter_rules() if "GET" in (rule.methods or ())} - UNLINKED
    assert {route for route, _, _ in found} == pages
    assert {dimension for route, _, dimension in found if route == "top"} == set(limits.DIMENSION_CAPS)
    far = {page: clicks for page, clicks in found.items() if clicks > CLICKS + (page[1] != "" or "json" in page[0])}
    assert far == {}
    endings = {"one": [".json"], "spike": [".json", ".md"], "explain_text": [".json", ".md"]}
    for route, wanted in endings.items():
        assert sorted(ending for name, ending, _ in found if name == route and ending) == wanted


def test_the_head_leads_to_what_can_be_a_cause() -> None:
    """QUERY-01: who can be the cause of load has a place in the head of every page: processes and waits too."""
    w = World()
    page = w.ask("/spikes", session=w.session()).text
    head = Elements(page[: page.index("<main")])
    linked = {kind(link["href"] or "") for link in head.all("a") if (link["href"] or "").startswith("/")}
    assert {dimension for _, _, dimension in linked} >= {"endpoint", "function", "statement", "process", "wait"}
