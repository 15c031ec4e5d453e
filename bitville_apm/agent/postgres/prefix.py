"""A server's `log_line_prefix` as a pattern that reads it back. Pure.

Any prefix that a manual allows is taken, with padding (`%-6p`) and `%q`; what it does not hold is not known of a line.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_ESCAPE = re.compile(r"%(-?\d+)?([a-zA-Z%])")
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_PARTS = {
    "a": "(?P<application>.*?)",
    "u": "(?P<user>.*?)",
    "d": "(?P<database>.*?)",
    "r": r"\S*?",
    "h": r"\S*?",
    "L": r"\S*?",
    "b": "(?P<kind>.*?)",
    "p": r"(?P<pid>\d+)",
    "P": r"\d*",
    "t": rf"(?P<time>{_TIME} [-+A-Za-z0-9:/_]+)",
    "m": rf"(?P<time>{_TIME}\.\d+ [-+A-Za-z0-9:/_]+)",
    "n": r"(?P<epoch>\d+\.\d+)",
    "i": ".*?",
    "e": "(?P<sqlstate>[0-9A-Z]{5})",
    "c": r"[0-9a-f]+\.[0-9a-f]+",
    "l": r"\d+",
    "s": rf"{_TIME} [-+A-Za-z0-9:/_]+",
    "v": r"\S*?",
    "x": r"\d*",
    "Q": r"(?P<query_id>-?\d+)",
}
_WORD = r"(?P<word>[A-Z]+[0-9]?):  (?P<rest>.*)"
_STAMP = re.compile(rf"({_TIME})(\.\d+)? (\S+)\Z")
_OFFSET = re.compile(r"([-+])(\d\d)(?::?(\d\d))?\Z")


def compiled(prefix: str) -> re.Pattern[str]:
    """The first line of a message: groups `word` (LOG, DETAIL …), `rest`, and what the prefix holds."""
    pattern, used, optional, position = "", set[str](), False, 0
    for escape in _ESCAPE.finditer(prefix):
        pattern += re.escape(prefix[position : escape.start()])
        position = escape.end()
        padding, letter = escape[1], escape[2]
        if letter == "q":
            if not optional:
                pattern, optional = pattern + "(?:", True
            continue
        part = re.escape("%") if letter == "%" else _PARTS.get(letter, "")
        if letter in used or (letter == "m" and "t" in used) or (letter == "t" and "m" in used):
            part = re.sub(r"\(\?P<\w+>", "(?:", part)
        used.add(letter)
        pattern += f" *{part} *" if padding else part
    pattern += re.escape(prefix[position:])
    # A process without a session leaves out what stands behind %q, and so trailing spaces too.
    return re.compile(f"{pattern}{')?' if optional else ''}{_WORD}", re.DOTALL)


def unix(stamp: str | None) -> float | None:
    """A time as logs write it; None in a zone whose letters say nothing to us."""
    found = _STAMP.match(stamp or "")
    if not found:
        return None
    offset = _OFFSET.match(found[3])
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        zone = timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    elif found[3] in ("UTC", "GMT", "Z"):
        zone = timezone.utc
    else:
        return None
    try:
        at = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone).timestamp()
    except ValueError:
        return None
    return at + float(found[2] or 0)
