"""A request's samples and waits drawn: the flame graph and the timeline."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.web import flames
from tests.web.html import HOSTILE, Elements, assert_harmless, shown
from tests.web.made import end_record
from tests.web.world import World

ID = end_record()["id"]
STACKS = "/srv/shop/index.php;Shop\\Listing::show;Shop\\Brand::load 60\n/srv/shop/index.php;Shop\\Listing::show 40\n"
stacks = st.lists(st.tuples(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), st.integers(1, 50)), max_size=30)


def world(**changes: Any) -> World:
    w = World()
    w.store.add("shop", end_record(profile={"kind": "excimer", "period_us": 10_000, "stacks": STACKS}, **changes))
    return w


@given(stacks)
def test_boxes(kept: list[tuple[list[str], int]]) -> None:
    """VIZ-01: every frame is as wide as its share of the samples, within its caller, and beside its siblings."""
    root = flames.tree(kept)
    assert root.samples == sum(count for _, count in kept)
    drawn = flames.boxes(root, ())
    by_path = {box.path: box for box in drawn}
    for box in drawn:
        assert box.width == pytest.approx(box.frame.samples / root.samples)
        found = flames.found(root, box.path)
        assert found is not None
        assert found[0] is box.frame
        if box.path:
            above = by_path[box.path[:-1]]
            assert above.left - 1e-9 <= box.left
            assert box.left + box.width <= above.left + above.width + 1e-9
            assert box.row == above.row + 1
            before = by_path.get((*box.path[:-1], box.path[-1] - 1))
            assert before is None or before.left + before.width == pytest.approx(box.left)


def test_one_frame_alone() -> None:
    """VIZ-01: what a frame leads to is that frame at the whole width and what it called; a wrong path is all of it."""
    root = flames.tree([(["a", "b"], 3), (["a", "c", "d"], 1)])
    here = flames.found(root, [0, 1])
    assert here is not None
    assert [(box.frame.name, box.width, box.path) for box in flames.boxes(*here)] == [
        ("c", 1.0, (0, 1)), ("d", 1.0, (0, 1, 0))
    ]  # fmt: skip
    assert flames.found(root, [7]) is None


def test_a_huge_profile_is_bounded() -> None:
    """VIZ-01: however many functions and levels a profile has, so many are drawn, the widest levels first."""
    many = [(["a", f"f{n}", *(["r"] * 500)], 1 + n % 3) for n in range(2000)]
    drawn = flames.boxes(flames.tree(many), ())
    assert len(drawn) <= limits.FLAME_FRAMES
    assert max(box.row for box in flames.boxes(flames.tree([(["r"] * 5000, 1)]), ())) <= limits.FLAME_DEPTH


def test_a_requests_flame_graph() -> None:
    """VIZ-01: a request's page draws its samples; each frame says its time and leads to itself alone."""
    w = world()
    page = w.ask(f"/requests/{ID}", session=w.session()).text
    assert "Shop\\Brand::load: 600\u202fms, 60\u202f%" in page
    assert "index.php: 1.00\u202fs, 100\u202f%" in page
    links = [a["href"] or "" for a in Elements(page).all("a") if "flame=" in (a.get("href") or "")]
    assert f"/requests/{ID}?flame=0.0.0" in links
    alone = shown(w.ask(links[-1], session=w.session()).text)
    assert "show all" in alone
    assert w.ask(f"/requests/{ID}?flame=9.9", session=w.session()).status == 200
    for wrong in ("x", "0." * 500, "1,2"):
        assert w.ask(f"/requests/{ID}?flame={wrong}", session=w.session()).status == 400
    edges = World()
    edges.store.add("shop", end_record())
    assert 'class="flame"' not in edges.ask(f"/requests/{ID}", session=edges.session()).text


def test_a_requests_timeline() -> None:
    """VIZ-02, QUERY-01: statements and calls stand on the request's own time, the longest in a table by when they
    began, without the values they came with.
    """
    queries = [
        {"sql": f"SELECT {n} FROM stock WHERE id = 77", "ms": 1.0 + n, "at": 10.0 * n, "n": 1} for n in range(60)
    ]
    calls = [{"kind": "http", "target": "stock.example", "n": 3, "ms": 231.05, "at": 1155.25}]
    w = world(sql={"n": 60, "ms": 90.0, "queries": queries}, calls=calls)
    page = w.ask(f"/requests/{ID}", session=w.session()).text
    panel = page[page.index("Timeline") : page.index("</section>", page.index("Timeline"))]
    text = shown(panel)
    assert f"the {limits.TIMELINE_SHOWN} longest of 61" in text
    assert "SELECT ? FROM stock WHERE id = ?" in text
    assert text.count("SELECT ? FROM stock WHERE id = ?") == 1
    assert text.count("the same") == limits.TIMELINE_SHOWN - 2
    assert "77" not in re.sub(r"[0-9.]+ (ms|s)\b", "", text)
    assert re.search(r"1\.16 s\s+231 ms http stock\.example 3\u00d7", text)
    assert '<rect x="50.00%" width="10.00%" height="100%" class="of-external waits"></rect>' in panel
    began = [float(ms) for ms in re.findall(r"<td class=\"num\">([0-9.]+)\u202fms", panel)]
    assert began == sorted(began)


def test_without_times_no_timeline() -> None:
    """VIZ-02: a record that does not tell when its statements ran has no timeline; odd times stay within it."""
    w = world()
    assert "Timeline" not in w.ask(f"/requests/{ID}", session=w.session()).text
    odd = [{"sql": HOSTILE, "ms": 1e9, "at": at, "n": 1} for at in (-5.0, 1e12, 3.0)]
    w = world(sql={"n": 3, "ms": 3.0, "queries": odd})
    page = w.ask(f"/requests/{ID}", session=w.session()).text
    assert_harmless(page)
    for x, width in re.findall(r'<rect x="([-0-9.]+)%" width="([-0-9.]+)%"', page):
        assert 0 <= float(x) <= 100
        assert 0 <= float(width) <= 100.01
