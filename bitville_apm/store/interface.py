"""What collector, web and command line need of a store, and nothing more.

Every question takes the projects its caller may see: None for all of them, else their names; it is the one
place where projects are kept apart (STOR-04). Answers come as Deferreds; a question never waits for a writer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import Interface

from bitville_apm.cells import Cells
from bitville_apm.records import Frame, Postgres
from bitville_apm.requests import Request

Projects = frozenset[str] | None
Outcome = Literal["stored", "duplicate", "expired"]


class Arrival(Struct, frozen=True, kw_only=True):
    """One accepted record on its way into the store.

    `kind` is end, died, v1, frame or pg; `id` canonical; `recv_ms` unix ms, decides the UTC day (for a frame its
    own `at` does). `cells` are what the collector has to roll up itself: empty for what a frame counts. Exactly
    one of `request`, `frame` and `postgres` is set. `journal` is the sender's journal id, in which `seq` counts.
    """

    project: str
    kind: str
    id: str
    recv_ms: int
    host: str
    body: bytes
    client_id: str | None = None
    journal: str | None = None
    seq: tuple[int, int] | None = None
    cells: Cells = {}
    request: Request | None = None
    frame: Frame | None = None
    postgres: Postgres | None = None


class Search(Struct, frozen=True, kw_only=True):
    """The parameters of QUERY-02; None asks for nothing in particular.

    Times are unix seconds, durations ms. `source` is php_agent or postgres_agent. `url` is found anywhere in the
    URL, `%` stands for anything. `after` is the cursor of the page before; a wrong one raises `BadCursor`.
    """

    source: str | None = None
    correlation_id: str | None = None
    url: str | None = None
    endpoint: str | None = None
    status: int | None = None
    host: str | None = None
    release: str | None = None
    duration_min: float | None = None
    duration_max: float | None = None
    timestamp_start: float | None = None
    timestamp_end: float | None = None
    sort: Literal["duration", "time"] = "duration"
    after: str | None = None
    limit: int = 50


class BadCursor(ValueError):
    """`after` is no cursor that this search gave."""


class Found(Struct, frozen=True, kw_only=True):
    """One row of a search: wire.md 8. `at` is unix seconds of the start."""

    id: str
    project: str
    source: str
    at: float
    endpoint: str
    method: str
    url: str
    status: int | None
    duration_ms: float | None
    cpu_ms: float | None
    sql_count: int
    sql_ms: float
    memory_peak_bytes: int | None
    host: str
    release: str | None
    died: bool


class Page(Struct, frozen=True, kw_only=True):
    """Rows of a search, and the cursor that continues it (None at the end)."""

    items: list[Found]
    cursor: str | None


class Stored(Struct, frozen=True, kw_only=True):
    """One whole record: its row, what kind it is, when the agent had it, and the bytes it came as."""

    found: Found
    kind: str
    recv_ms: int
    client_id: str | None
    body: bytes


class TopRow(Struct, frozen=True, kw_only=True):
    """One value of a dimension over a range: wire.md 8, `top`."""

    value: str
    requests: int
    executions: int | None
    wall_ms: float
    cpu_ms: float
    queue_ms: float
    sql_ms: float
    running_s: float
    blocked_s: float
    waiting_s: float
    max_ms: float
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Point(Struct, frozen=True):
    """One value (or all of a dimension) in one minute or hour that begins at `at`, unix seconds."""

    at: int
    row: TopRow
    histogram: dict[int, int]


class Statistics(Struct, frozen=True, kw_only=True):
    """How many records are stored, and the time (unix seconds) of the oldest and the newest; None when empty."""

    requests: int
    observations: int
    oldest: float | None
    newest: float | None


class Cleaned(Struct, kw_only=True):
    """What cleaning up did: days (ISO dates) that were dropped, because their time was over or for want of space, and
    days whose hours were added up.
    """

    dropped: list[str] = []
    dropped_for_space: list[str] = []
    added_up: list[str] = []


class BackedUp(Struct, frozen=True, kw_only=True):
    """A copy of the store: the folder it is in, and each file's size in bytes."""

    folder: str
    files: dict[str, int]


class Framed(Struct, frozen=True, kw_only=True):
    """A frame, and whose it is."""

    project: str
    host: str
    frame: Frame


class Spike(Struct, frozen=True, kw_only=True):
    """A spike of one project on one or several hosts, as it is kept; times are unix seconds.

    `id` is its permanent link. `end` is None while it lasts, `level` and `baseline` are load units of `measure` at its
    worst and before. `signature` is the same for spikes of the same cause. `report` is the JSON of
    `analysis.report.Report`, `revision` how often it was written. `told`: what people were told of it, or will not be:
    0 nothing yet, 1 its beginning, 2 its end too; only `told_spike` changes it.
    """

    id: str
    project: str
    hosts: list[str]
    opened: float
    onset: float
    peak: float
    end: float | None
    measure: str
    level: float
    baseline: float
    kind: str
    verdict: str
    provisional: bool
    signature: str
    revision: int
    report: bytes
    told: int = 0


class Drifts(Struct, frozen=True, kw_only=True):
    """What the last night found of a project's slow drifts.

    `day` is the beginning of the newest day that was compared, `made` when; unix seconds. `days`: so many days there
    were to compare. `found` is the JSON list of `analysis.baseline.Regression`, the dearest first; `left_out` more of
    them there were.
    """

    project: str
    day: float
    made: float
    days: int
    left_out: int
    found: bytes


class Load(Struct, frozen=True, kw_only=True):
    """What one host ran in a step of time that begins at `at`, unix seconds.

    `tasks`, `db` and `in_flight` are the frame's series of seconds (wire.md 6): their mean, and the most in one second.
    `blocked` is how many of the tasks were blocked, on average, `load1` the kernel's load average at its highest. None
    where nobody looked.
    """

    at: int
    host: str
    cores: int | None
    tasks: float | None
    tasks_most: float | None
    blocked: float | None
    db: float | None
    db_most: float | None
    in_flight: float | None
    in_flight_most: float | None
    load1: float | None


class IStore(Interface):
    """See the module. A question that takes too long fails with `TooSlow`."""

    def write(batch: Sequence[Arrival]) -> Deferred[Sequence[Outcome]]:
        """Store a batch, one transaction a day; fires after the commit, with one outcome an arrival, in order.

        The same (project, id) again is a duplicate and changes nothing; but an `end` takes the place of a
        `died`. Fails with `NoSpace` when the disk is full: then nothing of the batch may be taken for stored, and
        what one of two days already took will be a duplicate.
        """

    def search(projects: Projects, search: Search) -> Deferred[Page]:
        """Records that match, slowest or newest first."""

    def request(projects: Projects, id: str) -> Deferred[Stored | None]:
        """One record by its canonical id; None when there is none that the caller may see."""

    def top(
        projects: Projects, dimension: str, start: float, end: float, host: str | None, limit: int
    ) -> Deferred[Sequence[TopRow]]:
        """The values of a dimension between two unix times (whole minutes), heaviest first.

        A range beyond `limits.MINUTES_WINDOW_S` is answered by whole hours. Of days that are no longer kept there
        are hours only: those that lie wholly in the range count.
        """

    def series(
        projects: Projects, dimension: str, value: str | None, start: float, end: float, host: str | None
    ) -> Deferred[Sequence[Point]]:
        """One value of a dimension, or None for all of them together, minute by minute in order of time.

        By hours and of days gone as `top`. Minutes in which nothing was are left out.
        """

    def load(projects: Projects, start: float, end: float, step: int, host: str | None) -> Deferred[Sequence[Load]]:
        """What each host ran between two unix times, by host and time, in steps of so many seconds.

        `step` divides a minute, or is minutes that divide an hour; steps begin at its multiples, and are whole.
        Frames of one host and second never add: the largest number counts. Several projects tell of the same host and
        do not add either: of each series the one counts that knows more seconds of a step, then the larger. Kept as
        long as days are.
        """

    def statistics(projects: Projects) -> Deferred[Statistics]:
        """How many records there are."""

    def correlated(projects: Projects, id: str) -> Deferred[Sequence[Stored]]:
        """What Postgres was seen doing for the request of this canonical id: oldest first, `limits.CORRELATED` at
        most."""

    def frames(
        projects: Projects,
        start: float,
        end: float,
        host: str | None,
        cells: bool = True,
        columns: Collection[str] | None = None,
    ) -> Deferred[Sequence[Framed]]:
        """The frames whose `at` is in [start, end), in the order of their `at`.

        Without `cells` they come without cells and links, ten times sooner: enough for load over time. With some
        `columns` of the cells only they take half the time and less than half of the memory.
        """

    def keep_spike(spike: Spike) -> Deferred[None]:
        """Keep a spike, in the place of an earlier revision of the same id; an older revision changes nothing."""

    def told_spike(id: str, told: int) -> Deferred[None]:
        """Note what people were told of a spike (`Spike.told`). Less than is noted changes nothing."""

    def spikes(
        projects: Projects, start: float, end: float, host: str | None, limit: int, signature: str | None = None
    ) -> Deferred[Sequence[Spike]]:
        """The spikes that lasted into [start, end), newest onset first, with an empty `report`.

        `host`: those that were seen there; `signature`: those of the same cause.
        """

    def spike(projects: Projects, id: str) -> Deferred[Spike | None]:
        """One spike with its report; None when there is none that the caller may see."""

    def keep_drifts(drifts: Drifts) -> Deferred[None]:
        """Keep what a night found of a project, in the place of what is kept: also of a day that a wrong clock told."""

    def drifts(projects: Projects) -> Deferred[Sequence[Drifts]]:
        """What the last night found of each project that had one, by name."""

    def projects(projects: Projects) -> Deferred[Sequence[str]]:
        """The names of the projects that have anything, of those the caller may see."""

    def hosts(projects: Projects) -> Deferred[Sequence[str]]:
        """The names of the hosts that sent anything."""

    def clean_up() -> Deferred[Cleaned]:
        """Drop what is no longer kept (STOR-02). One call at a time."""

    def back_up() -> Deferred[BackedUp]:
        """Copy everything into a new folder beside it, while records are written. One call at a time.

        Fails with `NoSpace` where the copy would not fit.
        """

    def health() -> Mapping[str, Any]:
        """For `/ready`: `ok`, and what is wrong in `problems`; sizes and counts. May look at the disk: blocks."""


class NoSpace(Exception):
    """The disk is full: nothing was stored, the sender keeps its records and comes back."""


class TooSlow(Exception):
    """A question took longer than `limits.READ_S` and was given up: ask for less."""
