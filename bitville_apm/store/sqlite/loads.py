"""What a host ran, second by second: a row a minute, with the sums that a chart of a week is made of.

Frames of one host and window fill each other's gaps, and several projects tell of the same host: nothing here adds
up over frames or projects. Of one second the largest number told counts, so that their order does not matter.
"""

from __future__ import annotations

import array
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.records import Frame
from bitville_apm.store.interface import Load

SERIES = ("tasks", "blocked", "db", "in_flight", "load1")
"""In the order in which a row's `seconds` has them: 60 numbers each, in tenths, `_UNKNOWN` where nobody looked."""
_OF_SECONDS = ("tasks", "db", "in_flight")
_OF_WINDOW = ("blocked", "load1")
_UNKNOWN = 0xFFFF
_MINUTE = 60
_SUMS = [f"{name}_{kind}" for name in SERIES for kind in ("n", "sum", "max")]
_WHERE = "project = ?1 AND minute >= ?2 AND minute < ?3 AND (?4 IS NULL OR host = ?4)"
_REPLACE = (
    f"INSERT OR REPLACE INTO load (project, minute, host, cores, seconds, {', '.join(_SUMS)})"  # noqa: S608 - our names
    f" VALUES ({', '.join('?' * (5 + len(_SUMS)))})"
)
_STEPS = (
    "SELECT host, minute / ?5, max(cores), "  # noqa: S608
    + ", ".join(f"sum({name}_n), sum({name}_sum), max({name}_max)" for name in SERIES)
    + f" FROM load WHERE {_WHERE} GROUP BY host, minute / ?5"
)
_SECONDS = f"SELECT host, minute, cores, seconds FROM load WHERE {_WHERE}"  # noqa: S608

Key = tuple[str, int]
"""Host, and the step's begin in unix seconds."""


@attrs.frozen
class Sum:
    """Of one series in one step: how many seconds are known, their sum and the largest."""

    n: int = 0
    sum: float = 0.0
    most: float = 0.0

    @property
    def mean(self) -> float | None:
        """None where nothing is known."""
        return self.sum / self.n if self.n else None


@attrs.frozen
class Step:
    """What one project told of one host in one step."""

    cores: int | None
    sums: Sequence[Sum]

    def or_better(self, other: Step) -> Step:
        """Of each series the one that knows more seconds, then the larger: both tell of the same host."""
        pairs = zip(self.sums, other.sums, strict=True)
        best = [max(pair, key=lambda one: (one.n, one.sum, one.most)) for pair in pairs]
        return Step(max(self.cores or 0, other.cores or 0) or None, best)

    def load(self, host: str, at: int) -> Load:
        """As it is answered."""
        tasks, blocked, db, in_flight, load1 = self.sums
        return Load(
            at=at,
            host=host,
            cores=self.cores,
            tasks=tasks.mean,
            tasks_most=tasks.most if tasks.n else None,
            blocked=blocked.mean,
            db=db.mean,
            db_most=db.most if db.n else None,
            in_flight=in_flight.mean,
            in_flight_most=in_flight.most if in_flight.n else None,
            load1=load1.most if load1.n else None,
        )


def add(db: sqlite3.Connection, project: int, host: int, frame: Frame) -> None:
    """Add what a frame says of its host, within the caller's transaction."""
    cores = _number(frame.load.get("cores"))
    for minute, told in _told(frame).items():
        key = (project, minute, host)
        row = db.execute(
            "SELECT cores, seconds FROM load WHERE project = ? AND minute = ? AND host = ?", key
        ).fetchone()
        held = array.array("H", row[1]) if row else array.array("H", [_UNKNOWN]) * (_MINUTE * len(SERIES))
        for place, value in told:
            if held[place] == _UNKNOWN or held[place] < value:
                held[place] = value
        known = max(int(min(cores or 0, limits.INTEGER_MAX)), (row[0] or 0) if row else 0) or None
        sums = [part for one in _sums(held, 0, _MINUTE) for part in (one.n, one.sum, one.most)]
        db.execute(_REPLACE, (*key, known, held.tobytes(), *sums))


def _told(frame: Frame) -> dict[int, list[tuple[int, int]]]:
    """By minute: places in a row's `seconds`, and what is to be there."""
    series = {name: frame.seconds.get(name, [])[: limits.WINDOW_S] for name in _OF_SECONDS}
    looked = sorted({i for values in series.values() for i, value in enumerate(values) if _number(value) is not None})
    told: dict[int, list[tuple[int, int]]] = {}
    for number, name in enumerate(SERIES):
        whole = _number(frame.load.get(name)) if name in _OF_WINDOW else None
        for i in looked:
            value = whole if name in _OF_WINDOW else _number(series[name][i]) if i < len(series[name]) else None
            if value is not None:
                minute, second = divmod(int(frame.at) + i, _MINUTE)
                told.setdefault(minute, []).append((number * _MINUTE + second, min(round(value * 10), _UNKNOWN - 1)))
    return told


def _number(value: Any) -> float | None:
    """A count that a frame holds; None for whatever is none."""
    return value if type(value) in (int, float) and 0 <= value < math.inf else None


def _sums(seconds: array.array[int], first: int, behind: int) -> list[Sum]:
    found = []
    for start in range(0, len(seconds), _MINUTE):
        known = [value for value in seconds[start + first : start + behind] if value != _UNKNOWN]
        found.append(Sum(len(known), sum(known) / 10, max(known, default=0) / 10))
    return found


def steps(
    db: sqlite3.Connection,
    project: int,
    start: float,
    end: float,
    step: int,
    host: int | None,
    names: Mapping[int, str],
) -> Iterable[tuple[Key, Step]]:
    """What one project of one day told of its hosts, by step: `step` seconds, a part of a minute or whole minutes.

    Raises `ValueError` or `LookupError` where a row is damaged.
    """
    every = max(1, step // _MINUTE)
    first, behind = int(start // (60 * every)) * every, int(-(-end // (60 * every))) * every
    if step >= _MINUTE:
        for number, at, cores, *columns in db.execute(_STEPS, (project, first, behind, host, every)):
            sums = [Sum(n, total, most or 0.0) for n, total, most in zip(*[iter(columns)] * 3, strict=True)]
            yield (names[number], at * 60 * every), Step(cores, sums)
        return
    for number, minute, cores, packed in db.execute(_SECONDS, (project, first, behind, host)):
        seconds = array.array("H", packed)
        if len(seconds) != _MINUTE * len(SERIES):
            raise ValueError("a minute of another length")
        for second in range(0, _MINUTE, step):
            at = minute * 60 + second
            if start - step < at < end:
                sums = _sums(seconds, second, second + step)
                if any(one.n for one in sums):
                    yield (names[number], at), Step(cores, sums)


def together(found: Iterable[tuple[Key, Step]]) -> list[Load]:
    """What several projects told, one row a host and step, by host and time."""
    best: dict[Key, Step] = {}
    for key, step in found:
        held = best.get(key)
        best[key] = step if held is None else held.or_better(step)
    return [step.load(host, at) for (host, at), step in sorted(best.items(), key=lambda item: item[0])]
