"""What a person does first: log in, see the slowest request, open it, read why."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from bitville_apm.collector import auth
from bitville_apm.store.sqlite import Main
from tests.browser.conftest import Visitor
from tests.browser.records import EVIL, EVIL_SPIKE, MARKUP, SLOW, SPIKE
from tests.collector.rig import Rig

WITHOUT_SCRIPTS = {"java_script_enabled": False}
PAGES = (
    "/",
    "/?sort=time&last=24h",
    "/top",
    "/top?dimension=function",
    "/top?dimension=statement&last=7d",
    f"/requests/{SLOW}",
    f"/requests/{SLOW}?flame=0.0",
    "/trend?dimension=function&name=Shop%5CBrand::load",
    "/spikes",
    f"/spikes/{SPIKE}",
    "/explain",
    "/regressions",
)


def test_logging_in(browser: Any, collector: Rig, state: Any) -> None:
    """LIST-09: the printed link logs in once, by its button; the cookie is out of reach for scripts."""
    assert collector.log.count("/login/") >= 1
    (cookie,) = state["cookies"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    context = browser.new_context()
    page = context.new_page()
    page.goto(collector.url + "/top")
    assert page.url == collector.url + "/login"
    assert "bitville user link admin" in page.inner_text("main")
    page.goto((collector.data / "login.url").read_text().strip())
    page.get_by_role("button", name="Log in").click()
    assert "no longer works" in page.inner_text("h1")
    context.close()


@pytest.mark.parametrize("visitor", [{}, WITHOUT_SCRIPTS], indirect=True, ids=["scripts", "no-scripts"])
def test_from_the_slowest_request_to_its_cause(visitor: Visitor) -> None:
    """QUERY-01, PHP-03, PHP-06: the slow page is on top; it names its slow function and statement; also without JS."""
    visitor.open("/?project=shop")
    page = visitor.page
    first = page.locator("table.requests tbody tr").first
    assert "GET /list/{}" in first.inner_text()
    assert "4.81" in first.inner_text()
    assert (
        page.locator("section.panel", has_text="Where the time went")
        .locator("tbody tr")
        .first.inner_text()
        .startswith("GET /list/{}")
    )
    first.get_by_role("link").click()
    assert page.url == f"{visitor.url}/requests/{SLOW}"
    function, statement = (page.locator("section.panel", has_text=name) for name in ("Inclusive", "executed"))
    assert function.locator("tbody tr").first.inner_text().startswith("Shop\\Brand::load")
    assert "3.70" in function.locator("tbody tr").first.inner_text()
    assert "pg_sleep" in statement.locator("tbody tr").first.inner_text()
    assert "repeated 120" in statement.locator("tbody tr").first.inner_text()
    page.get_by_role("link", name="Functions").click()
    assert "Shop\\Brand::load" in page.locator("tbody tr").first.inner_text()


@pytest.mark.parametrize("visitor", [{}, WITHOUT_SCRIPTS], indirect=True, ids=["scripts", "no-scripts"])
def test_from_the_first_page_to_what_got_dearer(visitor: Visitor) -> None:
    """ADV-02: from the first page it is one click to the slow drifts, and one more to the course of each; also without
    JS, and markup in a name is text.
    """
    visitor.open("/")
    page = visitor.page
    page.get_by_role("link", name="slow drifts").click()
    rows = page.locator("table.drifts tbody tr")
    assert [("2.04" in row, "blog" in row) for row in rows.all_inner_texts()] == [(True, False), (True, True)]
    assert rows.last.inner_text().startswith(MARKUP)
    rows.first.get_by_role("link", name="GET /list/{}").click()
    assert "/trend?" in page.url
    assert page.get_by_role("heading", level=1).inner_text() == "Endpoint over time"


@pytest.mark.parametrize("path", [*PAGES, f"/requests/{EVIL}", f"/spikes/{EVIL_SPIKE}", "/?project=blog"])
def test_nothing_foreign_and_nothing_broken(visitor: Visitor, path: str) -> None:
    """Row 27, design 7: no page makes a console message, breaks the policy or asks anybody else; markup is text."""
    answer = visitor.open(path)
    assert answer.status == 200
    page = visitor.page
    assert page.evaluate("window.hacked") is None
    odd = "main script, main [onerror], main [onload], main [style]:not(.uplot, .uplot *)"
    assert page.locator(odd).count() == 0
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    if EVIL in path or EVIL_SPIKE in path:
        assert page.inner_text("main").count("<script>window.hacked=1</script>") >= 10


@pytest.mark.parametrize("visitor", [{"viewport": {"width": 400, "height": 800}}], indirect=True)
def test_a_narrow_window(visitor: Visitor) -> None:
    """QUERY-01: on a telephone a page does not scroll sideways; its tables do by themselves."""
    for path in PAGES:
        visitor.open(path)
        assert visitor.page.evaluate("document.documentElement.scrollWidth") == 400, path


def test_times_in_the_readers_zone(visitor: Visitor) -> None:
    """QUERY-01: times are the reader's on screen and UTC in the address, also those typed into the search."""
    visitor.open("/?from=2026-01-31T12:00:00Z&to=2026-01-31T13:00:00Z&project=shop")
    page = visitor.page
    assert page.inner_text("#zone") in ("Asia/Kolkata", "Asia/Calcutta")
    assert page.locator("input[name=from]").input_value() in ("2026-01-31T17:30", "2026-01-31T17:30:00")
    assert "2026-01-31 17:30:00" in page.inner_text("main")
    page.locator("input[name=to]").fill("2026-01-31T19:00")
    page.get_by_role("button", name="Search").click()
    assert page.url == f"{visitor.url}/?project=shop&from=2026-01-31T12%3A00%3A00Z&to=2026-01-31T13%3A30%3A00Z"


def test_searching_and_paging(visitor: Visitor) -> None:
    """QUERY-02: a search is in the address; the next page continues it without a gap or a double."""
    visitor.open("/?project=shop")
    page = visitor.page
    page.get_by_label("URL contains").fill("/product/")
    page.get_by_label("At least, ms").fill("21")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("url=%2Fproduct%2F"))
    seen = page.locator("table.requests .name a").evaluate_all("links => links.map(link => link.href)")
    assert len(seen) == 50
    page.get_by_role("link", name="Next page").click()
    rest = page.locator("table.requests .name a").evaluate_all("links => links.map(link => link.href)")
    assert len(set(seen + rest)) == len(seen) + len(rest) == 59
    page.get_by_role("link", name="Clear").click()
    assert "url=" not in page.url
    assert "duration_min=" not in page.url
    assert "project=shop" in page.url


def test_the_keyboard_alone(visitor: Visitor) -> None:
    """QUERY-01: everything can be reached and used without a mouse."""
    visitor.open("/")
    page = visitor.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"\?project=blog$"))


def test_logging_out(browser: Any, collector: Rig) -> None:
    """LIST-09: after logging out the cookie is worth nothing, also where somebody kept a copy of it."""
    token, hashed = auth.new_link()
    main = Main.open(collector.data)
    main.add_link(hashed, "admin", time.time() + 60)
    main.close()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{collector.url}/login/{token}")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(collector.url + "/")
    copy = context.storage_state()
    page.get_by_role("button", name="Log out").click()
    assert page.url == collector.url + "/login"
    context.close()
    again = browser.new_context(storage_state=copy)
    page = again.new_page()
    page.goto(collector.url + "/")
    assert page.url == collector.url + "/login"
    again.close()
