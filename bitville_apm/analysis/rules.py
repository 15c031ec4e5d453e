"""What a host as a whole says before any value is blamed: memory, stolen CPU, pools, locks, other processes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from bitville_apm import limits
from bitville_apm.analysis import host, score
from bitville_apm.analysis.loads import DATABASES, average, called, is_database, number
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.score import Scored, Whole
from bitville_apm.analysis.stretch import Stretch
from bitville_apm.cells import OTHER

SERVING = (
    *DATABASES, "redis-server", "valkey-server", "memcached", "nginx", "apache2", "httpd", "caddy", "haproxy",
    "varnishd", "php-fpm", "php-fpm8", "php", "php-cgi", "pgbouncer", "proxysql", "traefik", "envoy", "lsphp",
    "frankenphp",
)  # fmt: skip
"""Processes that work for somebody: what they run is followed to who asked for it."""


_HALF = 0.5

ASKING = ("client", "agent")
"""Who asks, whatever for."""

UNSEEN = "processes that the agent cannot see"
"""The value of `host` that CPU time of nobody is told under."""


def serves(process: str) -> bool:
    """Whether a process is a database, cache, web server or PHP. Another project's PHP is not: we cannot follow it."""
    name = called(process)
    return name in SERVING or name.startswith(("php-fpm", "postgres", "php7", "php8"))


@attrs.frozen
class Signs:
    """Means over the spike's windows, and before: percent of time in pressure, bytes a second swapped, share stolen."""

    memory: tuple[float, float]
    swapped: tuple[float, float]
    stolen: tuple[float, float]
    looked: bool

    @property
    def short_of_memory(self) -> bool:
        """Whether memory is the reason, whatever else rose."""
        by_pressure = self.memory[1] > limits.PRESSURE_MEMORY and self.memory[1] > 2 * self.memory[0]
        by_swap = self.swapped[1] > limits.SWAPPED_BYTES and self.swapped[1] > 4 * self.swapped[0]
        return by_pressure or by_swap

    @property
    def robbed(self) -> bool:
        """Whether a hypervisor gave our CPUs to somebody else."""
        return self.stolen[1] > limits.STOLEN and self.stolen[1] > 2 * self.stolen[0]


def signs(evidence: Evidence) -> Signs:
    """What the host's own numbers say."""
    pairs = []
    for stretch in (evidence.base, evidence.spike):
        full = average(stretch.load, "psi", "memory", "full")
        swapped = (average(stretch.load, "swap", "in_bytes") or 0.0) + (
            average(stretch.load, "swap", "out_bytes") or 0.0
        )
        used = sum(average(stretch.load, "cpu", name) or 0.0 for name in ("user_s", "system_s", "steal_s"))
        stolen = average(stretch.load, "cpu", "steal_s") or 0.0
        pairs.append((full, swapped / limits.WINDOW_S, stolen / used if used else 0.0))
    (full0, swap0, stolen0), (full1, swap1, stolen1) = pairs
    return Signs((full0 or 0.0, full1 or 0.0), (swap0, swap1), (stolen0, stolen1), full1 is not None)


def blocked_in(evidence: Evidence) -> tuple[str, str] | None:
    """The process and wait channel that most blocked task-seconds of the spike were in."""
    seconds: dict[tuple[str, str], float] = {}
    for load in evidence.spike.load:
        listed = load.get("blocked_in")
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict):
                key = str(item.get("name") or ""), str(item.get("wait_channel") or "")
                seconds[key] = seconds.get(key, 0.0) + (number(item, "seconds") or 0.0)
    if not any(seconds.values()):
        return None
    return max(seconds, key=lambda key: (seconds[key], key))


@attrs.frozen
class Pool:
    """A PHP-FPM pool that was full: all its workers busy. `queue`: who waited for one, 0 where the pool cannot say."""

    name: str
    most: int
    queue: int
    share: float


def full_pool(evidence: Evidence) -> Pool | None:
    """The pool that was full for a third of the spike's windows, with a queue, or for two thirds with none.

    php-fpm knows its queue on TCP only: on a UNIX socket it is always 0. A moment without a free worker is usual;
    that there is none for long is not.
    """
    full: dict[str, list[tuple[int, int]]] = {}
    for load in evidence.spike.load:
        listed: Any = load.get("pools")
        for pool in listed if isinstance(listed, list) else ():
            if not isinstance(pool, dict):
                continue
            busy, most, queue = (number(pool, name) or 0.0 for name in ("busy", "max", "listen_queue"))
            if most > 0 and busy >= most:
                full.setdefault(str(pool.get("name") or ""), []).append((int(most), int(queue)))
    windows = len(evidence.spike.load)
    found = [
        Pool(name, max(m for m, _ in seen), max(q for _, q in seen), len(seen) / windows)
        for name, seen in full.items()
        if sum(q > 0 for _, q in seen) / windows >= limits.POOL_QUEUED or len(seen) / windows >= limits.POOL_BUSY
    ]
    return max(found, key=lambda pool: (pool.share, pool.name), default=None)


def locks_rise(evidence: Evidence) -> float:
    """By how much sessions that wait for a lock rose, load units."""
    now = host.mean(host.lock_waits(evidence.spike), evidence.spike.lengths)
    return now - host.mean(host.lock_waits(evidence.base), evidence.base.lengths)


def unseen(evidence: Evidence, whole: Whole) -> list[Scored]:
    """What rose and belongs to nobody, as one value: other containers take the same CPUs, or interrupts do."""
    now, before = host.unseen(evidence.spike), host.unseen(evidence.base)
    if now is None or before is None or not before:
        return []
    a, f = host.mean(now, evidence.spike.lengths), host.mean(before, evidence.base.lengths)
    spread = host.deviation(before)
    return [score.judged("host", UNSEEN, a, f, spread, evidence.spike, evidence.base, whole)] if a > f else []


def with_database(found: Sequence[Scored], evidence: Evidence, whole: Whole) -> list[Scored]:
    """Clients and user agents, charged also with what a database on this host ran for them.

    Of its processes' rise each has as much as of the time that all requests waited for statements: a robot that reads
    page after page costs PHP little and the database much, and no single statement of it is much.
    """
    spike, base = evidence.spike, evidence.base
    waited = [s.sums["endpoint"].sql_us if "endpoint" in s.sums else 0.0 for s in (spike, base)]
    ran = [_database(s) for s in (spike, base)]
    if not waited[0] or ran[0] <= ran[1]:
        return list(found)
    charged = []
    for scored in found:
        if scored.dimension in ASKING:
            rows = [s.row(scored.dimension, scored.value) for s in (spike, base)]
            now, before = (
                one * min(1.0, row.sql_us / all_of_it) if all_of_it else 0.0
                for one, row, all_of_it in zip(ran, rows, waited, strict=True)
            )
            spread = host.deviation(rows[1].consumed or [0.0] * len(base.at))
            scored = score.judged(
                scored.dimension, scored.value, scored.level + now, scored.baseline + before, spread, spike, base, whole
            )
        charged.append(scored)
    return sorted(charged, key=lambda s: (-s.score, s.dimension, s.value))


def _database(found: Stretch) -> float:
    """What the processes of databases consumed, load units."""
    rows = found.rows.get("process", {}).items()
    return sum(host.mean(row.consumed, found.lengths) for value, row in rows if is_database(value))


def crowded_out(evidence: Evidence) -> bool:
    """Whether most of the CPU went to what the agent cannot see, so that tasks queue though nobody here runs more."""
    now = host.unseen(evidence.spike)
    if now is None or not now:
        return False
    lengths = evidence.spike.lengths
    return host.mean(now, lengths) > _HALF * host.mean(host.consumed(evidence.spike), lengths)


def followed(scored: Sequence[Scored], evidence: Evidence, whole: Whole) -> list[Scored]:
    """Processes that serve somebody give way to who asked: statements for a database, endpoints for the rest.

    A database whose sessions nobody looks at is charged to statements by how much longer PHP waited for each. One whom
    nobody asked for more stays: its own maintenance, or clients that are not seen here.
    """
    found = list(scored)
    for process in [s for s in scored if s.dimension == "process" and serves(s.value)]:
        others = [s for s in found if s.dimension == "statement" and s.share > 0]
        if is_database(process.value):
            if not others:
                others = _by_waiting(process, evidence, whole)
                found += others
            asked = sum(s.rise for s in others) >= 0.5 * process.rise
        else:
            asked = any(s.dimension == "endpoint" and s.share >= limits.SHARE_LEAST for s in scored)
        if asked:
            found.remove(process)
    return sorted(found, key=lambda s: (-s.score, s.dimension, s.value))


def _by_waiting(process: Scored, evidence: Evidence, whole: Whole) -> list[Scored]:
    """Statements, charged with what a database process rose by, as far as PHP waited longer for them.

    While PHP waits for a statement a backend of the same host runs it, slowed by all others who wanted a CPU: of the
    waiting so many times less was work. What is left may have kept a few parallel workers busy, not any number:
    a database that works for others stays what it is.
    """
    spike, base = evidence.spike, evidence.base
    slow, slow_before = host.crowding(spike), host.crowding(base)
    rises: dict[str, tuple[float, float]] = {}
    for value, row in spike.rows.get("statement", {}).items():
        now = spike.rate(row.sql_us) / 1e6 / slow
        before = base.rate(base.row("statement", value).sql_us) / 1e6 / slow_before
        if now > before:
            rises[value] = before, now
    total = sum(now - before for before, now in rises.values())
    if total <= 0:
        return []
    charged = min(process.rise, limits.PARALLEL_WORKERS * total)
    found = []
    for value, (before, now) in rises.items():
        rise = charged * (now - before) / total
        share = min(1.0, rise / whole.rise)
        growth = now / before if before > limits.LEVEL_LEAST else None
        novelty = 1.0 if growth is None else max(0.0, 1 - 1 / growth)
        if share >= limits.SHARE_LEAST and value != OTHER:
            baseline = process.baseline * before / (sum(b for b, _ in rises.values()) or 1.0)
            score = share * novelty * process.confidence
            found.append(
                Scored("statement", value, baseline + rise, baseline, share, growth, novelty, process.confidence, score)
            )
    return found
