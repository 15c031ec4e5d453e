"""One value over time."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest

from bitville_apm import limits
from bitville_apm.store.interface import Point
from tests.web.html import HOSTILE, Elements, assert_harmless, shown
from tests.web.made import NOW, top_row
from tests.web.reports import loads
from tests.web.world import World

MINUTE = NOW // 60 * 60


def world() -> World:
    made = World()
    made.store.points = [
        Point(int(MINUTE) - 1800, top_row("x", running_s=60.0, requests=120, wall_ms=60_000.0), {}),
        Point(int(MINUTE) - 600, top_row("x", running_s=0.0, blocked_s=6.0, waiting_s=30.0, requests=60), {}),
    ]
    return made


def lines(page: str) -> dict[str, list[float | None]]:
    """The series of a page's chart, by their names."""
    told = msgspec.json.decode((Elements(page).all("figure")[0]["data-chart"] or "").encode())
    return {line[1]: line[3] for plot in told["plots"] for line in plot["lines"]}


def test_the_course_of_an_endpoint() -> None:
    """VIZ-03: a value's page draws its load, how often it came and how long it took, minute by minute."""
    w = world()
    page = w.ask("/trend?dimension=endpoint&name=GET+/x", session=w.session()).text
    drawn = lines(page)
    assert {name: max(v for v in values if v is not None) for name, values in drawn.items()} == {
        "Load": 1.0, "Mean, ms": 500.0, "p95, ms": 1900.0, "Requests a second": 2.0
    }  # fmt: skip
    assert drawn["Load"].count(0) == 58
    assert drawn["Mean, ms"].count(None) == 58
    assert "180 0.05 a second" in shown(page)
    assert 'href="/?endpoint=GET+%2Fx"' in page
    asked = ("series", None, "endpoint", "GET /x", MINUTE + 60 - 3600, MINUTE + 60, None)
    assert asked in w.store.asked


def test_means_are_over_what_is_known() -> None:
    """VIZ-03: where the agent was started ten minutes ago, a mean over the hour is that of ten minutes."""
    w = world()
    w.store.points = w.store.points[1:]
    w.store.loads += loads(MINUTE - 600, 600)
    assert "60 0.10 a second" in shown(w.ask("/trend?dimension=endpoint&name=GET+/x", session=w.session()).text)


def test_what_only_looks_know_has_no_requests() -> None:
    """VIZ-03: of a blocker there is how much it held up; nobody counted requests of it."""
    w = world()
    drawn = lines(w.ask("/trend?dimension=blocker&name=a", session=w.session()).text)
    assert drawn.keys() == {"Load", "Waiting"}
    assert max(value or 0 for value in drawn["Waiting"]) == 0.5


@pytest.mark.parametrize("dimension", [name for name in limits.DIMENSION_CAPS if name != "request"])
def test_every_row_leads_to_its_course(dimension: str) -> None:
    """VIZ-03: from the heaviest values of a dimension each leads to its course over the same time, and JSON has it."""
    w = world()
    w.store.tops[dimension] = [top_row(HOSTILE)]
    page = w.ask(f"/top?dimension={dimension}&last=6h", session=w.session()).text
    (link,) = [a["href"] or "" for a in Elements(page).all("a") if (a.get("href") or "").startswith("/trend?")]
    assert link == f"/trend?last=6h&dimension={dimension}&name={quote(HOSTILE.encode(), safe='').replace('%20', '+')}"
    course = w.ask(link, session=w.session())
    assert course.status == 200
    assert_harmless(course.text)
    told = w.ask(link.replace("/trend?", "/trend.json?"), session=w.session()).json()
    assert (told["dimension"], told["name"], len(told["items"])) == (dimension, HOSTILE, 2)


def test_nothing_to_draw() -> None:
    """VIZ-03: where nothing was counted the page says so; without a value it is a 400 that names what is missing."""
    w = World()
    assert "Nothing was counted" in w.ask("/trend?name=x", session=w.session()).text
    answer = w.ask("/trend", session=w.session())
    assert (answer.status, "name" in shown(answer.text)) == (400, True)
    assert w.ask("/trend?name=x&project=blog", session=w.session("eve", "viewer", "shop")).status == 403
