"""What a person does at three in the morning: see the spike, open it, read who did it, look at another time."""

from __future__ import annotations

import re
import time
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Visitor
from tests.browser.records import MARKUP, SPIKE, WITHIN_SPIKE
from tests.browser.test_first_look import WITHOUT_SCRIPTS

BOTH = pytest.mark.parametrize("visitor", [{}, WITHOUT_SCRIPTS], indirect=True, ids=["scripts", "no-scripts"])


def asked_for(url: str) -> dict[str, str]:
    """An address's parameters."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def seconds(url: str) -> tuple[float, float]:
    """From when to when an address looks."""
    given = asked_for(url)
    start, end = (datetime.fromisoformat(given[name].replace("Z", "+00:00")).timestamp() for name in ("from", "to"))
    return start, end


@BOTH
def test_from_the_first_page_to_the_verdict(visitor: Visitor) -> None:
    """ADV-05, VIZ-04: the first page draws the load and names the newest spike; one click, and the cause is on the
    screen without scrolling. Scripts are not needed.
    """
    visitor.open("/?project=shop")
    page = visitor.page
    drawn = page.locator(
        "figure.chart canvas" if page.locator("figure.chart.drawn").count() else "figure.chart svg.plot"
    )
    assert drawn.count() == 2
    box = drawn.first.bounding_box()
    assert box["width"] > 1000
    assert box["height"] > 100
    page.locator("table.spikes").get_by_role("link", name="GET /search: 3 times").click()
    assert page.url == f"{visitor.url}/spikes/{SPIKE}"
    for locator in (page.get_by_role("heading", level=1), page.locator(".rise"), page.get_by_text("Worst", exact=True)):
        assert locator.bounding_box()["y"] < 500
    assert page.locator(".story .own").first.inner_text().split("\n")[-1].startswith("GET /search")


def drag(visitor: Visitor, start: float, end: float) -> None:
    """Mark a stretch of the upper chart, shares of its width."""
    box = visitor.page.locator(".u-over").first.bounding_box()
    y = box["y"] + box["height"] / 2
    visitor.page.mouse.move(box["x"] + start * box["width"], y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    visitor.page.mouse.up()


def test_marking_a_stretch_of_the_chart(visitor: Visitor) -> None:
    """QUERY-01: a stretch marked on the first page becomes its range, in the address; links widen it again."""
    visitor.open("/?project=shop&last=1h")
    drag(visitor, 0.25, 0.5)
    page = visitor.page
    page.wait_for_url(re.compile("from="))
    assert asked_for(page.url).keys() == {"project", "from", "to"}
    start, end = seconds(page.url)
    assert 880 < end - start < 920
    page.get_by_role("link", name="Wider").click()
    wider = seconds(page.url)
    assert wider[0] < start < end < wider[1]


def test_a_spike_in_the_chart_is_a_link(visitor: Visitor, told_at: float) -> None:
    """QUERY-01: a click on a marked spike opens it."""
    visitor.open("/?project=shop&last=1h")
    page = visitor.page
    box = page.locator(".u-over").first.bounding_box()
    ago = time.time() - (told_at + WITHIN_SPIKE)
    page.mouse.click(box["x"] + box["width"] * (1 - ago / 3600), box["y"] + 30)
    page.wait_for_url(re.compile("/spikes/"))
    assert page.url == f"{visitor.url}/spikes/{SPIKE}"


def test_values_under_the_pointer(visitor: Visitor) -> None:
    """QUERY-01: the legend says what each line is at under the pointer, in both charts at once."""
    visitor.open("/?project=shop&last=1h")
    page = visitor.page
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    assert "Running and blocked 2.50" in page.locator(".legend").first.inner_text()
    assert "Requests in flight 4.00" in page.locator(".legend").nth(1).inner_text()


def test_marking_within_a_spike(visitor: Visitor) -> None:
    """spikes.md: a stretch marked around a spike is explained by itself, in the same project."""
    visitor.open(f"/spikes/{SPIKE}")
    drag(visitor, 0.2, 0.4)
    page = visitor.page
    page.wait_for_url(re.compile("/explain"))
    assert asked_for(page.url)["project"] == "shop"
    start, end = seconds(page.url)
    assert 0 < end - start < 300


@BOTH
def test_explaining_by_the_keyboard(visitor: Visitor) -> None:
    """spikes.md, QUERY-01: any time can be explained from a form, with the keyboard alone and without scripts."""
    visitor.open("/explain?project=shop")
    page = visitor.page
    page.locator("select[name=host]").focus()
    for _ in range(40):
        if page.evaluate("document.activeElement.type") == "submit":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/explain\\?.*from=.*to="))
    assert page.locator("h1.sentence").count() == 1
    start, end = seconds(page.url)
    assert end - start == pytest.approx(600, abs=1)


def test_hosts_with_odd_names(visitor: Visitor) -> None:
    """Row 27: a host's name with markup is text in the table of hosts and in the address it leads to."""
    visitor.open("/")
    page = visitor.page
    page.locator("table.hosts").get_by_role("link", name=MARKUP).click()
    assert asked_for(page.url)["host"] == MARKUP
    assert page.evaluate("window.hacked") is None
    assert page.locator("select[name=host]").first.input_value() == MARKUP


@pytest.mark.parametrize("visitor", [{"color_scheme": "dark"}], indirect=True)
def test_charts_follow_the_readers_colours(visitor: Visitor) -> None:
    """QUERY-01: in the dark the charts are drawn anew in the dark's colours, also when it falls while they are open."""
    visitor.open("/?project=shop")
    page = visitor.page
    pixels = "() => document.querySelector('figure.chart canvas').toDataURL()"
    dark = page.evaluate(pixels)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"dark => ({pixels})() !== dark", arg=dark)
    assert page.locator("figure.chart canvas").count() == 2
