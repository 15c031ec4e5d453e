"""Which hosts' rises are one spike of a project, and when a report of it is due. Pure: events and times in.

A host's rise joins a spike of its project that began within `limits.SPIKE_JOIN_S` of it on another host, whether that
lasts or is over: a database that falls behind and the web servers that wait for it are one spike. Whatever a host's
detector tells a second time, after a restart of the collector, finds the spike that it told of first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Literal

import attrs

from bitville_apm import limits
from bitville_apm.analysis.detect import Closed, Opened
from bitville_apm.store.interface import Spike


@attrs.define
class Rise:
    """One host's part of a spike; unix seconds. `restored`: known from the store, not yet told again by a detector."""

    onset: float
    opened: float
    end: float | None = None
    restored: bool = False


@attrs.define(eq=False)
class Risen:
    """A spike of one project: its hosts, what was kept of it, and when its next report is due (unix seconds).

    `final`: what was kept last is not provisional. `told_open`, `told_over`: whether an alert of its beginning and of
    its end was sent, or will not be.
    """

    id: str
    project: str
    since: float = 0.0
    """When we heard of it, whenever that was."""
    hosts: dict[str, Rise] = attrs.Factory(dict)
    due: float | None = None
    revision: int = 0
    final: bool = False
    told_open: bool = False
    told_over: bool = False

    @property
    def onset(self) -> float:
        """The first host's."""
        return min(rise.onset for rise in self.hosts.values())

    @property
    def opened(self) -> float:
        """When the first trigger fired."""
        return min(rise.opened for rise in self.hosts.values())

    @property
    def end(self) -> float | None:
        """The last host's; None while it lasts on any."""
        ends = [rise.end for rise in self.hosts.values()]
        return None if any(end is None for end in ends) else max(end for end in ends if end is not None)

    @property
    def told(self) -> int:
        """As `Spike.told` has it, once the alerts are out."""
        return self.told_open + self.told_over

    def ask(self, at: float) -> None:
        """A report is due at a time, or sooner if it was."""
        self.due = at if self.due is None else min(self.due, at)

    def alert(self, now: float, explained: bool = True) -> Literal["open", "over"] | None:
        """Which alert a report just made is to go out as; each once, and none of what is old news (a backlog's).

        `now` is the time of the hosts' own clocks. A report that has found nothing yet (not `explained`) waits for the
        next one while the spike is young, and is told to nobody when it is over.
        """
        end = self.end
        if not self.told_open and not explained and (end is not None or now - self.opened < limits.ALERT_PATIENCE_S):
            self.told_open = self.told_over = end is not None
            return None
        if not self.told_open:
            self.told_open = True
            self.told_over = end is not None  # who hears of the beginning hears of the end in the same words
            young = now - self.onset <= limits.ALERT_YOUNG_S
            self.told_over |= not young
            return "open" if young else None
        if end is not None and not self.told_over:
            self.told_over = True
            return "over" if now - end <= limits.ALERT_YOUNG_S else None
        return None


@attrs.define(eq=False)
class Book:
    """The spikes of all projects that are not long over, by id."""

    spikes: dict[str, Risen] = attrs.Factory(dict)
    forgotten: int = 0
    """Spikes that ended lately and had to make room for others: late frames change their reports no more."""

    @property
    def open(self) -> int:
        """How many last."""
        return sum(spike.end is None for spike in self.spikes.values())

    def restore(self, kept: Spike, now: float) -> Risen:
        """Know a spike from the store. What whoever kept it did not live to tell is told with the next report."""
        made = Risen(
            kept.id,
            kept.project,
            now,
            {host: Rise(kept.onset, kept.opened, kept.end, restored=True) for host in kept.hosts},
            revision=kept.revision,
            final=not kept.provisional,
            told_open=kept.told >= 1,
            told_over=kept.told >= 2,
        )
        self.spikes[made.id] = made
        if kept.end is None or (made.told < 2 and now - kept.end <= limits.ALERT_YOUNG_S):
            made.ask(now + 1.0)
        elif kept.provisional:
            made.ask(max(now, kept.end + limits.LATE_S) + 1.0)
        return made

    def opened(self, project: str, host: str, found: Opened, now: float) -> Risen:
        """A detector says that a host's load rises."""
        spike = self._same(project, host, found.onset)
        if spike is None:
            spike = Risen(str(uuid.uuid4()), project, now)
            self.spikes[spike.id] = spike
        rise = spike.hosts.get(host)
        if rise is not None:
            rise.restored = False  # it is known, and open or over as it was
            return spike
        spike.hosts[host] = Rise(found.onset, found.at)
        spike.final = False
        spike.ask(now)
        return spike

    def closed(self, project: str, host: str, found: Closed, now: float) -> Risen | None:
        """A detector says that a host's rise is over."""
        spike = self._same(project, host, found.onset)
        rise = None if spike is None else spike.hosts.get(host)
        if spike is None or rise is None:
            return None
        rise.restored = False
        if rise.end is None:
            self._end(spike, rise, found.end, now)
        return spike

    def settle(self, project: str, host: str, lasts: bool, seen: float, now: float) -> None:
        """A detector has caught up after a restart, up to `seen`: a spike that it does not know of is over."""
        for spike in self._of(project):
            rise = spike.hosts.get(host)
            if rise is not None and rise.restored and rise.end is None and not lasts:
                rise.restored = False
                self._end(spike, rise, max(rise.opened + 1, min(seen + 1, now)), now)

    def frame(self, project: str, host: str, at: float, now: float) -> None:
        """A frame has come: where it belongs to a spike that is over, its report is due again in a moment."""
        for spike in self._of(project):
            end = spike.end
            if end is not None and host in spike.hosts and spike.onset - limits.WINDOW_S < at < end:
                spike.ask(now + limits.LATE_WAIT_S)

    def due(self, now: float) -> Risen | None:
        """The spike whose report has been due for longest."""
        ready = [spike for spike in self.spikes.values() if spike.due is not None and spike.due <= now]
        return min(ready, key=lambda spike: (spike.due or 0.0, spike.id), default=None)

    def reported(self, spike: Risen, provisional: bool, now: float, took: float) -> None:
        """A report was kept that took so many seconds to make: when is the next? Sooner while nobody was told."""
        end = spike.end
        spike.final = end is not None and not provisional
        if end is None:
            again = limits.SPIKE_AGAIN_S if spike.told_open else float(limits.WINDOW_S)
            spike.ask(now + max(again, limits.SPIKE_AGAIN_OF_WORK * took))
        elif provisional:
            spike.ask(max(now + 1.0, end + limits.LATE_S + 1.0))

    def prune(self, now: float) -> None:
        """Forget spikes that are long over, and of too many those over for longest; end those that nobody watches."""
        for spike in self.spikes.values():
            if spike.end is None and now - spike.since > limits.SPIKE_LOST_S:
                for rise in spike.hosts.values():
                    if rise.end is None:
                        self._end(spike, rise, rise.opened + limits.NEW_NORMAL_S, now)
        over = sorted(
            (spike for spike in self.spikes.values() if spike.end is not None and spike.due is None),
            key=lambda spike: spike.end or 0.0,
        )
        for spike in over:
            old = now - (spike.end or 0.0) > limits.SPIKES_KNOWN_S
            if old or len(self.spikes) > limits.SPIKES_KNOWN:
                del self.spikes[spike.id]
                self.forgotten += not old

    def _end(self, spike: Risen, rise: Rise, end: float, now: float) -> None:
        rise.end = end
        spike.final = False
        if spike.end is not None:
            spike.ask(now)

    def _of(self, project: str) -> Iterator[Risen]:
        return (spike for spike in list(self.spikes.values()) if spike.project == project)

    def _same(self, project: str, host: str, onset: float) -> Risen | None:
        """The spike that a rise belongs to: the host's own, else that of another host that began with it."""
        near: list[tuple[float, Risen]] = []
        for spike in self._of(project):
            own = spike.hosts.get(host)
            if own is not None:
                if abs(own.onset - onset) <= limits.SPIKE_JOIN_S and (own.end is None or onset <= own.end):
                    return spike
                continue
            away = min(abs(rise.onset - onset) for rise in spike.hosts.values())
            if away <= limits.SPIKE_JOIN_S:
                near.append((away, spike))
        return min(near, key=lambda pair: pair[0])[1] if near else None
