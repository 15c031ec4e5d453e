"""Reading the parameters of a URL: each by its kind, a wrong or unknown one refused by name (QUERY-02)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Literal, cast

from twisted.web.server import Request

from bitville_apm import limits
from bitville_apm.http import HttpProblem
from bitville_apm.records import canonical_id
from bitville_apm.store.interface import Search

SOURCES = ("php_agent", "postgres_agent")
SORTS = ("duration", "time")
REPORT_FORMATS = ("json", "md")
SPANS = {"15m": 900, "1h": 3600, "6h": 6 * 3600, "24h": 86_400, "7d": 7 * 86_400}
"""What `last` may say on a page, in seconds; `all` is everything kept."""

_UNIX = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?\Z")
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.(?:\d{3}){1,2})?)?(Z|[+-]\d\d:\d\d)?)?\Z", re.IGNORECASE
)


def wrong(field: str, problem: str) -> HttpProblem:
    """The answer to a wrong parameter."""
    return HttpProblem(400, f"parameter {field}: {problem}", [{"field": field, "problem": problem}])


class Parameters:
    """The parameters of one URL. Each is taken by its reader; `done` refuses what nobody took.

    Forms send their empty fields too: with `forms` an empty value is as good as none.
    """

    def __init__(self, args: Mapping[bytes, Sequence[bytes]], forms: bool = False) -> None:
        self._left: dict[str, list[str]] = {}
        for name, values in args.items():
            kept = [value.decode("utf-8", "replace") for value in values if value or not forms]
            if kept:
                self._left[name.decode("utf-8", "replace")] = kept

    @classmethod
    def of(cls, request: Request, forms: bool = False) -> Parameters:
        """The parameters of a request."""
        return cls(request.args, forms)

    def given(self, name: str) -> bool:
        """Whether it is there and nobody took it yet."""
        return name in self._left

    def text(self, name: str, longest: int = limits.PARAMETER_CHARACTERS) -> str | None:
        """Some text."""
        values = self._left.pop(name, None)
        if values is None:
            return None
        if len(values) > 1:
            raise wrong(name, "given more than once")
        if not values[0] or len(values[0]) > longest:
            raise wrong(name, "empty" if not values[0] else f"longer than {longest} characters")
        return values[0]

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of a few words."""
        value = self.text(name)
        if value is not None and value not in choices:
            raise wrong(name, f"not one of {', '.join(choices)}")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds, both included."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise wrong(name, f"not a whole number from {low} to {high}")
        return int(value)

    def number(self, name: str) -> float | None:
        """A number not below zero."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise wrong(name, "not a number of zero or more")
        return number

    def window(self, name: str) -> tuple[float, float] | None:
        """Two times separated by a comma, the second one later."""
        value = self.text(name)
        if value is None:
            return None
        start, comma, end = value.partition(",")
        if not comma:
            raise wrong(name, "two times are wanted, from,to")
        times = _moment(name, start.strip()), _moment(name, end.strip())
        if times[1] <= times[0]:
            raise wrong(name, "its end is not after its begin")
        return times

    def moment(self, name: str) -> float | None:
        """A time: unix seconds, or ISO 8601 (UTC where it names no zone); gives unix seconds."""
        value = self.text(name)
        return None if value is None else _moment(name, value)

    def done(self) -> None:
        """Everything was asked for: what is left nobody knows."""
        for name in self._left:
            raise wrong(name[: limits.PARAMETER_CHARACTERS], "unknown parameter")


def _moment(name: str, value: str) -> float:
    if _UNIX.match(value):
        return float(value)
    try:
        if not _ISO.match(value):
            raise ValueError(value)
        read = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", value))
        seconds = (read if read.tzinfo else read.replace(tzinfo=timezone.utc)).timestamp()
        if seconds < 0:
            raise ValueError(value)
    except (ValueError, OverflowError):
        raise wrong(name, "neither unix seconds nor a time like 2026-01-31T14:03:00Z") from None
    return seconds


def ordered(low_name: str, low: float | None, high_name: str, high: float | None) -> None:
    """Refuse a range that ends before it begins."""
    if low is not None and high is not None and high < low:
        raise wrong(high_name, f"below {low_name}")


def search_of(parameters: Parameters) -> tuple[str | None, Search]:
    """The project and the search that `/api/search` was asked for (QUERY-02); all parameters are used up."""
    project = parameters.text("project")
    given_id = parameters.text("correlation_id")
    search = Search(
        source=parameters.choice("source", SOURCES),
        correlation_id=canonical_id(given_id) if given_id is not None else None,
        url=parameters.text("url"),
        endpoint=parameters.text("endpoint"),
        status=parameters.whole("status", 0, 999),
        host=parameters.text("host"),
        release=parameters.text("release"),
        duration_min=parameters.number("duration_min"),
        duration_max=parameters.number("duration_max"),
        timestamp_start=parameters.moment("timestamp_start"),
        timestamp_end=parameters.moment("timestamp_end"),
        sort=cast(Literal["duration", "time"], parameters.choice("sort", SORTS) or "duration"),
        after=parameters.text("after"),
        limit=parameters.whole("limit", 1, limits.SEARCH_LIMIT) or limits.SEARCH_DEFAULT,
    )
    ordered("duration_min", search.duration_min, "duration_max", search.duration_max)
    ordered("timestamp_start", search.timestamp_start, "timestamp_end", search.timestamp_end)
    parameters.done()
    return project, search
