"""Hosts that said nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bitville_apm.collector.silence import silent


@pytest.mark.parametrize(
    ("ats", "wanted"),
    [
        (range(0, 300, 10), False), ([*range(0, 200, 10), *range(230, 300, 10)], False),
        ([*range(0, 200, 10), *range(240, 300, 10)], True), (range(0, 270, 10), False), (range(0, 260, 10), True),
        (range(240, 300, 10), False), ([0], True), ([], False), ([*range(0, 300, 10), *range(0, 300, 10)], False),
        ([290, 0, *range(10, 290, 10)], False),
    ],
)  # fmt: skip
def test_silent(ats: Sequence[float], wanted: bool) -> None:
    """spikes.md: a host that was there before and sends nothing for over half a minute of the time is told; one that
    is new is not.
    """
    assert silent({"web1": ats, "web2": range(0, 300, 10)}, 100.0, 300.0) == (["web1"] if wanted else [])
