"""What an explanation says, as values: the JSON of the API, and what pages, command line and alerts show (wire.md 8).

Levels, baselines and parts are load units: task-seconds per second, what a load average counts. Times are unix
seconds, shares 0 to 1.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Measure = Literal["tasks", "db", "in_flight"]
"""Which of a host's three series rose: running and blocked tasks, active database sessions, requests in flight."""

Mechanism = Literal[
    "traffic",
    "n+1",
    "regression",
    "killer request",
    "crawler",
    "stampede",
    "deploy",
    "not php",
    "memory pressure",
    "lock",
    "external",
    "pool",
    "unclear",
]


class Step(Struct, frozen=True, kw_only=True):
    """One value of a story: a dimension of wire.md 6 and its value."""

    dimension: str
    value: str


class Factor(Struct, frozen=True, kw_only=True):
    """One factor of a level: `n` requests a second, `q` executions a request, `c` task-seconds an execution.

    `part` is what its change contributed, load units; the parts of a cause add up to its rise.
    """

    before: float
    after: float
    part: float


class Cause(Struct, frozen=True, kw_only=True):
    """One story: its strongest value, and the chain in `story` (client → endpoint → function → statement → blocker).

    `level` and `baseline` are what it consumed, on a CPU or blocked; of waiting, what was in flight. `share` is the
    part of the rise it explains, `lift` its share of all now over its share before (None: it was not
    there before).
    """

    dimension: str
    value: str
    score: float
    share: float
    lift: float | None
    confidence: float
    level: float
    baseline: float
    mechanism: Mechanism
    factors: dict[str, Factor] = {}
    story: list[Step] = []
    hosts: list[str] = []


class Victim(Struct, frozen=True, kw_only=True):
    """Slower while it lasted, but not because of anything it did: `wall_ms` a request, before and during."""

    dimension: str
    value: str
    requests: int
    wall_ms_before: float | None
    wall_ms: float


class Part(Struct, frozen=True, kw_only=True):
    """Who ran: `kind` php, postgres, process, or unknown for what no look could name."""

    kind: Literal["php", "postgres", "process", "unknown"]
    name: str
    running: float
    blocked: float


class Split(Struct, frozen=True, kw_only=True):
    """What one host ran during the spike, by who ran it. `pressure`: percent of the time, as in the frame's `psi`."""

    host: str
    running: float
    blocked: float
    baseline_running: float
    baseline_blocked: float
    cores: int | None
    load1: float | None
    coverage: float
    pressure: dict[str, float] = {}
    parts: list[Part] = []


class Example(Struct, frozen=True, kw_only=True):
    """A request to look at, and why: slowest, median or died."""

    why: Literal["slowest", "median", "died"]
    id: str
    at: float
    host: str
    endpoint: str
    method: str
    url: str
    status: int | None
    duration_ms: float


class Flying(Struct, frozen=True, kw_only=True):
    """A request that ran at the worst second; `age_ms` then."""

    id: str
    endpoint: str
    host: str
    age_ms: float


class Waits(Struct, frozen=True, kw_only=True):
    """Database sessions by what they waited for: a wait class, session-seconds per second now and before."""

    wait: str
    level: float
    baseline: float


class Blocking(Struct, frozen=True, kw_only=True):
    """One session of the lock tree at the worst second; `depth` 0 is a root. `blocked` sessions stand behind it."""

    depth: int
    session: str
    state: str
    statement: str
    blocked: int


class Change(Struct, frozen=True, kw_only=True):
    """Something that was not there before: a release, statement, client or process."""

    dimension: str
    value: str
    level: float


class Quality(Struct, frozen=True, kw_only=True):
    """How far the data can be trusted: seconds without a look, hosts that said nothing, clocks ahead (+) in seconds."""

    frames: int
    baseline_frames: int
    lost_looks: float = 0.0
    silent: list[str] = []
    clock_skew_s: dict[str, float] = {}
    notes: list[str] = []


class Before(Struct, frozen=True, kw_only=True):
    """An earlier spike with the same signature."""

    id: str
    onset: float
    verdict: str


class Report(Struct, frozen=True, kw_only=True):
    """What happened. `verdict` is one sentence for a person; `kind` none: nothing rose.

    `onset` is the last second before the rise, `opened` when the trigger fired, `end` None while it lasts. `level` and
    `baseline` are of `measure` at the peak and before. `provisional` until the functions of long requests have
    arrived. `coverage` is the share of the rise that causes explain, `unexplained` the rest. Of what frames cannot
    tell, `examples`, `in_flight`, `locks`, `quality` in part and `seen_before` are the collector's.
    """

    verdict: str
    kind: Literal["load", "waiting", "none"]
    provisional: bool
    coverage: float
    unexplained: float
    measure: Measure
    onset: float
    peak: float
    end: float | None
    opened: float | None = None
    level: float
    baseline: float
    causes: list[Cause]
    victims: list[Victim] = []
    split: list[Split] = []
    waits: list[Waits] = []
    changes: list[Change] = []
    ruled_out: list[str] = []
    quality: Quality
    signature: str = ""
    examples: list[Example] = []
    in_flight: list[Flying] = []
    locks: list[Blocking] = []
    seen_before: list[Before] = []
