"""The analysis on simulated hosts (tests/lab): whole cases, from frames as agents send them to the report."""

from __future__ import annotations

import msgspec
import pytest

from bitville_apm import limits
from bitville_apm.records import Frame
from tests.lab import simulate
from tests.lab.classes import CLASSES
from tests.lab.simulate import JUDGING, TUNING


@pytest.mark.parametrize("name", ["traffic", "lock", "deploy"])
def test_a_simulated_spike_is_found_and_explained(name: str) -> None:
    """ADV-02: detection and explanation together, on what agents send: the right cause first, with its mechanism."""
    case = simulate.case(name, 11)
    assert case.truth is not None
    report = simulate.report_of(case)
    assert simulate.right_first(report, case.truth)
    assert all(simulate.mechanisms(report, case.truth))
    assert report.kind in case.truth.kinds
    assert any(case.start <= s.opened.at < case.start + 40 for s in simulate.detected(case))


def test_the_simulator_sends_what_agents_send() -> None:
    """Frames within their caps, that can be encoded and read again; a case is the same each time."""
    case = simulate.case("crawler", 3)
    for frames in case.frames.values():
        for frame in frames[-5:]:
            assert msgspec.json.decode(msgspec.json.encode(frame), type=Frame) == frame
            for dimension, table in frame.cells.items():
                assert len(table.values) <= limits.DIMENSION_CAPS[dimension] + 1
    again = simulate.case("crawler", 3)
    assert again.frames["web1"][-1] == case.frames["web1"][-1]
    assert (again.start, again.truth) == (case.start, case.truth)


def test_tuning_and_judging_seeds_are_apart() -> None:
    """A figure is worth something only on cases that nothing was tuned on."""
    assert not set(range(TUNING.start, TUNING.stop, 997)) & set(range(JUDGING.start, JUDGING.stop, 997))
    assert TUNING.stop <= JUDGING.start


@pytest.mark.full
def test_most_simulated_spikes_are_explained() -> None:
    """Of all classes, three cases each: nine of ten have the right cause first."""
    right = [
        simulate.right_first(simulate.report_of(case), case.truth)
        for case in simulate.cases(range(10, 13), tuple(CLASSES))
        if case.truth is not None
    ]
    assert sum(right) / len(right) >= 0.9
