"""The live lab's judge and table, its plan, and one short round of it against the real stack."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitville_apm.demo.visits import PAGES, ROUTES
from tests.lab import live
from tests.lab.injections import CLASSES, RATES
from tests.lab.table import Result, told
from tests.lab.truth import Truth, judge, overlapping
from tests.tools import lacking, require

BURNER = Truth(["load"], [("endpoint", "^GET /cart$"), ("function", "personal_offers")], ["regression"])
QUIET = Truth(["none"])


def cause(dimension: str, value: str, mechanism: str = "regression", *story: tuple[str, str]) -> dict[str, Any]:
    steps = [{"dimension": d, "value": v} for d, v in story]
    return {"dimension": dimension, "value": value, "mechanism": mechanism, "share": 0.5, "story": steps}


def report(*causes: dict[str, Any], kind: str = "load") -> dict[str, Any]:
    return {"kind": kind, "causes": list(causes)}


@pytest.mark.parametrize(
    ("said", "place", "mechanism"),
    [
        (report(cause("endpoint", "GET /cart")), 1, True),
        (report(cause("endpoint", "GET /cart", "traffic")), 1, False),
        (report(cause("endpoint", "GET /"), cause("endpoint", "GET /cart")), 2, True),
        (
            report(cause("client", "192.0.2.0/24", "regression", ("function", r"Shop\Campaign::personal_offers"))),
            1,
            True,
        ),
        (report(cause("endpoint", "GET /cart/all"), cause("function", "GET /cart")), None, None),
        (report(*[cause("endpoint", f"GET /{n}") for n in range(3)], cause("endpoint", "GET /cart")), None, None),
        (report(), None, None),
    ],
)
def test_the_right_cause_and_its_place(said: dict[str, Any], place: int | None, mechanism: bool | None) -> None:
    """A story with the culprit anywhere in it is the right one, in its dimension and whole; only three count, and the
    mechanism only of the right one."""
    judged = judge(BURNER, said)
    assert (judged.place, judged.mechanism) == (place, mechanism)


def test_kind_is_judged_by_itself() -> None:
    """Load and waiting are told apart, whatever cause is named."""
    assert judge(BURNER, report(cause("endpoint", "GET /cart"))).kind
    assert not judge(BURNER, report(cause("endpoint", "GET /cart"), kind="waiting")).kind


def test_nothing_was_done() -> None:
    """In a quiet time, to find nothing is right, and no spike too; anything else is wrong."""
    assert judge(QUIET, None).first
    assert judge(QUIET, report(kind="none")).first
    assert not judge(QUIET, report(cause("endpoint", "GET /cart"))).first
    assert not judge(BURNER, None).first


def test_whose_spike_it_is() -> None:
    """A spike belongs to what was done when it began, with the last quiet moment before; of several the first."""
    spikes = [{"onset": 70.0, "opened": 75.0}, {"onset": 97.0, "opened": 140.0}, {"onset": 110.0, "opened": 118.0}]
    assert overlapping(spikes, 100, 140) == spikes[2]
    assert overlapping(spikes[:2], 100, 140) == spikes[1]
    assert overlapping(spikes[:1], 100, 140) is None
    assert overlapping([{"onset": 141.0, "opened": 150.0}], 100, 140) is None


def test_a_run_can_be_repeated_and_continued() -> None:
    """The seed alone says in which order what is done how: every class once a round, the same in a run continued."""
    plans = live.plans(list(CLASSES), 3, 7)
    assert plans == live.plans(list(CLASSES), 3, 7)
    assert plans != live.plans(list(CLASSES), 3, 8)
    for number in range(3):
        assert {plan.kind for plan in plans if plan.round == number} == set(CLASSES)
    alone = live.plans(["lock"], 3, 7)
    assert [plan.chance(7).random() for plan in alone] == [
        plan.chance(7).random() for plan in plans if plan.kind == "lock"
    ]
    assert plans[0].chance(7).random() != plans[0].chance(8).random()


def test_the_table_counts_and_names_what_was_missed() -> None:
    """The table tells how many of how many in each class, and each miss with what was said instead."""
    right = Result(
        kind="lock",
        round=0,
        seed=1,
        at=0,
        seconds=40,
        culprit="cart_line",
        place=1,
        kind_right=True,
        mechanism=True,
        said="waiting: blocker 'x' lock 0.90",
        detected=True,
        delay=12.0,
        own_place=1,
        own_said="waiting: …",
        rise=9.0,
        coverage=0.9,
    )
    other = {**{name: getattr(right, name) for name in Result.__struct_fields__}, "round": 1, "place": 2}
    wrong = Result(**{**other, "detected": False, "delay": None, "own_place": None, "own_said": "", "said": "SAID"})
    table = told([right, wrong])
    assert "| lock | 2 | 1 of 2 | 2 of 2 | 2 of 2 | 2 of 2 | 1 of 2 | 1 of 1 | 12 s |" in table
    assert "- lock, seed 1, round 2: cart_line; place 2, rise 9.0; said SAID" in table


def test_every_page_is_visited() -> None:
    """The lab's visits cover the demo's pages, each often enough to be a culprit."""
    assert set(RATES) == set(PAGES)
    assert set(ROUTES) < set(RATES)


def nowhere(path: Path) -> Any:
    """What drawing an injection reads of a stack."""
    shop = SimpleNamespace(data=path, releases=SimpleNamespace(number=1))
    place = SimpleNamespace(state=path, home=path)
    return SimpleNamespace(place=place, shop=shop, psql=lambda *_: [], ask=lambda _: (200, b""))


@pytest.mark.parametrize("kind", CLASSES)
def test_the_same_chance_draws_the_same_culprit(kind: str, tmp_path: Path) -> None:
    """Each class draws from its chance alone; over several rounds those with a choice choose differently."""
    stack = nowhere(tmp_path)
    drawn = [CLASSES[kind](stack, live.Plan(kind, n).chance(1), 40).culprit for n in range(12)]
    again = [CLASSES[kind](stack, live.Plan(kind, n).chance(1), 40).culprit for n in range(12)]
    assert drawn == again
    if kind not in {"index", "crawler", "killer", "stampede", "saturated", "database", "quiet"}:
        assert len(set(drawn)) > 1


@pytest.mark.full
def test_one_short_round(tmp_path: Path) -> None:
    """CFG-09: a burner put into the real stack leaves a report whose first cause it is."""
    require("nginx", "php-fpm8.2", "runuser")
    if os.geteuid() != 0:
        lacking("the lab needs root")
    out = tmp_path / "out"
    assert live.main(["--classes", "burner", "--rounds", "1", "--seed", "5", "--out", str(out)]) == 0
    results = [json.loads(line) for line in (out / "results.ndjson").read_text().splitlines()]
    assert [(result["kind"], result["place"]) for result in results] == [("burner", 1)]
    assert "| burner | 1 | 1 of 1 |" in (out / "table.md").read_text()
    assert list((out / "frames").iterdir())


def test_an_unknown_class_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A class that does not exist is one line with those that do."""
    assert live.main(["--classes", "burner,flood", "--out", str(tmp_path)]) == 2
    assert "no such class: flood; there are burner, surge" in capsys.readouterr().err


def test_chance_is_a_random_of_its_own() -> None:
    """Two classes of one round draw differently."""
    assert live.Plan("lock", 0).chance(1).random() != live.Plan("n+1", 0).chance(1).random()
    assert isinstance(live.Plan("lock", 0).chance(1), random.Random)
