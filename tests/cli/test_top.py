"""The tables of `bitville top`; with a running collector and agent they are in test_spikes.py and tests/whole."""

from __future__ import annotations

from typing import Any

from bitville_apm.cli.top import live_lines, top_lines

SEEN = {
    "id": "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01", "endpoint": "GET /report/{id}", "pid": 4713, "age_s": 12.34,
    "state": "D", "cpu_s": 1.25, "queue_s": 0.5, "blocked_s": 9.0,
}  # fmt: skip
FRESH: dict[str, Any] = {**SEEN, "pid": None, "state": None, "cpu_s": None, "queue_s": None, "blocked_s": None}


def test_the_table() -> None:
    """Times with their unit, states in words, a dash for what nobody has looked at yet."""
    head, first, second, last = live_lines([SEEN, FRESH | {"age_s": 0.2}], 120)
    assert head.split() == ["AGE", "CPU", "QUEUED", "BLOCKED", "STATE", "PID", "ENDPOINT", "ID"]
    assert " ".join(first.split()) == f"12.3 s 1.2 s 0.5 s 9.0 s blocked 4713 GET /report/{{id}} {SEEN['id']}"
    assert second.split() == ["0.2", "s", "-", "-", "-", "?", "?", "GET", "/report/{id}", SEEN["id"]]
    assert last == "2 in flight"


def test_a_narrow_terminal_cuts_endpoints_only() -> None:
    """Ids stay whole, to be copied; escape sequences of a client never reach the terminal."""
    lines = list(live_lines([SEEN | {"endpoint": "GET /\x1b[31m" + "x" * 200}], 100))
    assert all(len(line) <= 100 for line in lines)
    assert str(SEEN["id"]) in lines[1]
    assert "…" in lines[1]
    assert "\x1b" not in lines[1]


def test_loads_are_over_what_is_known() -> None:
    """QUERY-01: just after the first start a load is that of the seconds there are data for, and the head says so; a
    collector that does not say how many these are is believed.
    """
    row = {"value": "GET /a", "running_s": 120.0, "blocked_s": 30.0, "requests": 9, "p95_ms": None, "errors": 0}
    top = {"dimension": "endpoint", "from": 0, "to": 3600, "widened": False, "items": [row]}
    young = list(top_lines([{**top, "known_s": 50.0}], 120))
    assert "1970-01-01 01:00:00 UTC, of which 50 s are known; LOAD" in young[0]
    assert young[-1].split()[:2] == ["3.00", "0.60"]
    for whole in ({**top, "known_s": 3550.0}, top):
        assert "known" not in next(iter(top_lines([whole], 120)))
    assert list(top_lines([top], 120))[-1].split()[:2] == ["0.04", "0.01"]
