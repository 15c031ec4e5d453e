"""Which pipelines there are: one a collector key, made when a section asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.web.iweb import IPolicyForHTTPS

from bitville_apm import limits
from bitville_apm.agent.config import AgentConfig
from bitville_apm.agent.disk import Disk
from bitville_apm.agent.forward import Forward
from bitville_apm.agent.journal import Journal
from bitville_apm.agent.outgoing import Outgoing
from bitville_apm.agent.pipeline import Pipeline
from bitville_apm.agent.quarantine import Quarantine
from bitville_apm.agent.transmitter import Transmitter
from bitville_apm.agent.worker import Worker


class Pipelines:
    """Those of one agent; `workers` are their threads. `policy` is whom to trust as the collector, `now` unix time."""

    def __init__(self, settings: AgentConfig, policy: IPolicyForHTTPS, reactor: Any, now: Callable[[], float]) -> None:
        self._settings, self._policy, self._reactor, self._now = settings, policy, reactor, now
        # One for all pipelines: they could not compute at once anyway.
        self._compute = Worker(reactor, "frames")
        self.workers = [self._compute]
        self._made: dict[str, Pipeline] = {}

    def of(self, own_key: str) -> Pipeline:
        """The one of a section with this key of its own, or (empty) of all those without."""
        key = own_key or self._settings.collector.key
        found = self._made.get(key)
        if found is None:
            worker = Worker(self._reactor, "journal")
            self.workers.append(worker)
            found = self._made[key] = self._pipeline(_name(own_key), key, worker)
        return found

    def all(self) -> list[Pipeline]:
        """All that were asked for, at least the one of no section."""
        if not self._made:
            self.of("")
        return list(self._made.values())

    def _pipeline(self, name: str, key: str, worker: Worker) -> Pipeline:
        settings, reactor, now = self._settings, self._reactor, self._now
        state, link = settings.agent.state, settings.collector
        bound = settings.limits.journal_mb * limits.MIB
        directory, fsync = state / "journal" / name, settings.limits.fsync
        journal = Journal(Disk(directory, fsync, bound, True), worker, reactor, now)
        frames = Journal(Disk(directory / "frames", fsync), worker, reactor, now)
        quarantine = Quarantine(state / "quarantine" / name)
        breaker_name = "central_listener" if name == "default" else f"central_listener-{name}"
        forward = Forward(
            journals=[Outgoing(frames, at_once=True), Outgoing(journal)],
            transmitter=Transmitter(reactor, worker, now, link.url, settings.agent.host, self._policy),
            quarantine=quarantine,
            run=worker,
            clock=reactor,
            now=now,
            read_key=_key_reader(key, link.key_file),
            state_file=state / "circuit-breaker-state" / f"{breaker_name}.state",
            flush_seconds=link.flush_seconds,
            breaker_name=breaker_name,
        )
        return Pipeline(name, journal, frames, forward, quarantine, worker, self._compute, reactor, now)


def _name(own_key: str) -> str:
    """A pipeline's directory: sections without a key of their own share one; a key is never in a path."""
    return f"key-{hashlib.sha256(own_key.encode()).hexdigest()[:12]}" if own_key else "default"


def _key_reader(key: str, key_file: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            return key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    return (lambda: key) if key else read
