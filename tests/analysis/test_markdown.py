"""A report as Markdown, whatever names are in it."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitville_apm.analysis.markdown import escaped, line, markdown
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.telling import Text, clock, duration, lasted, load, parts, percent, shown
from tests.web.reports import full_report


def test_every_part_is_told() -> None:
    """VIZ-04: verdict first, then every part of the report with its figures."""
    text = markdown(full_report(), "https://apm.example/spikes/1")
    assert text.splitlines()[0] == r"# GET /search: 3 times the requests, on web1 and web2 \<b\>"
    headings = [found[3:] for found in text.splitlines() if found.startswith("## ")]
    assert headings == [
        "What happened", "Cause 1: traffic", "Cause 2: not php", "Load by host", "Victims: slower, but not the cause",
        "Requests to look at", f"In flight at the worst second, {clock(full_report().peak)}",
        "What database sessions did", "Who waited for whose lock", "What changed", "Ruled out",
        "How good the data is", "Seen before",
    ]  # fmt: skip
    for said in (
        "31.4 at the worst, 2.10 before", "found 7 s later", "Explained 87 %, unexplained 13 %",
        "1.50 → 25.0 load units, 83 % of the rise; 4.2 times its share before; confidence 97 %",
        "requests a second 12 → 36 (+22.00 load units)", "it was not there before",
        "client `203.0.113.0/24` → endpoint",
        "| `web1` | 24.0 | 3.00 | 2.10 | 4 | 18.2 | 90 % | php 20.5, backup 3.50, unknown 3.00 | cpu 88 %, io 12 % |",
        "| `endpoint GET /cart` | 120 | 80 ms | 950 ms |", "idle in transaction, 2 behind it: `UPDATE stock`",
        "new release `2026-11-28`", "nothing was swapped", "said nothing for a while: `web3`",
        "the clock of `web2` is 5 s behind", "no look inside the database", "the same yesterday (`5b0c`)",
        "<https://apm.example/spikes/1>",
    ):  # fmt: skip
        assert said in text, said


def test_what_there_is_nothing_to_say_of_is_left_out() -> None:
    """VIZ-04: a quiet window has no empty tables."""
    bare = msgspec.convert(
        {
            "verdict": "Nothing rose", "kind": "none", "provisional": False, "coverage": 0.0, "unexplained": 0.0,
            "measure": "in_flight", "onset": 0.0, "peak": 5.0, "end": None, "level": 1.0, "baseline": 1.0,
            "causes": [], "quality": {"frames": 6, "baseline_frames": 360},
        },
        Report,
    )  # fmt: skip
    assert [part.title for part in parts(bare)] == ["What happened", "How good the data is"]
    assert "Requests in flight: 1.00 at the worst" in markdown(bare)


@given(st.text(max_size=60))
def test_no_name_leaves_its_place(name: str) -> None:
    """VIZ-04: whatever a record calls itself, it stays one code span on one line and in its cell, and no HTML."""
    report = full_report()
    cause = msgspec.structs.replace(report.causes[0], value=name, story=[], hosts=[name])
    victims = [msgspec.structs.replace(report.victims[0], value=name)]
    usual = markdown(full_report(causes=[msgspec.structs.replace(cause, value="x", hosts=["x"])]))
    told = markdown(full_report(causes=[cause], victims=victims))
    assert len(told.splitlines()) == len(usual.splitlines())
    row = next(found for found in told.splitlines() if found.startswith("| `") and "endpoint" in found)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    span = line([Text(shown(name), code=True)])
    fence = re.match(r"`*", span)
    assert fence is not None
    if fence[0]:
        inside = span[len(fence[0]) : -len(fence[0])]
        assert span.endswith(fence[0])
        assert fence[0] not in re.findall(r"`+", inside)


def test_plain_words_are_escaped() -> None:
    """VIZ-04: a verdict is no markup."""
    assert escaped("a*b_c [x](y) <i> `q` | # & ~") == r"a\*b\_c \[x\](y) \<i\> \`q\` \| \# \& \~"


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (load(0.0), "0.00"), (load(9.994), "9.99"), (load(9.996), "10.0"), (load(187.3), "187"),
        (load(1234.0), "1,234"),
        (percent(0.004), "< 1 %"), (percent(0.0), "0 %"), (percent(0.675), "68 %"), (duration(12.34), "12.3 ms"),
        (duration(999.6), "1 s"), (duration(59_949.0), "59.9 s"), (duration(192_000.0), "3 m 12 s"),
        (lasted(7.4), "7 s"),
        (lasted(3900.0), "1 h 05 m"), (shown("a\nb\x1b[31m\u202e"), "a b [31m "),
    ],
)  # fmt: skip
def test_figures(told: str, wanted: str) -> None:
    """Figures are short and never longer than they are exact."""
    assert told == wanted
