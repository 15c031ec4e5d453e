"""Cases: a world, something that happens to it, and the frames that its agents send.

Seeds below `JUDGING` are for tuning; what is published is measured with seeds from there on, and nobody looks at a
single one of them.

    python -m tests.lab.simulate --class traffic --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.analysis.detect import Closed, Detector, Opened
from bitville_apm.analysis.merge import explain_hosts
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.windows import Window, baseline_windows, chosen, spike_window
from bitville_apm.records import Frame
from tests.lab.classes import CLASSES, Injected, Truth, application
from tests.lab.emit import Agent
from tests.lab.world import Effects, Endpoint, Machine, Process, Second, World

TUNING = range(1_000_000)
JUDGING = range(1_000_000, 2_000_000)
BEGIN = 1_700_000_000
"""Unix seconds; a multiple of ten."""


@attrs.define(eq=False)
class Case:
    """One spike: frames by host (late ones included, in order of arrival), when it really was, and the truth."""

    name: str
    seed: int
    truth: Truth | None
    start: float
    end: float
    frames: dict[str, list[Frame]]
    cores: dict[str, int]
    polluted: tuple[float, float] | None = None
    seconds: dict[str, list[float]] = attrs.Factory(dict)


def case(name: str, seed: int, minutes: int = 10) -> Case:
    """A case of a class, with so many minutes before the spike."""
    rng = random.Random(f"{name} {seed}")
    rough = rng.random() < 0.4
    together = name == "same database" or (name not in ("statement", "n+1", "lock") and rng.random() < 0.15)
    utilisation = rng.uniform(0.7, 0.8) if name == "knee" else rng.uniform(0.12, 0.5)
    if name == "two":
        utilisation = rng.uniform(0.1, 0.3)
    world = application(rng, utilisation, together, wide=rough and rng.random() < 0.1, least=8 if name == "two" else 2)
    if name == "same database" and rng.random() < 0.5:
        world.dialect = "mysql"
    injected = CLASSES[name](world)
    agent = Agent(world, random.Random(rng.getrandbits(64)))
    missing = None
    if rough:
        agent.lost_looks = rng.choice((0.0, 0.2, 0.5))
        agent.sampled_away = rng.choice((0.0, 0.9))
        agent.skew = rng.choice((0.0, 0.0, 1.0, -1.0))
        missing = (
            rng.choice((None, None, "gap", "db")) if name not in ("statement", "n+1", "lock", "stampede") else None
        )
    start = BEGIN + 60 * minutes + rng.randint(0, 9)
    end = start + (rng.uniform(25, 45) if name == "stampede" else rng.uniform(40, 150))
    decoy = _decoy(world, injected) if rng.random() < 0.7 else None
    other = _other(rng, world) if rough and rng.random() < 0.4 else None
    polluted = (BEGIN + 60 * minutes * 0.5, BEGIN + 60 * minutes * 0.5 + 60) if other else None
    machine = Machine(world)
    frames: dict[str, list[Frame]] = {}
    held: list[Second] = []
    until = int((end + 70) // 10 * 10)
    rhythm = rng.uniform(0, 0.15)
    for at in range(BEGIN, until):
        effects = Effects(all_rates=1 + rhythm * ((at - BEGIN) / (60 * minutes) - 0.5))
        if start <= at < end:
            injected.effects((at - start) / (end - start), effects)
            if decoy is not None:
                effects.rate[decoy.name] = 3.0 * effects.rate.get(decoy.name, 1.0)
        if polluted and other and polluted[0] <= at < polluted[1]:
            effects.processes.append(("web", other))
        if at >= end and injected.truth.mechanisms[0] == frozenset({"deploy"}):
            effects.release = "r2"
        effects.key = f"{start <= at < end} {effects.release}"
        held.append(machine.second(effects))
        if len(held) == limits.WINDOW_S:
            window = at - limits.WINDOW_S + 1
            for host, made in agent.frames(window, held).items():
                frames.setdefault(host, []).extend(made)
            held = []
    if missing == "db":
        frames.pop("db1", None)
    if missing == "gap":
        gap = rng.randint(BEGIN, int(start) - 300)
        frames = {h: [f for f in fs if not gap <= f.at < gap + 120] for h, fs in frames.items()}
    return Case(name, seed, injected.truth, start, end, frames, {"web1": world.cores, "db1": world.db_cores}, polluted)


def _decoy(world: World, injected: Injected) -> Endpoint | None:
    """A cheap endpoint that is asked for three times as often at the same time, and is not the reason."""
    guilty = {value for cause in injected.truth.causes for _, value in cause}
    total = sum(e.rate * e.cpu for e in world.endpoints)
    cheap = [e for e in world.endpoints if e.rate * e.cpu < 0.05 * total and e.name not in guilty]
    return world.random.choice(cheap) if cheap else None


def _other(rng: random.Random, world: World) -> Process:
    return Process(rng.choice(("apt", "logrotate", "gzip")), 1.2 * world.cores)


@attrs.frozen
class Spike:
    """What a detector made of a case: the first spike that it opened on any host near the truth."""

    host: str
    opened: Opened
    closed: Closed | None
    told_at: float
    """When the frame that told of it had been sealed and sent, unix seconds."""


def detected(case: Case) -> list[Spike]:
    """Every spike that detectors find, in the order of their opening."""
    found: list[Spike] = []
    for host, frames in case.frames.items():
        detector = Detector(cores=float(case.cores[host]))
        for frame in frames:
            for event in detector.feed(frame):
                if isinstance(event, Opened):
                    found.append(Spike(host, event, None, frame.at + limits.WINDOW_S + limits.SEAL_AFTER_S + 0.5))
                else:
                    n = next(i for i, s in enumerate(found) if s.host == host and s.opened.onset == event.onset)
                    found[n] = attrs.evolve(found[n], closed=event)
    return sorted(found, key=lambda spike: spike.opened.at)


def windows(case: Case, spikes: Sequence[Spike]) -> tuple[float, float, list[Window], Window]:
    """Onset and end as detected (or, where nothing was, as it really was), and the windows to compare."""
    mine = [s for s in spikes if case.start - 15 <= s.opened.at <= case.end + 20]
    if mine:
        onset = min(s.opened.onset for s in mine)
        ends = [s.closed.end for s in mine if s.closed is not None]
        end = min(max(ends), case.end + 30) if ends else case.end
    else:
        onset, end = case.start - 1, case.end
    others = [(s.opened.onset, s.closed.end) for s in spikes if s not in mine and s.closed is not None]
    return onset, end, baseline_windows(onset, end, others), spike_window(onset, end, end)


def report_of(case: Case) -> Report:
    """The report of a case, a minute after its end."""
    spikes = detected(case)
    onset, end, before, during = windows(case, spikes)
    return explain_hosts(
        {host: chosen(frames, [during]) for host, frames in case.frames.items()},
        {host: chosen(frames, before) for host, frames in case.frames.items()},
        onset=onset,
        end=end,
    )


def places(report: Report, truth: Truth) -> list[int | None]:
    """For each thing that was done, the place (from 1) of the cause that names it; None when none does."""
    return [
        next((n for n, c in enumerate(report.causes, 1) if (c.dimension, c.value) in wanted), None)
        for wanted in truth.causes
    ]


def right_first(report: Report, truth: Truth) -> bool:
    """Whether the first cause is right; of two at once either may be first, if both are among the first three."""
    return 1 in places(report, truth)


def right_three(report: Report, truth: Truth) -> bool:
    """Whether everything that was done is among the first three."""
    return all(place is not None and place <= 3 for place in places(report, truth))


def mechanisms(report: Report, truth: Truth) -> list[bool]:
    """For each right cause, whether its mechanism is right."""
    return [
        report.causes[place - 1].mechanism in labels
        for place, labels in zip(places(report, truth), truth.mechanisms, strict=True)
        if place is not None
    ]


def cases(seeds: Sequence[int], names: Sequence[str] = tuple(CLASSES)) -> Iterator[Case]:
    """A case of every class for each seed."""
    for seed in seeds:
        for name in names:
            yield case(name, seed)


def main() -> None:
    """Show one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--class", dest="name", default="traffic", choices=sorted(CLASSES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    one = case(given.name, given.seed)
    assert one.truth is not None
    report = report_of(one)
    said = [*map(str, detected(one)), report.verdict]
    if given.json:
        said.insert(0, msgspec.json.format(msgspec.json.encode(report)).decode())
    for cause in report.causes:
        told = f"{cause.dimension} {cause.value} {cause.mechanism} score {cause.score:.2f} share {cause.share:.2f}"
        said.append(f"  {told} {[step.value for step in cause.story]}")
    said.append(f"truth: {one.truth.causes}, kind {report.kind}, places {places(report, one.truth)}")
    sys.stdout.write("\n".join(said) + "\n")


if __name__ == "__main__":
    main()
