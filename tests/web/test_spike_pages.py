"""The pages of spikes: what they say, to whom, and that no text of a report becomes part of them."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest

from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Cause, Example, Factor, Mechanism, Report, Split, Step
from bitville_apm.store.interface import Spike
from bitville_apm.web.stories import MECHANISMS
from tests.web.html import HOSTILE, Elements, assert_harmless, headings, shown
from tests.web.made import NOW
from tests.web.reports import PARTS, full_report, kept_spike, loads, marked, quiet
from tests.web.world import World, page_of, spiked

ID = kept_spike().id
SPIKE = f"/spikes/{ID}"


def test_the_verdict_comes_first() -> None:
    """VIZ-04: a spike's page begins with its sentence, whether it is load, when it was, how high, and how much of it is
    explained; the causes come next.
    """
    page = page_of(spiked(), SPIKE)
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
    assert headings(page_of(spiked(), SPIKE)) == PARTS


def test_what_is_empty_is_left_out() -> None:
    """VIZ-04: where nothing rose there is no list of causes, victims or anything else that would be empty."""
    w = World()
    w.store.risen.append(msgspec.structs.replace(kept_spike(), report=msgspec.json.encode(quiet(NOW - 600))))
    page = page_of(w, SPIKE)
    assert headings(page) == ["How good the data is"]
    assert "only levels can be compared" in shown(page)


def test_a_story_and_its_numbers() -> None:
    """VIZ-04: a cause is a chain from client to statement with its load, share, lift and what its factors add."""
    text = shown(page_of(spiked(), SPIKE))
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
    text = shown(page_of(spiked(causes=[cause]), SPIKE))
    assert " ".join(MECHANISMS[mechanism]) in text
    assert re.search(r"Load a request 0 ms 2\.00 s new \u22121\.00", text)


def test_who_ran() -> None:
    """VIZ-04: a host's load is split by who ran, running and blocked, against before, with coverage and pressure."""
    page = page_of(spiked(), SPIKE)
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
    page = page_of(spiked(examples=[*full_report().examples, died]), SPIKE)
    assert page.count('href="/requests/11111111-1111-4111-8111-111111111111"') == 2
    assert 'href="/requests/d1"' in page
    assert shown(page).count("died") == 2


def test_a_spike_that_goes_on() -> None:
    """VIZ-04: what still lasts and what is provisional is said, at the head of the page and in the list."""
    w = spiked(end=None, provisional=True, kind="waiting", measure="in_flight")
    text = shown(page_of(w, SPIKE))
    for said in ("Waiting, not load", "still going on", "Provisional", "not yet", "Requests in flight, worst"):
        assert said in text
    text = shown(page_of(w, "/spikes"))
    assert "open" in text
    assert "provisional" in text
    assert "Waiting, not load" in text


def test_a_page_links_to_what_there_is_around_it() -> None:
    """VIZ-04: from a spike to the requests, endpoints and processes of exactly its time, to its JSON and Markdown."""
    w = spiked()
    page = page_of(w, SPIKE)
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
    w = spiked()
    w.store.loads += loads(NOW - 3600, 3600, hosts=("db7",))
    page = page_of(w, SPIKE)
    figure = page[page.index("<figure") : page.index("</figure>")]
    assert figure.count('class="mark"') == 2
    (asked,) = [asked for asked in w.store.asked if asked[0] == "load"]
    assert asked[1:] == (frozenset({"shop"}), NOW - 600 - 300, NOW - 420 + 150, 10, None)
    plotted = msgspec.json.decode((Elements(page).all("figure")[0]["data-chart"] or "").encode())
    assert max(plotted["plots"][0]["lines"][0][3]) < 25  # one host's, not both's


def test_other_projects_spikes_are_not_there() -> None:
    """STOR-04: a spike of another project is 404 as a page, as JSON and as Markdown, and in no list."""
    w = spiked()
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
    page = page_of(spiked(split=[odd], causes=[cause], level=0.0, baseline=0.0, peak=0.0, opened=0.0), SPIKE)
    assert_harmless(page)
    assert not re.search(r'width="-', page)
