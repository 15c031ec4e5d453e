"""Times: the reader's own on screen, UTC in addresses and where there are no scripts. India is half an hour off."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.browser.conftest import Visitor
from tests.browser.records import SLOW, SPIKE
from tests.browser.test_first_look import PAGES, WITHOUT_SCRIPTS

INDIA = timezone(timedelta(hours=5, minutes=30))
BERLIN = pytest.mark.parametrize("visitor", [{"timezone_id": "Europe/Berlin"}], indirect=True)

TIMES = "all => all.map(one => [one.dateTime, one.textContent, one.title])"
LEFT = """() => {
  const left = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const around = node.parentElement;
    if (around.closest("time") || !/\\d\\d:\\d\\d|\\bUTC\\b/.test(node.textContent)) continue;
    if (around.checkVisibility()) left.push(node.textContent);
  }
  return left;
}"""
"""Texts on screen that have a time and are no time's own; without those that are folded away."""
LABELS = """
window.labels = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.labels.push(text);
  return fillText.call(this, text, ...place);
};
"""


def read(stamp: str) -> datetime:
    """The moment of a `datetime` attribute, or of a parameter."""
    assert stamp.endswith("Z")
    return datetime.fromisoformat(stamp.replace("Z", "+00:00"))


def opened(visitor: Visitor) -> None:
    """Unfold everything, so that it is on screen."""
    visitor.page.evaluate("document.querySelectorAll('details:not(.menu)').forEach(fold => { fold.open = true; })")


def ends(page: Any) -> tuple[str, str]:
    """What the fields of a form for times show."""
    first, last = (page.locator(f"input[name={name}]").first.input_value() for name in ("from", "to"))
    return first, last


@pytest.mark.parametrize("path", PAGES)
def test_every_time_is_the_readers(visitor: Visitor, path: str) -> None:
    """QUERY-01: each time of each page is in the reader's zone, has UTC in its title, and no other text has a time;
    the zone is said once.
    """
    visitor.open(path)
    opened(visitor)
    page = visitor.page
    for stamp, text, title in page.locator("time").evaluate_all(TIMES):
        assert title == f"{read(stamp):%Y-%m-%d %H:%M:%S} UTC"
        here = read(stamp).astimezone(INDIA)
        assert text.partition(" (")[0] in (f"{here:%H:%M:%S}", f"{here:%Y-%m-%d %H:%M:%S}")
    assert page.evaluate(LEFT) == []
    said = page.inner_text("footer")
    assert len(re.findall(r"Times are in Asia/(?:Kolkata|Calcutta)\.", said)) == 1


@pytest.mark.parametrize("visitor", [WITHOUT_SCRIPTS], indirect=True, ids=["no-scripts"])
@pytest.mark.parametrize("path", ["/?last=24h", f"/requests/{SLOW}", f"/spikes/{SPIKE}", "/explain"])
def test_without_scripts_times_are_utc_and_say_so(visitor: Visitor, path: str) -> None:
    """QUERY-01: without scripts each time is in UTC and says so, by itself or at the foot; fields are labelled."""
    visitor.open(path)
    page = visitor.page
    for time in page.locator("time").all():
        at = read(time.get_attribute("datetime"))
        assert time.text_content() in (f"{at:%H:%M:%S}", f"{at:%Y-%m-%d %H:%M:%S} UTC")
    assert "Times are in UTC." in page.inner_text("footer")
    fields = page.locator("input[type=datetime-local]").count()
    assert page.locator("label", has_text="UTC").count() == fields
    if path == "/explain":
        start = read(f"{ends(page)[0]}Z")
        page.get_by_role("button", name="Explain").click()
        assert f"from={start:%Y-%m-%dT%H}" in page.url


def test_charts_are_in_the_readers_time(visitor: Visitor, told_at: float) -> None:
    """QUERY-01: a chart's axis and what it says under the pointer are in the reader's time."""
    visitor.page.add_init_script(LABELS)
    start = datetime.fromtimestamp(told_at - 3000, INDIA)
    visitor.open(f"/?project=shop&from={told_at - 3000:.0f}&to={told_at - 600:.0f}")
    page = visitor.page
    minutes = {f"{start + timedelta(minutes=n):%H:%M}" for n in range(42)}
    named = {label for label in page.evaluate("window.labels") if ":" in label}
    assert len(named) >= 2
    assert named <= minutes
    box = page.locator(".u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30)
    (said,) = [text for text in page.locator(".legend .when").all_inner_texts() if text]
    middle = datetime.strptime(said, "%Y-%m-%d %H:%M:%S").replace(tzinfo=INDIA)
    assert abs((middle - start).total_seconds() - 1200) < 60


@BERLIN
def test_an_hour_that_comes_twice(visitor: Visitor) -> None:
    """QUERY-01: a search in the hour that the end of summer repeats stays what it is when it is sent again."""
    page = visitor.page
    visitor.open("/?project=shop&from=2026-10-25T00:15:00Z&to=2026-10-25T01:10:00Z")
    assert [text[:16] for text in ends(page)] == ["2026-10-25T02:15", "2026-10-25T02:10"]
    page.get_by_label("URL contains").fill("/x")
    page.get_by_role("button", name="Search").click()
    assert page.url.endswith("url=%2Fx&from=2026-10-25T00%3A15%3A00Z&to=2026-10-25T01%3A10%3A00Z")


@BERLIN
def test_times_typed_around_the_begin_of_summer(visitor: Visitor) -> None:
    """QUERY-01: what is typed counts by the clock of its own day, not of today's."""
    page = visitor.page
    visitor.open("/spikes?from=2026-03-29T00:30:00Z&to=2026-03-29T01:30:00Z")
    assert [text[:16] for text in ends(page)] == ["2026-03-29T01:30", "2026-03-29T03:30"]
    page.locator("input[name=from]").fill("2026-03-28T12:00")
    page.locator("input[name=to]").fill("2026-03-29T12:00")
    page.get_by_role("button", name="Search").click()
    assert page.url.endswith("/spikes?from=2026-03-28T11%3A00%3A00Z&to=2026-03-29T10%3A00%3A00Z")


def test_going_back_to_a_form(visitor: Visitor) -> None:
    """QUERY-01: a browser that goes back may put into a form what stood there; times are not moved a second time."""
    page = visitor.page
    visitor.open("/spikes?from=2026-01-31T12:00:00Z&to=2026-01-31T13:00:00Z")
    before = ends(page)
    page.get_by_role("link", name="Functions").click()
    page.go_back()
    assert ends(page) == before
    page.get_by_role("button", name="Search").click()
    assert page.url.endswith("/spikes?from=2026-01-31T12%3A00%3A00Z&to=2026-01-31T13%3A00%3A00Z")
