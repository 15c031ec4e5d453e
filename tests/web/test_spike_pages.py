"""The pages of spikes: what they say, to whom, and that no text of a report becomes part of them."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest
from twisted.internet.defer import Deferred, fail

from bitville_apm import limits
from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Cause, Example, Factor, Mechanism, Report, Split, Step
from bitville_apm.http import HttpProblem
from bitville_apm.store.interface import Load, Projects, Spike
from bitville_apm.web.stories import MECHANISMS
from tests.web.reports import loads, marked, quiet
from tests.web.test_pages import HOSTILE, Elements, assert_harmless, shown
from tests.web.world import NOW, Explainer, World, end_record, full_report, kept_spike

ID = kept_spike().id
PARTS = [
    "What caused it", "Victims", "Who ran", "Requests to look at", "In flight at the worst second",
    "Database sessions", "Locks", "What changed", "Ruled out", "How good the data is", "Seen before",
]  # fmt: skip


def world(**changes: Any) -> World:
    """A spike of the shop, and what its host ran."""
    made = World()
    made.store.add("shop", end_record())
    made.store.risen.append(kept_spike(**changes))
    made.store.loads += loads(NOW - 3600, 3600)
    return made


def page_of(w: World, path: str = f"/spikes/{ID}", **visitor: Any) -> str:
    answer = w.ask(path, session=w.session(**visitor))
    assert answer.status == 200, answer.text
    return answer.text


def headings(page: str) -> list[str]:
    return [shown(heading).strip() for heading in re.findall(r"<h2[^>]*>(.*?)</h2>", page, re.DOTALL)]


# --- One spike --------------------------------------------------------------------------------------------


def test_the_verdict_comes_first() -> None:
    """VIZ-04: a spike's page begins with its sentence, whether it is load, when it was, how high, and how much of it is
    explained; the causes come next.
    """
    page = page_of(world())
    text = shown(page)
    order = [
        "Load", "GET /search: 3 times the requests", "83 %", "Began", "Worst", "after 30 s", "Ended",
        "lasted 3 m 00 s", "Detected", "after 7 s", "31.4", "15.0\u00d7 the usual", "Explained", "87 %",
        "What caused it",
    ]  # fmt: skip
    places = [text.index(said, text.index("Spike on") if said != "Load" else 0) for said in order]
    assert places == sorted(places)
    assert re.findall(r"<h1[^>]*>([^<]*)<", page) == ["GET /search: 3 times the requests, on web1 and web2 &lt;b&gt;"]


def test_all_parts_of_a_report() -> None:
    """VIZ-04: every part of a report is on the page, in the order of its use."""
    assert headings(page_of(world())) == PARTS


def test_what_is_empty_is_left_out() -> None:
    """VIZ-04: where nothing rose there is no list of causes, victims or anything else that would be empty."""
    w = World()
    w.store.risen.append(msgspec.structs.replace(kept_spike(), report=msgspec.json.encode(quiet(NOW - 600))))
    page = page_of(w)
    assert headings(page) == ["How good the data is"]
    assert "only levels can be compared" in shown(page)


def test_a_story_and_its_numbers() -> None:
    """VIZ-04: a cause is a chain from client to statement with its load, share, lift and what its factors add."""
    text = shown(page_of(world()))
    story = text[text.index("What caused it") : text.index("Victims")]
    chain = ["Client", "203.0.113.0/24", "Endpoint", "GET /search", "Function", "Shop\\Search::run", "More requests"]
    places = [story.index(said) for said in chain]
    assert places == sorted(places)
    for said in ("25.0", "before 1.50", "83 %", "4.20\u00d7", "97 %", "web1, web2"):
        assert said in story
    assert re.search(r"Requests a second 12\.0 36\.0 3\.00\u00d7 \+22\.0", story)
    assert re.search(r"Executions a request 4\.00 4\.20 1\.05\u00d7 \+1\.00", story)
    assert re.search(r"Load an execution 30\.0 ms 31\.0 ms 1\.03\u00d7 \+0\.50", story)
    assert re.search(r"Process backup Not PHP .* new not there before", story)


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
def test_every_mechanism_has_words(mechanism: Any) -> None:
    """VIZ-04: whatever made a cause one is said in words."""
    cause = msgspec.structs.replace(
        full_report().causes[0], mechanism=mechanism, factors={"c": Factor(before=0.0, after=2.0, part=-1.0)}, story=[]
    )
    text = shown(page_of(world(causes=[cause])))
    assert " ".join(MECHANISMS[mechanism]) in text
    assert re.search(r"Load a request 0 ms 2\.00 s new \u22121\.00", text)


def test_who_ran() -> None:
    """VIZ-04: a host's load is split by who ran, running and blocked, against before, with coverage and pressure."""
    page = page_of(world())
    text = shown(page)
    split = text[text.index("Who ran") : text.index("Requests to look at")]
    for said in ("27.0", "before 2.10", "90 %", "18.2", "cpu 88 %, io 12 %", "backup 1.00 2.50 3.50 13 %"):
        assert said in split
    assert split.index("backup") < split.index("no look could tell")
    band = page[page.index('<div class="bands">') :]
    widths = [float(width) for width in re.findall(r'width="([0-9.]+)%" height="100%" class="ran-', band)]
    assert sum(widths) == pytest.approx(100, abs=0.1)


def test_examples_lead_to_their_requests() -> None:
    """VIZ-04: example requests and those in flight are links to their pages; one that died says so."""
    died = Example(
        why="died", id="d1", at=NOW - 500, host="web2", endpoint="GET /x", method="GET", url="/x", status=None,
        duration_ms=4.0,
    )  # fmt: skip
    page = page_of(world(examples=[*full_report().examples, died]))
    assert page.count('href="/requests/11111111-1111-4111-8111-111111111111"') == 2
    assert 'href="/requests/d1"' in page
    assert shown(page).count("died") == 2


def test_a_spike_that_goes_on() -> None:
    """VIZ-04: what still lasts and what is provisional is said, at the head of the page and in the list."""
    w = world(end=None, provisional=True, kind="waiting", measure="in_flight")
    text = shown(page_of(w))
    for said in ("Waiting, not load", "still going on", "Provisional", "not yet", "Requests in flight, worst"):
        assert said in text
    text = shown(page_of(w, "/spikes"))
    assert "open" in text
    assert "provisional" in text
    assert "Waiting, not load" in text


def test_a_page_links_to_what_there_is_around_it() -> None:
    """VIZ-04: from a spike to the requests, endpoints and processes of exactly its time, to its JSON and Markdown."""
    w = world()
    page = page_of(w)
    links = [a.get("href") or "" for a in Elements(page).all("a")]
    assert any(re.fullmatch(r"/top\?project=shop&from=[^&]+&to=[^&]+&dimension=process", link) for link in links)
    session = w.session()
    for ending in (".json", ".md"):
        assert f"/spikes/{ID}{ending}" in links
    told = w.ask(f"/spikes/{ID}.json", session=session).json()
    assert (told["id"], msgspec.convert(told, Report)) == (ID, full_report())
    text = w.ask(f"/spikes/{ID}.md", session=session)
    assert (text.header("content-type"), text.text) == ("text/markdown; charset=utf-8", markdown(full_report()))


def test_load_around_it() -> None:
    """VIZ-04: around a spike stands what its hosts ran, with the spike marked; also without a script."""
    w = world()
    w.store.loads += loads(NOW - 3600, 3600, hosts=("db7",))
    page = page_of(w)
    figure = page[page.index("<figure") : page.index("</figure>")]
    assert figure.count('class="mark"') == 2
    (asked,) = [asked for asked in w.store.asked if asked[0] == "load"]
    assert asked[1:] == (frozenset({"shop"}), NOW - 600 - 300, NOW - 420 + 150, 10, None)
    plotted = msgspec.json.decode((Elements(page).all("figure")[0]["data-chart"] or "").encode())
    assert max(plotted["plots"][0]["lines"][0][3]) < 25  # one host's, not both's


def test_other_projects_spikes_are_not_there() -> None:
    """STOR-04: a spike of another project is 404 as a page, as JSON and as Markdown, and in no list."""
    w = world()
    w.store.risen.append(kept_spike("secret", "blog", verdict="Secret of the blog"))
    session = w.session("eve", "viewer", "shop")
    for path in ("/spikes/secret", "/spikes/secret.json", "/spikes/secret.md", "/spikes/nothing"):
        answer = w.ask(path, session=session)
        assert answer.status == 404, path
        assert "Secret" not in answer.text
    for path in ("/spikes?last=7d", "/spikes.json?last=7d", "/", "/index.json"):
        answer = w.ask(path, session=session)
        assert ID in answer.text, path
        assert "Secret" not in answer.text
    assert w.ask("/spikes?project=blog", session=session).status == 403
    assert w.ask("/explain?project=blog&from=1", session=session).status == 403


# --- Lists ------------------------------------------------------------------------------------------------


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
    w = world()
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
    w = world()
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


# --- Any window -------------------------------------------------------------------------------------------


def test_any_window_is_explained_on_a_page() -> None:
    """spikes.md: a window picked by hand is explained like a spike, for people, programs and tickets."""
    w = world()
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
    w = world()
    fields = {field["name"]: field.get("value") for field in Elements(page_of(w, "/explain")).all("input")}
    assert fields.keys() >= {"from", "to"}
    wrong = w.ask(f"/explain?from={NOW - 5}", session=w.session())
    assert wrong.status == 400
    assert "less than 10 s after from" in shown(wrong.text)
    assert "<form" in wrong.text
    assert w.ask(f"/explain.json?from={NOW - 5}", session=w.session()).json()["details"][0]["field"] == "to"


def test_which_project_is_meant_can_be_chosen() -> None:
    """spikes.md: where several projects could be meant, the form asks for one."""
    w = world()
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


# --- Hostile text -----------------------------------------------------------------------------------------


def test_hostile_text_in_every_field_of_a_report() -> None:
    """Row 27, design 7: whatever text a report, a spike or a host's name holds is shown as text and nothing else."""
    w, id = World(), HOSTILE.replace("/", "")
    report = marked(Report, HOSTILE)
    spike = msgspec.structs.replace(
        marked(Spike, HOSTILE),
        id=id,
        report=msgspec.json.encode(report),
        project=HOSTILE,
        onset=NOW - 60,
        end=None,
    )
    w.store.risen += [spike, msgspec.structs.replace(spike, id="b" + id, project="b" + HOSTILE)]
    for host in (HOSTILE, "b" + HOSTILE):
        w.store.loads += [msgspec.structs.replace(load, host=host) for load in loads(NOW - 3600, 3600)]
    w.explainer.report = report
    session = w.session("<b>eve</b>" + HOSTILE)
    for path in ("/", "/spikes", f"/spikes/{quote(id, safe='')}", f"/explain?from={NOW - 100}", "/explain"):
        page = w.ask(path, session=session)
        assert page.status == 200, path
        assert_harmless(page.text)
        if path != "/explain":
            assert page.text.count("alert(1)") > 3, path


def test_odd_numbers_make_no_odd_page() -> None:
    """Row 27: levels and shares that no sane report has are shown, and drawn within their bars."""
    odd = Split(
        host="web1", running=1e308, blocked=-1.0, baseline_running=0.0, baseline_blocked=0.0, cores=0, load1=-1.0,
        coverage=7.0,
    )  # fmt: skip
    cause = Cause(
        dimension="", value="", score=-1.0, share=-3.0, lift=0.0, confidence=9.0, level=-5.0, baseline=0.0,
        mechanism="unclear", factors={"": Factor(before=-1.0, after=1e308, part=1e308)},
        story=[Step(dimension="later", value="")] * 40,
    )  # fmt: skip
    page = page_of(world(split=[odd], causes=[cause], level=0.0, baseline=0.0, peak=0.0, opened=0.0))
    assert_harmless(page)
    assert not re.search(r'width="-', page)


# --- The chart itself -------------------------------------------------------------------------------------


def test_gaps_stay_gaps() -> None:
    """Wire.md 6: seconds nobody looked at are no zeros: the line has a hole there, also in the data for the script."""
    w = world()
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
