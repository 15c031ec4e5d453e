"""Properties of explanations: what must hold of whatever frames say, and what happens at the edges."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitville_apm import limits
from bitville_apm.analysis import mechanism, tables
from bitville_apm.analysis.explain import explain
from bitville_apm.analysis.merge import explain_hosts, merged
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.windows import Window, baseline_windows, chosen, compare, spike_window
from bitville_apm.records import Cells, Frame
from tests.analysis.made import BEGIN, before, during, frame, load, use

ONSET, END = BEGIN - 1, BEGIN + 60
NAMES = [f"GET /{c}" for c in "abcdef"]


def explained(spike: Sequence[Frame], usual: Sequence[Frame], **more: Any) -> Report:
    return explain(spike, usual, onset=ONSET, end=END, host="web1", **more)


def host(rng: random.Random, at: float, culprit: str | None = None) -> Frame:
    """A busy host with some noise; `culprit` runs ten times as much."""
    endpoints = {
        name: use(round(rng.uniform(20, 60)) * (10 if name == culprit else 1), rng.uniform(0.06, 0.15))
        for name in NAMES
    }
    cpu = sum(c["cpu_us"] for c in endpoints.values()) / 1e7
    functions = {f"f{name[5:]}": use(c["requests"], c["cpu_us"] / c["requests"] / 1e6) for name, c in endpoints.items()}
    links = [
        ("endpoint", name, "function", f"f{name[5:]}", c["requests"], None, c["cpu_us"] / 1e6)
        for name, c in endpoints.items()
    ]
    return frame(
        at, {"endpoint": endpoints, "function": functions}, tasks=cpu, in_flight=cpu, links=links, load=load(cpu)
    )


def a_spike(seed: int) -> tuple[list[Frame], list[Frame]]:
    rng = random.Random(seed)
    usual = [host(rng, BEGIN - 10 * n) for n in range(40, 0, -1)]
    return [host(rng, BEGIN + 10 * n, "GET /c") for n in range(6)], usual


finite = st.floats(min_value=1e-6, max_value=1e6)


@given(finite, finite, finite, finite, finite, finite)
def test_the_parts_of_a_rise_add_up_exactly(a: float, f: float, n0: float, n1: float, q0: float, q1: float) -> None:
    """n, q and c split a rise without a rest, whatever they are."""
    parts = mechanism.split(a, f, {"n": (n0, n1), "q": (q0, q1)})
    assert math.isclose(sum(factor.part for factor in parts.values()), a - f, rel_tol=1e-6, abs_tol=1e-6 * (a + f))


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=1.5, max_value=20), st.integers(0, 100))
def test_where_everything_costs_more_nobody_is_blamed(growth: float, seed: int) -> None:
    """Uniform inflation leaves all shares as they were: no endpoint and no function is a cause."""
    rng = random.Random(seed)
    endpoints = {name: use(50, rng.uniform(0.001, 0.05)) for name in NAMES}
    dearer = {name: {**c, "cpu_us": c["cpu_us"] * growth} for name, c in endpoints.items()}
    cpu = sum(c["cpu_us"] for c in endpoints.values()) / 1e7
    report = explained(
        during(tables={"endpoint": dearer}, tasks=cpu * growth + 3, load=load(cpu * growth, cores=64)),
        before(tables={"endpoint": endpoints}, tasks=cpu, load=load(cpu, cores=64)),
    )
    assert [c for c in report.causes if c.dimension == "endpoint" and c.score > 0.1] == []


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_frames_is_irrelevant(seed: int) -> None:
    """Late frames come when they come: a report is the same."""
    shuffle = random.Random(seed)
    spike, usual = a_spike(seed)
    once = explained(spike, usual)
    shuffle.shuffle(spike)
    shuffle.shuffle(usual)
    assert explained(spike, usual) == once
    assert once.causes[0].value in ("GET /c", "fc")


def parts_of(whole: Frame, rng: random.Random) -> list[Frame]:
    """The same window in two parts, as after an agent's restart: values and seconds are dealt out."""
    cut = rng.randint(1, 9)
    cells: list[dict[str, Cells]] = [{}, {}]
    for dimension, table in whole.cells.items():
        for part in (0, 1):
            rows = [i for i in range(len(table.values)) if (i % 2) == part]
            cells[part][dimension] = Cells(
                values=[table.values[i] for i in rows],
                columns={name: [column[i] for i in rows] for name, column in table.columns.items()},
            )
    seconds = [
        {
            name: [v if (i < cut) == (part == 0) else None for i, v in enumerate(values)]
            for name, values in whole.seconds.items()
        }
        for part in (0, 1)
    ]
    return [
        msgspec.structs.replace(
            whole, id=f"{whole.id}-{part}", secs=float(cut if part == 0 else 10 - cut), cells=cells[part],
            seconds=seconds[part], links=whole.links if part == 0 else [],
        )
        for part in (0, 1)
    ]  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_splitting_a_frame_into_parts_changes_nothing(seed: int) -> None:
    """Frames of one window add: a restart inside a spike is not seen in its report."""
    rng = random.Random(seed)
    spike, usual = a_spike(seed)
    whole = explained(spike, usual)
    split = explained([part for f in spike for part in parts_of(f, rng)], [p for f in usual for p in parts_of(f, rng)])

    def rounded(report: Report) -> Any:
        told = msgspec.to_builtins(report)
        told.pop("quality")
        return msgspec.json.decode(msgspec.json.encode(told), type=Any)

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, float) and isinstance(b, int | float):
            return math.isclose(a, b, rel_tol=1e-6, abs_tol=2e-3)
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(same, a, b))
        return bool(a == b)

    assert same(rounded(whole), rounded(split))


ODD = (None, math.nan, math.inf, -math.inf, -3, 0, 0.5, 7, 10**12, "x", [], [3], {}, {"some": None, "full": 50.0})
VALUES = ("a", "b", "postgres", "~other", "Lock:x", "")
DIMENSIONS = ("endpoint", "process", "statement", "wait", "blocker", "client", "request", "release", "new")
COLUMNS = ("requests", "cpu_us", "wall_us", "waiting_s", "sql_us", "executions", "unheard_of")


def odd_frame(rng: random.Random) -> Frame:
    """A frame of any old agent: columns missing or short, nulls, NaN, only `~other`, a load of anything."""
    held = {}
    for dimension in rng.sample(DIMENSIONS, rng.randint(0, 4)):
        values = rng.sample(VALUES, rng.randint(0, 4))
        numbers = (None, 0, 3, 10**9)
        columns = rng.sample(COLUMNS, rng.randint(0, 4))
        held[dimension] = Cells(
            values=values, columns={c: [rng.choice(numbers) for _ in values][: rng.randint(0, 4)] for c in columns}
        )
    names = ("running", "blocked", "cores", "psi", "cpu", "pools", "blocked_in", "swap", "load1")
    return Frame(
        id=str(rng.randint(0, 99)),
        at=float(BEGIN + 10 * rng.randint(-5, 5)),
        secs=rng.choice((0.0, 3.5, 10.0)),
        v=2,
        late=rng.random() < 0.2,
        cells=held,
        seconds={
            m: [rng.choice(ODD[:9]) for _ in range(rng.randint(0, 11))]  # type: ignore[misc]
            for m in rng.sample(("tasks", "db", "in_flight", "more"), rng.randint(0, 4))
        },
        load={name: rng.choice(ODD) for name in rng.sample(names, rng.randint(0, 6))},
        links=[("endpoint", "a", "statement", "b", 1, None, 0.5)][: rng.randint(0, 1)],
    )


def test_whatever_frames_hold_a_report_is_made() -> None:
    """Old agents, damaged numbers, nothing at all: a report that can be encoded, with coverage from 0 to 1."""
    for seed in range(600):
        rng = random.Random(seed)
        spike, usual = ([odd_frame(rng) for _ in range(rng.randint(0, 5))] for _ in range(2))
        report = explained(spike, usual)
        assert 0.0 <= report.coverage <= 1.0
        assert 0.0 <= report.unexplained <= 1.0
        assert all(0.0 <= cause.share <= 1.0 for cause in report.causes)
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report, "NaN would be null"


def test_no_frames_at_all() -> None:
    """A window in which nobody sent anything says so."""
    report = explained([], [])
    assert report.kind == "none"
    assert report.quality.notes == ["No frame tells of this time."]


def test_no_baseline() -> None:
    """The first minutes of an installation: the heaviest is named, and that there is nothing to compare with."""
    spike, _ = a_spike(1)
    report = explained(spike, [])
    assert report.causes[0].value in ("GET /c", "fc")
    assert report.quality.notes == ["There is nothing to compare with: no frames from before."]
    assert report.changes == []


def test_one_frame_each() -> None:
    """A spike of ten seconds against a minute of history."""
    spike, usual = a_spike(2)
    report = explained(spike[:1], usual[:6])
    assert report.causes[0].value in ("GET /c", "fc")
    assert report.quality.notes == ["Only 1 minutes to compare with."]


def test_values_beyond_the_cap_explain_nothing_but_are_counted() -> None:
    """What is only `~other` is nobody: it stays unexplained."""
    usual = before(tables={"endpoint": {"~other": use(10, 0.01)}}, tasks=0.1, load=load(0.1))
    report = explained(during(tables={"endpoint": {"~other": use(10, 0.3)}}, tasks=4.0, load=load(3.0)), usual)
    assert report.kind == "load"
    assert report.causes == []
    assert (report.coverage, report.unexplained) == (0.0, 1.0)
    assert "no request, statement or process explains it" in report.verdict


def test_a_value_that_a_full_frame_left_out_was_at_most_its_smallest() -> None:
    """Absent from a capped frame is not the same as new."""
    kept = {"GET /x": use(100, 0.01), "GET /y": use(50, 0.01), "~other": use(500, 0.01)}
    found = tables.stretch(before(2, tables={"endpoint": kept}), {"endpoint": {"GET /rare"}})
    assert found.row("endpoint", "GET /rare").consumed == pytest.approx([0.05, 0.05])
    assert found.unseen["endpoint"] == {"GET /rare"}


def test_late_parts_bring_the_functions_of_long_requests() -> None:
    """Before them the endpoint is known, after them its function too: a report is provisional until then."""
    rng = random.Random(3)
    usual = [host(rng, BEGIN - 10 * n) for n in range(40, 0, -1)]
    spike = during(tables={"endpoint": {"GET /export": {"cpu_us": 9e7}}}, tasks=9.2, load=load(9.1, cores=16))
    late = [
        frame(BEGIN + 10 * i, {"function": {"Export::rows": {"cpu_us": 9e7}}}, late=True, part="late",
              links=[("endpoint", "GET /export", "function", "Export::rows", 0, None, 90.0)])
        for i in range(6)
    ]  # fmt: skip
    early = explained(spike, usual, now=END + 5.0)
    assert early.provisional
    assert [s.value for s in early.causes[0].story] == ["GET /export"]
    after = explained([*spike, *late], usual, now=END + limits.LATE_S)
    assert not after.provisional
    assert [s.value for s in after.causes[0].story] == ["GET /export", "Export::rows"]


def test_it_is_provisional_while_it_lasts() -> None:
    """No end, no last word."""
    spike, usual = a_spike(4)
    report = explain(spike, usual, onset=ONSET, end=None, host="web1", opened=ONSET + 4.0, now=END + 900.0)
    assert report.provisional
    assert (report.end, report.opened) == (None, ONSET + 4.0)


def test_the_signature_is_that_of_the_cause() -> None:
    """The same endpoint on another day and host is the same; another endpoint is not."""
    spike, usual = a_spike(5)
    other = [
        msgspec.structs.replace(f, cells={d: Cells(values=[v.replace("c", "z") for v in t.values], columns=t.columns)
                                          for d, t in f.cells.items()}, links=[])
        for f in [*spike, *usual]
    ]  # fmt: skip
    mine = explained(spike, usual).signature
    assert mine == explain(spike[:4], usual, onset=ONSET, end=END, host="web2").signature
    assert mine != explained(other[:6], other[6:]).signature
    assert len(mine) == 16


def test_hosts_add() -> None:
    """One spike on two hosts: their levels add, the cause is named once, with both."""
    spike, usual = a_spike(6)
    report = explain_hosts({"web1": spike, "web2": spike}, {"web1": usual, "web2": usual}, onset=ONSET, end=END)
    alone = explained(spike, usual)
    assert report.level == pytest.approx(2 * alone.level, rel=1e-3)
    assert len(report.causes) == 1
    assert report.causes[0].hosts == ["web1", "web2"]
    assert report.causes[0].level == pytest.approx(2 * alone.causes[0].level, rel=1e-3)
    assert report.causes[0].share == pytest.approx(alone.causes[0].share, rel=1e-3)
    assert {split.host for split in report.split} == {"web1", "web2"}
    assert merged({"web1": alone}) == alone


def test_windows_of_a_baseline_leave_other_spikes_out() -> None:
    """The hour before without other spikes and the half minute after them; the same time on other days."""
    onset, other = BEGIN + 3.0, (BEGIN - 1200.0, BEGIN - 1100.0)
    windows = baseline_windows(onset, BEGIN + 90.0, [other])
    hour = [w for w in windows if w.end > BEGIN - 3700]
    assert hour == [Window(BEGIN - 3600, BEGIN - 1200), Window(BEGIN - 1060, BEGIN)]
    assert {round((BEGIN - w.start) / 86_400) for w in windows} == {0, 1, 7}
    inside = frame(BEGIN - 1150)
    assert chosen([inside, frame(BEGIN - 600)], windows) == [frame(BEGIN - 600)]
    assert spike_window(onset, None, BEGIN + 40.0) == Window(BEGIN, BEGIN + 40)
    assert spike_window(BEGIN + 8.0, BEGIN + 90.0, BEGIN + 90.0) == Window(BEGIN + 10, BEGIN + 90)


def test_two_windows_picked_by_hand() -> None:
    """Any two windows can be compared, not only a spike with its baseline."""
    spike, usual = a_spike(7)
    report = compare(usual, spike, host="web1")
    assert report.causes[0].value in ("GET /c", "fc")
    assert compare(usual, usual[:6]).kind == "none"


def test_a_host_that_rose_a_little_does_not_speak_for_those_that_wait() -> None:
    """A database that has one and a half tasks more, of nobody's, beside thirty requests that wait for another host."""
    noise = {"statement": {f"SELECT {n}": {"cpu_us": 1e6} for n in range(9)}}
    quiet = {"endpoint": {"GET /pay": use(20, 0.01, wall=0.1)}, "external": {"pay.example": use(20, 0.0, wall=0.1)}}
    slow = {
        "endpoint": {"GET /pay": use(20, 0.01, wall=15.0, waiting_s=300.0)},
        "external": {"pay.example": use(20, 0.0, wall=15.0)},
    }
    report = explain_hosts(
        {"web1": during(tables=slow, tasks=0.1, in_flight=30.0, load=load(0.1)),
         "db1": during(tables=noise, tasks=3.0, load=load(1.0))},
        {"web1": before(tables=quiet, tasks=0.1, in_flight=0.2, load=load(0.1)),
         "db1": before(tables=noise, tasks=1.0, load=load(1.0))},
        onset=ONSET, end=END,
    )  # fmt: skip
    assert report.kind == "waiting"
    assert (report.causes[0].dimension, report.causes[0].value) == ("external", "pay.example")
