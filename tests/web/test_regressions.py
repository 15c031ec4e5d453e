"""Slow drifts on their page and in the API: what they say, to whom, and before there is anything to say."""

from __future__ import annotations

import re
from typing import get_type_hints
from urllib.parse import parse_qs, urlsplit

import pytest

from bitville_apm import limits
from bitville_apm.analysis.baseline import Regression
from bitville_apm.web import words
from tests.web.html import HOSTILE, Elements, assert_harmless, shown
from tests.web.made import NIGHT, end_record, night, regression
from tests.web.world import World

DAY = 86_400.0
SQL = "SELECT * FROM brand WHERE id = ?"


def world() -> World:
    """A shop with three drifts, and a blog with one."""
    made = World()
    for project in ("shop", "blog"):
        made.store.add(project, end_record())
    made.store.nights += [
        night("blog", regression("GET /feed", lost_s=7000.0)),
        night(
            "shop",
            regression(),
            regression(
                SQL, dimension="statement", per="execution", measure="wall", before_ms=0.05, now_ms=0.2, lost_s=9.0
            ),
            regression("Price::of", dimension="function", lost_s=3.0),
            left_out=4,
        ),
    ]  # fmt: skip
    return made


def lines(page: str) -> list[str]:
    """The rows of the table, as they are read."""
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    return [shown(row).strip() for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)]


def test_what_got_dearer_is_on_the_page() -> None:
    """ADV-02: the page says of each what it is, what a call cost and costs, since when, what it adds a day and its
    share of the load, the dearest first; each leads to its course over time from a week before to the newest day.
    """
    w = world()
    page = w.ask("/regressions?project=shop", session=w.session()).text
    since = words.iso(NIGHT - 2 * DAY)[:10]
    assert lines(page) == [
        f"GET /checkout Endpoint 12.5 ms 25.5 ms 2.04\u00d7 request, on a CPU {since} 3 m 05 s 42 %",
        f"{SQL} Statement 50.0 µs 0.20 ms 2.04\u00d7 execution, in all {since} 9.00 s 42 %",
        f"Price::of Function 12.5 ms 25.5 ms 2.04\u00d7 request, on a CPU {since} 3.00 s 42 %",
    ]
    assert "4 more are not shown" in shown(page)
    assert f"Up to {words.iso(NIGHT)[:10]}" in shown(page)
    (link,) = [a["href"] or "" for a in Elements(page).all("a") if "Price" in (a.get("href") or "")]
    given = {name: value for name, (value,) in parse_qs(urlsplit(link).query).items()}
    assert urlsplit(link).path == "/trend"
    assert (given["dimension"], given["name"], given["project"]) == ("function", "Price::of", "shop")
    assert (given["from"], given["to"]) == (words.iso(NIGHT - 9 * DAY), words.iso(NIGHT + DAY))
    assert w.ask(link, session=w.session()).status == 200
    assert "/regressions.json?project=shop" in page


def test_several_projects() -> None:
    """ADV-02: who sees several projects has them in one list, each with its name, and can choose one."""
    w = world()
    page = w.ask("/regressions", session=w.session()).text
    assert [line.rpartition(" ")[2] for line in lines(page)] == ["blog", "shop", "shop", "shop"]
    hrefs = {a.get("href") for a in Elements(page).all("a")}
    assert {"/regressions?project=shop", "/regressions?project=blog"} <= hrefs


def test_who_sees_what() -> None:
    """STOR-04: a key or person of another project sees nothing of it, on the page and in the API."""
    w = world()
    for path in ("/regressions", "/regressions.json", "/regressions?project=shop", "/api/regressions",
                 "/api/regressions?project=shop"):  # fmt: skip
        answer = w.ask(path, session=w.session("bob", "viewer", "blog"))
        assert "checkout" not in answer.text
        assert w.ask(path).status in (303, 401)
    own = w.ask("/api/regressions", key=w.key("shop")).json()
    assert {item["project"] for item in own["items"]} == {"shop"}
    other = w.ask("/api/regressions", key=w.key("blog")).json()
    assert [(item["project"], item["value"]) for item in other["items"]] == [("blog", "GET /feed")]
    nobody = w.ask("/api/regressions", key=w.key("wiki")).json()
    assert nobody == {"items": [], "more": 0, "projects": []}


def test_the_api() -> None:
    """ADV-02, QUERY-02: the answer has all that is known of each drift, of each project when it was compared and over
    how many days, and how many more there are; a wrong parameter is named.
    """
    w = world()
    key = w.key("shop")
    answer = w.ask("/api/regressions?limit=2", key=key).json()
    assert [item["value"] for item in answer["items"]] == ["GET /checkout", SQL]
    assert list(answer["items"][0]) == ["project", *get_type_hints(Regression)]
    assert answer["more"] == 5
    assert answer["projects"] == [
        {"project": "shop", "day": NIGHT, "made": NIGHT + 87_300, "days": 20, "left_out": 4,
         "days_wanted": limits.DRIFT_DAYS + 1}
    ]  # fmt: skip
    assert w.ask("/regressions.json?project=shop", session=w.session()).json()["items"][0] == answer["items"][0]
    for query, field in (("limit=0", "limit"), ("limit=201", "limit"), ("from=1", "from"), ("project=", "project")):
        wrong = w.ask(f"/api/regressions?{query}", key=key)
        assert (wrong.status, wrong.json()["details"][0]["field"]) == (400, field)


@pytest.mark.parametrize("days", [None, 2])
def test_before_there_are_days_enough(days: int | None) -> None:
    """ADV-02: a young installation says how many days there are of how many, of each project that has too few."""
    w = World()
    w.store.add("shop", end_record())
    if days is not None:
        w.store.nights.append(night("shop", days=days))
    text = shown(w.ask("/regressions", session=w.session()).text)
    assert f"Not enough days yet: {days or 0} of {limits.DRIFT_DAYS + 1}." in text
    w.store.add("blog", end_record())
    w.store.nights.append(night("blog", regression("GET /feed")))
    text = shown(w.ask("/regressions", session=w.session()).text)
    assert f"shop: not enough days yet: {days or 0} of {limits.DRIFT_DAYS + 1}." in text
    assert "GET /feed" in text


def test_nothing_got_dearer() -> None:
    """ADV-02: with days enough and nothing to tell, the page says that, and up to which day it is so."""
    w = World()
    w.store.add("shop", end_record())
    w.store.nights.append(night("shop"))
    text = shown(w.ask("/regressions", session=w.session()).text)
    assert "Nothing got dearer that still is." in text
    assert f"Up to {words.iso(NIGHT)[:10]}" in text
    assert "Not enough" not in text


def test_the_pages_of_spikes_lead_to_it() -> None:
    """ADV-02: who looks for what happened finds what happens slowly, from the first page and the list of spikes."""
    w = world()
    for path in ("/?project=shop", "/spikes?project=shop"):
        hrefs = {a.get("href") for a in Elements(w.ask(path, session=w.session()).text).all("a")}
        assert "/regressions?project=shop" in hrefs


def test_markup_in_names_is_text() -> None:
    """Row 27: whatever a name, a project or a later version's words hold is shown as text and nothing else."""
    w = world()
    w.store.nights.append(
        night(HOSTILE, regression(HOSTILE, dimension=HOSTILE, measure=HOSTILE, per=HOSTILE),
              *(regression(HOSTILE * 20, dimension=name) for name in ("endpoint", "function", "statement")))
    )  # fmt: skip
    page = w.ask("/regressions", session=w.session()).text
    assert_harmless(page)
    assert page.count("alert(1)") > 9
    w.store.nights[:] = [night(HOSTILE, days=1), night("b" + HOSTILE, days=1)]
    page = w.ask("/regressions", session=w.session()).text
    assert_harmless(page)
    assert "alert(1)" in page
