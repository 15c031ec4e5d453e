"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.web import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"), (0, "0 ms"), (0.42, "0.42 ms"), (4.2, "4.20 ms"), (42.25, "42.2 ms"), (412.4, "412 ms"),
        (999.4, "999 ms"), (999.6, "1.00 s"), (4210, "4.21 s"), (42100, "42.1 s"), (59_949, "59.9 s"),
        (59_960, "1 m 00 s"), (192_000, "3 m 12 s"), (7_500_000, "2 h 05 m"),
    ],
)  # fmt: skip
def test_durations(value: float | None, text: str) -> None:
    """QUERY-01: a duration is shown in the unit of its size."""
    assert words.milliseconds(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (-2048, "\u22122.00 KB"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KB"),
        (41_943_040, "40.0 MB"),
        (2**60, "1,048,576 TB"),
    ],
)
def test_sizes(value: float | None, text: str) -> None:
    """QUERY-01: a size is shown in the unit of its size."""
    assert words.bytes_(value).replace("\u202f", " ") == text


def test_shares() -> None:
    """QUERY-01: a share under one per cent is not shown as none."""
    assert [words.share(part, 1000).replace("\u202f", "") for part in (0, 4, 420, 1000)] == ["0%", "<1%", "42%", "100%"]
    assert words.share(1, 0) == words.share(None, 1) == words.NOTHING


@given(st.text())
def test_clean_text_can_always_be_shown(text: str) -> None:
    """QUERY-01: whatever a record holds, a page can show it: nothing that HTML refuses or that turns text is left."""
    assert not any((ord(c) < 32 and c not in "\t\n\r") or c in "\x7f\u202e\u2066" for c in words.clean(text))


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_every_time_has_a_text(at: float) -> None:
    """QUERY-01: a wrong clock never keeps a page from being shown."""
    assert words.iso(at).endswith("Z")
    assert words.moment(at).endswith(" UTC")
