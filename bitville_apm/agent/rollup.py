"""The open frames of one pipeline: what the journal took and what looks saw, added up by window (wire.md 6). Pure.

An *epoch* is what one sealing covers: the records of one run of the journal, in its order and without gaps, that
came while a window of ten seconds was the current one. Most of them ended in that window; those that ended earlier
go into late parts. A record belongs to the next epoch if it came after the end of the window, or once the next
epoch has begun.

    record ─▶ last epoch ─▶ its window, or an older one ─┐
    look ───▶ last epoch ─▶ the current window           ├─ due ─▶ frames, one a window, all or none
    (epochs before it wait to be written, oldest first) ─┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import attrs

from bitville_apm import cells, limits
from bitville_apm.agent import frames
from bitville_apm.agent.frames import Kept, Part, Said
from bitville_apm.agent.inflight import Open
from bitville_apm.agent.links import Key
from bitville_apm.agent.lived import Lived
from bitville_apm.agent.load import Load
from bitville_apm.agent.segment import Place
from bitville_apm.agent.window import Window, window_of
from bitville_apm.cells import Looked, Tables
from bitville_apm.profile import Own
from bitville_apm.requests import Request

PHP_OUTSIDE = "~php"
"""The endpoint of PHP processes that are in no request."""


@attrs.frozen
class Task:
    """What one look saw of one process: in a begun request, or (None) of PHP outside one."""

    request: Open | None
    spent: Looked


@attrs.define(eq=False)
class Epoch:
    """`at` is its own window, `opened` monotonic seconds, `first` and `last` the records it covers.

    One that is closed takes nothing more, so that another thread may write it.
    """

    at: int
    opened: float
    windows: dict[int, Window] = attrs.Factory(dict)
    first: Place | None = None
    last: Place | None = None
    closed: bool = False
    _counted: int = 0

    @property
    def requests(self) -> int:
        """How many requests it counts."""
        return self._counted if self.closed else sum(window.requests for window in self.windows.values())

    def close(self) -> None:
        """It takes nothing more."""
        if not self.closed:
            self._counted, self.closed = self.requests, True

    @property
    def end(self) -> int:
        """When its own window ends."""
        return self.at + limits.WINDOW_S

    @property
    def full(self) -> bool:
        """Whether it touches as many windows as are added up at once."""
        return len(self.windows) >= limits.WINDOWS_HELD

    def takes(self, at: float, run: int | None) -> bool:
        """Whether something that came at `at` (unix seconds) belongs to it; of a record also its run decides."""
        same_run = run is None or self.first is None or self.first[0] == run
        return at < self.end and same_run and not self.full and not self.closed

    def window(self, at: int) -> Window:
        """One of its windows."""
        found = self.windows.get(at)
        if found is None:
            found = self.windows[at] = Window(at)
        return found

    def covers(self, place: Place) -> None:
        """A record is in it."""
        self.first = self.first or place
        self.last = place


@attrs.define(eq=False)
class Rollup:
    """Times are unix seconds, `steady` seconds of a clock that nobody can set.

    `covered` is the place up to which frames are written, `forgotten` counts seconds of looks that no disk
    would take.
    """

    epochs: deque[Epoch] = attrs.Factory(deque)
    forgotten: int = 0
    covered: Place = (0, 0)
    _lived: dict[str, Lived] = attrs.Factory(dict)
    _died: dict[str, tuple[float, int]] = attrs.Factory(dict)
    _kept: Kept = attrs.Factory(dict)

    # --- adding ---------------------------------------------------------------------------------------------

    def record(self, request: Request, functions: Sequence[Own], place: Place, received: float, steady: float) -> int:
        """A finished request that the journal has taken. In the order of their places.

        Gives back how many requests that adds: none when its death was counted already.
        """
        epoch = self._epoch(received, steady, place[0])
        epoch.covers(place)
        ended = min(max(request.end, received - limits.END_BEFORE_RECV_S), received)
        window = epoch.window(window_of(ended))
        died = self._died.pop(request.id, None)
        lived = self._lived.pop(request.id, None)
        if request.died:
            self._died[request.id] = (received, round(request.ms * 1000))
        if died is not None:
            window.merge(_without_death(request, died[1], lived))
        elif lived is None:
            window.add(request, functions)
        else:
            window.add(request, functions, lived.given)
        if lived is not None:
            lived.ended(request)
            self._spread(epoch, lived, request, functions, window.at)
        return 0 if died is not None else 1

    def passed(self, place: Place, received: float, steady: float) -> None:
        """A record that counts nowhere; it is covered like the others."""
        self._epoch(received, steady, place[0]).covers(place)

    def look(
        self, now: float, steady: float, elapsed: float, tasks: Sequence[Task], counted: Mapping[str, float]
    ) -> None:
        """One look at all processes of this pipeline, `elapsed` seconds after the one before.

        `counted` are the host's numbers of this second (`seconds` of the frame).
        """
        window = self._epoch(now, steady).window(window_of(now))
        window.secs = min(limits.WINDOW_S, window.secs + elapsed)
        window.second(now, counted)
        missed = round(elapsed) - 1
        if missed > 0:
            window.lost["looks"] = window.lost.get("looks", 0) + missed
        for task in tasks:
            request = task.request
            if request is None:
                cells.add_looked(cells.cell(window.tables, "endpoint", PHP_OUTSIDE), task.spent)
                continue
            lived = self._lived.get(request.id)
            if lived is None:
                lived = self._lived[request.id] = Lived(request.id, ())
            lived.begun(request.begin, request.route)
            lived.seen = now
            window.look(lived, task.spent)

    def before(self, request: Open, spent: Looked) -> None:
        """What a request had taken before the process before this one ended; that one has counted it."""
        self._lived.setdefault(request.id, Lived(request.id, ())).had(spent)

    def seen_of(self, id_: str) -> Looked | None:
        """What looks have seen of a request so far."""
        lived = self._lived.get(id_)
        return lived.given if lived is not None else None

    def load(self, now: float, steady: float) -> Load:
        """The `load` of the window of now, to add to."""
        return self._window(now, now, steady).load

    def second(self, now: float, steady: float, numbers: Mapping[str, float]) -> None:
        """What was counted in this second (the frame's `seconds`)."""
        self._window(now, now, steady).second(now, numbers)

    def lost(self, now: float, steady: float, **numbers: float) -> None:
        """What is missing from the window (the frame's `lost`)."""
        lost = self._window(now, now, steady).lost
        for name, number in numbers.items():
            lost[name] = lost.get(name, 0) + number

    def cells(self, at: float, now: float, steady: float, tables: Tables) -> None:
        """Add columns to values in the window of `at`."""
        self._window(at, now, steady).merge(tables)

    def link(
        self, at: float, now: float, steady: float, key: Key, requests: int, executions: int | None, task_us: int
    ) -> None:
        """Two values go together in the window of `at`."""
        self._window(at, now, steady).links.link(key, requests, executions, task_us)

    def _window(self, at: float, now: float, steady: float) -> Window:
        return self._epoch(now, steady).window(window_of(at))

    def _epoch(self, at: float, steady: float, run: int | None = None) -> Epoch:
        if not self.epochs or not self.epochs[-1].takes(at, run):
            self.epochs.append(Epoch(window_of(at), steady))
        return self.epochs[-1]

    def _spread(self, epoch: Epoch, lived: Lived, request: Request, functions: Sequence[Own], end_at: int) -> None:
        """The functions of a request that looks have seen, in each window it lived in."""
        rest = Looked(
            max(0, (request.cpu_us or 0) - lived.given.cpu_us), max(0, (request.queue_us or 0) - lived.given.queue_us)
        )
        for at, own, spent in lived.spread(functions, rest, end_at):
            epoch.window(at).functions(request.endpoint, own, spent, at == end_at)

    # --- sealing --------------------------------------------------------------------------------------------

    def due(self, now: float, steady: float) -> Epoch | None:
        """The oldest epoch, when it is time to write it; it is closed then.

        A clock that was set is no reason to wait: an epoch is not open longer than its window lasts.
        """
        if not self.epochs:
            return None
        epoch = self.epochs[0]
        long = limits.WINDOW_S + limits.SEAL_AFTER_S
        over = epoch.end + limits.SEAL_AFTER_S <= now or epoch.opened + long <= steady or epoch.full
        if not over:
            return None
        epoch.close()
        return epoch

    @property
    def requests(self) -> int:
        """Requests in windows that are not written yet."""
        return sum(epoch.requests for epoch in self.epochs)

    def parts(self, epoch: Epoch, name: Callable[[int], str]) -> list[Part]:
        """An epoch as frames: late parts, oldest first, then its own window. `name` gives the id of the n-th.

        Takes milliseconds, and may be called in another thread: it touches the epoch, which is closed, and what only
        writing uses. The same again when called again. A frame of looks only covers nothing, behind the last record
        that one covers: so the newest frame always tells where the next one begins.
        """
        windows = [epoch.windows[at] for at in sorted(epoch.windows) if at != epoch.at]
        if epoch.at in epoch.windows:
            windows.append(epoch.windows[epoch.at])
        parts = []
        run, last = epoch.last or self.covered
        first = epoch.first[1] if epoch.first else last + 1
        for n, window in enumerate(windows):
            window.flush()
            said = Said(name(n), (run, first, last) if run else None, n == len(windows) - 1, window.at != epoch.at)
            body, kept = frames.encoded(window, said, self._kept)
            if window.at == epoch.at:
                self._kept = kept
            parts.append(Part(said.id, body, window.requests))
        return parts

    def sealed(self, epoch: Epoch, now: float) -> None:
        """It is written, durably."""
        self.epochs.remove(epoch)
        self.covered = epoch.last or self.covered
        old = now - limits.LIVED_FORGOTTEN_S
        for id_ in [id_ for id_, lived in self._lived.items() if lived.seen < old]:
            del self._lived[id_]
        for id_ in [id_ for id_, (at, _) in self._died.items() if at < old]:
            del self._died[id_]

    def bound(self) -> None:
        """Forget the oldest epoch of looks when too many wait: those with records are in the journal anyway."""
        looks = [epoch for epoch in list(self.epochs)[:-1] if epoch.first is None]
        if len(self.epochs) > limits.EPOCHS_HELD and looks:
            self.epochs.remove(looks[0])
            self.forgotten += limits.WINDOW_S


def _without_death(request: Request, died_us: int, lived: Lived | None) -> Tables:
    """What the record of a request adds that was counted as died: everything but the request and its time then."""
    tables: Tables = {}
    cells.add_request(tables, request, [], lived.given if lived is not None else Looked())
    for dimension in ("endpoint", "client", "agent", "release"):
        for columns in tables.get(dimension, {}).values():
            columns.requests = columns.errors = 0
            columns.histogram = {}
            columns.wall_us = max(0, columns.wall_us - died_us)
    return tables
