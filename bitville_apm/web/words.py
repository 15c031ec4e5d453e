"""Numbers as people read them: units chosen by size, three figures at most, no-break spaces. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from bitville_apm import limits

NOTHING = "\u2013"
_SPACE = "\u202f"
_UNSHOWN = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""Control characters, and those by which a text could show itself in another order than it has."""


def milliseconds(value: float | None) -> str:
    """A duration given in ms: 0.42 ms, 4.2 ms, 412 ms, 4.21 s, 42.1 s, 3 m 12 s, 2 h 5 m."""
    if value is None:
        return NOTHING
    if value < 999.5:
        return f"{_three(value)}{_SPACE}ms"
    seconds = value / 1000
    if seconds < 59.95:
        return f"{_three(seconds)}{_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}m {rest:02}{_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{_SPACE}h {minutes:02}{_SPACE}m"


def bytes_(value: float | None) -> str:
    """A size: 512 B, 4.2 KB, 38.1 MB, in units of 1024."""
    if value is None:
        return NOTHING
    if value < 0:
        return f"\u2212{bytes_(-value)}"
    for unit in ("B", "KB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f}{_SPACE}B" if unit == "B" else f"{_three(value)}{_SPACE}{unit}"
        value /= 1024
    return f"{value:,.0f}{_SPACE}TB"


def count(value: float | None) -> str:
    """A number of things: 12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def share(part: float | None, whole: float | None) -> str:
    """A part of a whole: 42 %, < 1 %."""
    if part is None or not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 1:
        return f"<{_SPACE}1{_SPACE}%"
    return f"{percent:.0f}{_SPACE}%"


def moment(at: float) -> str:
    """A time, for those whose browser does not put it in their own zone."""
    return f"{iso(at)[:19].replace('T', ' ')} UTC"


def level(value: float | None) -> str:
    """Load units: 0.42, 4.2, 42, 1,234."""
    return NOTHING if value is None else f"{value:,.0f}" if value >= 999.5 else _three(value)


def change(value: float) -> str:
    """What was added or taken away: +4.2, \u22120.42."""
    return f"{'+' if value >= 0 else chr(0x2212)}{level(abs(value))}"


def times(value: float | None) -> str:
    """How many times as much: 9.4\u00d7."""
    return NOTHING if value is None else f"{level(value)}\u00d7"


def iso(at: float) -> str:
    """A time for machines: ISO 8601, UTC, milliseconds. What no calendar has is the nearest that it has."""
    stamp = datetime.fromtimestamp(min(max(at, 0.0), 253402300799.0), timezone.utc)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03}Z"


def clean(text: str) -> str:
    """Text that can be shown: what HTML does not have, or what turns text around, becomes U+FFFD."""
    return _UNSHOWN.sub("\ufffd", text)


def cut(text: object, most: int = limits.FIELD_CHARACTERS) -> str:
    """Text of at most so many characters, saying how many more there are."""
    plain = str(text)
    return plain if len(plain) <= most else f"{plain[:most]} … ({len(plain) - most:,} more characters)"


def _three(value: float) -> str:
    if value < 0.005:
        return "0"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
