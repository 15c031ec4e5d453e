"""The parts of a report beside its causes: victims, who ran, waits, what is new, how good the data is. Pure."""

from __future__ import annotations

from collections.abc import Collection

from bitville_apm import limits
from bitville_apm.analysis import host, rules
from bitville_apm.analysis.loads import average, is_database
from bitville_apm.analysis.mechanism import Evidence
from bitville_apm.analysis.report import Change, Part, Quality, Split, Victim, Waits
from bitville_apm.analysis.stretch import Row
from bitville_apm.cells import OTHER


def victims(evidence: Evidence, causes: Collection[tuple[str, str]]) -> list[Victim]:
    """Endpoints that got slower and are no cause: their own cost a request did not rise by nearly as much."""
    found = []
    for value, now in evidence.spike.rows.get("endpoint", {}).items():
        before = evidence.base.row("endpoint", value)
        if value == OTHER or value.startswith("~") or ("endpoint", value) in causes:
            continue
        if now.requests < limits.VICTIM_REQUESTS or before.requests < limits.VICTIM_REQUESTS:
            continue
        wall, wall_before = now.wall_us / now.requests / 1000, before.wall_us / before.requests / 1000
        cost, cost_before = _cost(now), _cost(before)
        slower = wall / wall_before if wall_before > 0 else 0.0
        dearer = cost / cost_before if cost_before > 0 else 1.0
        if slower >= limits.VICTIM_SLOWER and dearer < 1 + (slower - 1) / 2:
            lost = (wall - wall_before) * now.requests
            found.append((lost, Victim(
                dimension="endpoint", value=value, requests=int(now.requests),
                wall_ms_before=round(wall_before, 2), wall_ms=round(wall, 2),
            )))  # fmt: skip
    found.sort(key=lambda pair: (-pair[0], pair[1].value))
    return [victim for _, victim in found[: limits.VICTIMS]]


def _cost(row: Row) -> float:
    return (row.cpu_us / 1e6 + row.blocked_s) / row.requests


def split(evidence: Evidence, name: str, coverage: float) -> Split:
    """Who ran on a host, and how much of it no look could name."""
    spike, base = evidence.spike, evidence.base
    parts: dict[tuple[str, str], list[float]] = {}
    for dimension in host.PARTS:
        for value, row in spike.rows.get(dimension, {}).items():
            running, blocked = host.task_parts(row, spike.length)
            if dimension == "endpoint":
                key = "php", "php"
            elif value.lower().startswith("postgres"):
                key = "postgres", "postgres"
            else:
                key = "process", value
            held = parts.setdefault(key, [0.0, 0.0])
            held[0] += running
            held[1] += blocked
    runs, blocks = average(spike.load, "running"), average(spike.load, "blocked")
    own = [sum(p[0] for p in parts.values()), sum(p[1] for p in parts.values())]
    whole = (own[0] if runs is None else runs), (own[1] if blocks is None else blocks)
    before = _before(evidence)
    shown = sorted(parts.items(), key=lambda item: (-sum(item[1]), item[0]))[: limits.SPLIT_PARTS]
    listed = [
        Part(kind=kind, name=value, running=round(p[0], 3), blocked=round(p[1], 3))  # type: ignore[arg-type]
        for (kind, value), p in shown
        if sum(p) > 0
    ]
    rest = [max(0.0, w - sum(p[i] for _, p in shown)) for i, w in enumerate(whole)]
    if sum(rest) > 0.01:
        listed.append(Part(kind="unknown", name="", running=round(rest[0], 3), blocked=round(rest[1], 3)))
    return Split(
        host=name,
        running=round(whole[0], 3),
        blocked=round(whole[1], 3),
        baseline_running=round(before[0], 3),
        baseline_blocked=round(before[1], 3),
        cores=host.cores(spike) or host.cores(base),
        load1=average(spike.load[-1:], "load1"),
        coverage=round(coverage, 4),
        pressure=host.pressure(spike),
        parts=listed,
    )


def _before(evidence: Evidence) -> tuple[float, float]:
    base = evidence.base
    running, blocked = average(base.load, "running"), average(base.load, "blocked")
    sums = [host.task_parts(base.sums[d], base.length) for d in host.PARTS if d in base.sums]
    return (
        sum(s[0] for s in sums) if running is None else running,
        sum(s[1] for s in sums) if blocked is None else blocked,
    )


def waits(evidence: Evidence) -> list[Waits]:
    """What database sessions waited for, worst first."""
    found = []
    for value, row in evidence.spike.rows.get("wait", {}).items():
        before = evidence.base.row("wait", value).flight or [0.0] * len(evidence.base.at)
        level = host.mean(row.flight, evidence.spike.lengths)
        if level > 0.005:
            baseline = host.mean(before, evidence.base.lengths)
            found.append(Waits(wait=value, level=round(level, 3), baseline=round(baseline, 3)))
    return sorted(found, key=lambda w: (-w.level, w.wait))


def changes(evidence: Evidence) -> list[Change]:
    """Releases, statements, clients and processes that no frame of the baseline had, heaviest first."""
    if not evidence.base.at:
        return []
    found = []
    for dimension in ("release", "statement", "client", "process"):
        new = evidence.base.unseen.get(dimension, set())
        for value in new:
            row = evidence.spike.row(dimension, value)
            level = max(host.mean(row.consumed, evidence.spike.lengths), host.mean(row.flight, evidence.spike.lengths))
            if value != OTHER and (level >= 0.02 or dimension == "release"):
                found.append(Change(dimension=dimension, value=value, level=round(level, 3)))
    found.sort(key=lambda c: (c.dimension != "release", -c.level, c.value))
    return found[: limits.CHANGES]


def quality(evidence: Evidence) -> Quality:
    """How far the data can be trusted."""
    spike, base = evidence.spike, evidence.base
    notes = []
    if not spike.at:
        notes.append("No frame tells of this time.")
    elif not base.at:
        notes.append("There is nothing to compare with: no frames from before.")
    elif base.length < limits.BASELINE_SHORT_S:
        notes.append(f"Only {base.length / 60:.0f} minutes to compare with.")
    if spike.at and not any("running" in load or "cpu" in load for load in spike.load):
        notes.append("Nobody looked at this host's other processes ([host] is off): only PHP's own tasks count.")
    # Of the windows between the first and the last some may be missing.
    if len(spike.at) > 1:
        expected = (spike.at[-1] - spike.at[0]) / limits.WINDOW_S + 1
        if len(spike.at) < expected:
            notes.append(f"{expected - len(spike.at):.0f} of {expected:.0f} frames are missing.")
    secs = sum(v for name, v in spike.lost.items() if name == "looks")
    unlooked = sum(1 for at in spike.at for i in range(limits.WINDOW_S)) - len(spike.seconds.get("in_flight", []))
    lost = secs or (float(max(0, unlooked)) if spike.seconds.get("in_flight") else 0.0)
    if spike.lost.get("corrupt"):
        notes.append(f"{spike.lost['corrupt']:.0f} records were lost to damage.")
    whole = spike.sums.get("endpoint")
    other = spike.row("endpoint", OTHER)
    if whole is not None and whole.cpu_us > 0 and other.cpu_us > 0.2 * whole.cpu_us:
        notes.append(f"{100 * other.cpu_us / whole.cpu_us:.0f} % of PHP's CPU time is in endpoints beyond the cap.")
    return Quality(frames=spike.frames, baseline_frames=base.frames, lost_looks=round(lost, 1), notes=notes)


def shares_of(evidence: Evidence, rise: float) -> tuple[float, float]:
    """Shares of a rise: of processes that serve nobody, and of a database's processes."""
    alone = database = 0.0
    for value, row in evidence.spike.rows.get("process", {}).items():
        before = evidence.base.row("process", value)
        more = host.mean(row.consumed, evidence.spike.lengths) - (
            host.mean(before.consumed, evidence.base.lengths) if before.consumed else 0.0
        )
        if is_database(value):
            database += more
        elif not rules.serves(value):
            alone += more
    return (alone / rise, database / rise) if rise > 0 else (0.0, 0.0)


def request_rates(evidence: Evidence) -> tuple[float, float]:
    """Requests a second, before and during, of all endpoints; what piles up counts as having come."""
    rates: list[float] = []
    for stretch in (evidence.base, evidence.spike):
        whole = stretch.sums.get("endpoint")
        rates.append(stretch.rate(whole.requests) if whole is not None else 0.0)
    whole, before = evidence.spike.sums.get("endpoint"), evidence.base.sums.get("endpoint")
    if whole is not None and whole.flight and evidence.spike.length:
        usual = host.mean(before.flight, evidence.base.lengths) if before is not None else 0.0
        rates[1] += max(0.0, whole.flight[-1] - usual) / evidence.spike.length
    return rates[0], rates[1]
