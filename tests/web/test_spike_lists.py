"""Where spikes are listed, the first page among them; any window that is asked about."""

from __future__ import annotations

import re

import msgspec
import pytest
from twisted.internet.defer import Deferred, fail

from bitville_apm import limits
from bitville_apm.analysis.report import Report
from bitville_apm.http import HttpProblem
from bitville_apm.store.interface import Load, Projects
from tests.web.html import Elements, headings, shown
from tests.web.made import NOW, end_record
from tests.web.memory import Explainer
from tests.web.reports import PARTS, full_report, kept_spike
from tests.web.world import World, page_of, spiked

ID = kept_spike().id


def test_the_list_of_spikes() -> None:
    """ADV-05: the spikes of a range, newest first, with filters that stay in the address; JSON has the same."""
    w = World()
    for n in range(3):
        w.store.risen.append(kept_spike(f"s{n}", onset=NOW - 900 + n * 100, end=NOW - 880 + n * 100))
    page = page_of(w, "/spikes?last=6h&project=shop")
    assert re.findall(r'href="/spikes/(s\d)"', page) == ["s2", "s1", "s0"]
    assert 'href="/spikes?project=shop&amp;last=1h"' in page
    assert "20.0 s" in shown(page)
    assert [item["id"] for item in w.ask("/spikes.json?last=6h", session=w.session()).json()["items"]] == [
        "s2", "s1", "s0"
    ]  # fmt: skip
    page_of(w, "/spikes?host=db1&from=1000&to=2000")
    assert w.store.asked[-1] == ("spikes", None, 1000.0, 2000.0, "db1", limits.SPIKES_LISTED + 1)
    assert w.ask("/spikes?colour=red", session=w.session()).status == 400


def test_a_list_that_is_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """ADV-05: of more spikes than a page holds the newest are shown, and that there are more."""
    monkeypatch.setattr(limits, "SPIKES_LISTED", 2)
    w = World()
    w.store.risen += [kept_spike(f"s{n}") for n in range(3)]
    assert "Only the newest 2" in shown(page_of(w, "/spikes"))
    w.store.risen.pop()
    assert "Only the newest" not in page_of(w, "/spikes")


def test_no_spike() -> None:
    """CFG-02: an empty list says so, where else to look, and what a spike is; links to wider ranges work."""
    w = World()
    page = page_of(w, "/spikes?last=1h")
    assert "No spike in this time" in shown(page)
    assert 'href="/spikes?last=7d"' in page
    assert 'href="/explain?from=' in page


def test_the_first_page() -> None:
    """ADV-05, QUERY-01: hosts' load over time and the newest spikes stand above the slowest requests; a search for
    something in particular has its requests first.
    """
    w = spiked()
    page = page_of(w, "/")
    assert (
        page.index("<figure") < page.index(f'href="/spikes/{ID}"', page.index("</figure>")) < page.index('id="found"')
    )
    marks = [a for a in Elements(page).all("a") if a.get("href") == f"/spikes/{ID}"]
    assert len(marks) == 3  # in both plots, and in the list
    told = w.ask("/index.json", session=w.session()).json()
    assert [spike["id"] for spike in told["spikes"]] == [ID]
    assert told["load"]["step_s"] == 10
    assert told["load"]["items"][0]["host"] == "web1"
    assert "<figure" not in page_of(w, "/?url=cart")
    assert w.ask("/index.json?url=cart", session=w.session()).json()["load"] is None


def test_several_hosts_on_the_first_page() -> None:
    """ADV-05: the load of several hosts is added up, and each is a link to its own, the worst first."""
    w = spiked()
    w.store.loads += [msgspec.structs.replace(load, host="db1", tasks=50.0, tasks_most=60.0) for load in w.store.loads]
    page = page_of(w, "/")
    assert re.findall(r'<td class="name"><a href="/\?host=([^"]+)"', page) == ["db1", "web1"]
    plotted = msgspec.json.decode((Elements(page).all("figure")[0]["data-chart"] or "").encode())
    assert min(value for value in plotted["plots"][0]["lines"][0][3] if value is not None) > 50
    assert plotted["plots"][0]["lines"][3][1] == "8 cores"
    only = page_of(w, "/?host=web1")
    assert "hosts" not in re.findall(r'<table class="([^"]*)"', only)


@pytest.mark.parametrize(
    ("span", "step"), [("15m", 10), ("1h", 10), ("6h", 60), ("24h", 300), ("7d", 1800)]
)  # fmt: skip
def test_steps_of_a_chart(span: str, step: int) -> None:
    """P16: whatever range is shown, a chart has some hundred steps and no more, so that a page stays small."""
    w = World()
    page_of(w, f"/?last={span}")
    (asked,) = [asked for asked in w.store.asked if asked[0] == "load"]
    assert asked[4] == step
    assert (asked[3] - asked[2]) / step <= limits.CHART_POINTS


def test_any_window_is_explained_on_a_page() -> None:
    """spikes.md: a window picked by hand is explained like a spike, for people, programs and tickets."""
    w = spiked()
    page = page_of(w, f"/explain?project=shop&from={NOW - 300}&to={NOW - 200}&host=web1")
    assert "Explained by hand" in page
    assert headings(page) == PARTS
    assert w.explainer.asked == [(frozenset({"shop"}), NOW - 300, NOW - 200, "web1")]
    links = [a.get("href") or "" for a in Elements(page).all("a") if a.get("rel") == "alternate"]
    for link, kind in zip(links, ("application/json", "text/markdown; charset=utf-8"), strict=True):
        assert w.ask(link, session=w.session()).header("content-type") == kind
    assert w.ask("/explain.pdf?from=1", session=w.session()).status == 404


def test_a_window_is_chosen_in_a_form() -> None:
    """spikes.md: without a window there is a form, filled with the last minutes; a wrong window gets it again with what
    is wrong, as a program gets an error.
    """
    w = spiked()
    fields = {field["name"]: field.get("value") for field in Elements(page_of(w, "/explain")).all("input")}
    assert fields.keys() >= {"from", "to"}
    wrong = w.ask(f"/explain?from={NOW - 5}", session=w.session())
    assert wrong.status == 400
    assert "less than 10 s after from" in shown(wrong.text)
    assert "<form" in wrong.text
    assert w.ask(f"/explain.json?from={NOW - 5}", session=w.session()).json()["details"][0]["field"] == "to"


def test_which_project_is_meant_can_be_chosen() -> None:
    """spikes.md: where several projects could be meant, the form asks for one."""
    w = spiked()
    w.store.add("blog", end_record(id="b"))

    class OfOne(Explainer):
        def explain(self, projects: Projects, start: float, end: float, host: str | None) -> Deferred[Report]:
            if projects is None:
                return fail(HttpProblem(400, "several projects have frames there; name one"))
            return super().explain(projects, start, end, host)

    w.explainer = OfOne(full_report())
    answer = w.ask(f"/explain?from={NOW - 300}", session=w.session())
    assert answer.status == 400
    assert "several projects" in answer.text
    assert [option.get("value") for option in Elements(answer.text).all("option")] == ["blog", "shop", "", "web1"]
    assert w.ask(f"/explain?project=blog&from={NOW - 300}", session=w.session()).status == 200


def test_gaps_stay_gaps() -> None:
    """Wire.md 6: seconds nobody looked at are no zeros: the line has a hole there, also in the data for the script."""
    w = spiked()
    w.store.loads = [load for load in w.store.loads if not NOW - 2000 < load.at < NOW - 1000]
    page = page_of(w, "/")
    plotted = msgspec.json.decode((Elements(page).all("figure")[0]["data-chart"] or "").encode())
    assert plotted["plots"][0]["lines"][0][3].count(None) > 90
    path = next(p["d"] or "" for p in Elements(page).all("path") if p["class"] == "area tasks")
    assert path.count("M") == path.count("Z") == 2


def test_a_host_that_tells_only_of_php() -> None:
    """Wire.md 6: where an agent has no [host], requests in flight are drawn, and what nobody told is left out."""
    w = World()
    w.store.add("shop", end_record())
    w.store.loads.append(
        Load(
            at=int(NOW - 60), host="web1", cores=None, tasks=1.0, tasks_most=1.0, blocked=None, db=None, db_most=None,
            in_flight=4.0, in_flight_most=5.0, load1=None,
        )
    )  # fmt: skip
    legend = re.findall(r"<ul class=\"legend\">.*?</ul>", page_of(w, "/"), re.DOTALL)
    text = " ".join(map(shown, legend))
    assert "Requests in flight" in text
    assert "Load average" not in text
    assert "cores" not in text
    w.store.loads.clear()
    assert "No agent told of its host" in shown(page_of(w, "/"))
