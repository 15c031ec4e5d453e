"""What every page has in its URL, so that one link carries it to the next: project, host and time range. Pure."""

from __future__ import annotations

import math
from urllib.parse import quote, urlencode

import attrs

from bitville_apm.web import words
from bitville_apm.web.parameters import SPANS, Parameters, ordered
from bitville_apm.web.ranges import Range, range_of

DEFAULT_SPAN = "1h"
SPAN_NAMES = {"15m": "15 min", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days"}


def url(path: str, **parameters: object) -> str:
    """An address of ours; parameters that are None are left out, `from_` and the like lose their underscore."""
    given = {name.rstrip("_"): str(value) for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def request_url(id: str, ending: str = "") -> str:
    """Where one request is shown."""
    return f"/requests/{quote(id, safe='')}{ending}"


def spike_url(id: str, ending: str = "") -> str:
    """Where a spike is shown: its permanent link."""
    return f"/spikes/{quote(id, safe='')}{ending}"


@attrs.frozen
class Scope:
    """What of all data a page looks at. Either `last` is set, a name of `SPANS`, or `start` and perhaps `end`."""

    project: str | None = None
    host: str | None = None
    last: str | None = DEFAULT_SPAN
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, parameters: Parameters, span: str = DEFAULT_SPAN) -> Scope:
        """Take the scope out of a page's parameters; `span` is what it looks at when nobody says."""
        project, host = parameters.text("project"), parameters.text("host")
        start, end = parameters.moment("from"), parameters.moment("to")
        last = parameters.choice("last", list(SPANS))
        ordered("from", start, "to", end)
        if start is None and end is None:
            return cls(project, host, last or span)
        return cls(project, host, None, start, end)

    def window(self, now: float) -> tuple[float | None, float | None]:
        """From when to when, unix seconds; None on a side that is open."""
        if self.last is not None:
            return now - SPANS[self.last], None
        return self.start, self.end

    def range(self, now: float) -> Range:
        """The range that rolls can answer."""
        if self.last is not None:
            end = math.ceil(now / 60) * 60
            return range_of(end - SPANS[self.last], end, now)
        return range_of(self.start, self.end, now)

    def fixed(self, now: float) -> Scope:
        """The same window by its times, so that a link to it stays what it is."""
        start, end = self.window(now)
        return attrs.evolve(self, last=None, start=start, end=now if end is None else end)

    def parameters(self) -> dict[str, object]:
        """For `url`: only what differs from the default."""
        return {
            "project": self.project,
            "host": self.host,
            "last": None if self.last == DEFAULT_SPAN else self.last,
            "from": None if self.start is None else words.iso(self.start),
            "to": None if self.end is None else words.iso(self.end),
        }

    def url(self, path: str, **more: object) -> str:
        """An address within this scope."""
        return url(path, **{**self.parameters(), **more})

    def words(self) -> str:
        """The range, for a heading that begins "in"; fixed times are told by their own elements."""
        return f"the last {SPAN_NAMES[self.last].removeprefix('1 ')}" if self.last is not None else "this range"
