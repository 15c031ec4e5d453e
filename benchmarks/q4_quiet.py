"""Q4: spikes that are none, on quiet data with a rhythm: nights and days, jobs each minute and hour, busy endpoints.

The job of each hour takes a twentieth of the CPUs for twenty seconds. Only the seconds of frames are made, from a
simulated host: what a detector reads.

    python -m benchmarks.q4_quiet --days 6
"""

from __future__ import annotations

import argparse
import math
import random

from bitville_apm.analysis.detect import Detector, Opened
from bitville_apm.records import Frame
from tests.lab.classes import application
from tests.lab.simulate import BEGIN, JUDGING
from tests.lab.world import Effects, Machine, Process, poisson


def spikes_of_a_day(seed: int, hours: float) -> tuple[int, int]:
    """Spikes opened on both hosts in so many hours of one installation; and how many CPUs the web host has."""
    rng = random.Random(f"quiet {seed}")
    world = application(rng, rng.uniform(0.1, 0.35))
    machine = Machine(world)
    hourly = Process("logrotate", 0.05 * world.cores)
    detectors = {"web": Detector(cores=float(world.cores)), "db": Detector(cores=float(world.db_cores))}
    opened = 0
    seconds: dict[str, dict[str, list[float | None]]] = {}
    for at in range(BEGIN, BEGIN + int(3600 * hours)):
        if at % 10 == 0:
            seconds = {"web": {"tasks": [], "in_flight": []}, "db": {"tasks": [], "db": []}}
        day = 2 * math.pi * (at - BEGIN) / 86_400
        effects = Effects(all_rates=1 + 0.6 * math.sin(day) + 0.15 * math.sin(7 * day), key=f"{at % 3600 < 20}")
        if at % 3600 < 20:
            effects.processes.append(("web", hourly))
        second = machine.second(effects)
        inside = sum(a.inside for a in second.amounts)
        others = {place: sum(cpu + wait for _, cpu, wait in second.processes[place]) for place in ("web", "db")}
        sessions = sum(a.db_s for a in second.amounts)
        tasks = sum(a.cpu + a.queue for a in second.amounts)
        seconds["web"]["tasks"].append(tasks + others["web"])
        seconds["web"]["in_flight"].append(float(poisson(rng, inside)))
        seconds["db"]["tasks"].append(sessions + others["db"])
        seconds["db"]["db"].append(float(poisson(rng, sessions)))
        if at % 10 == 9:
            for place, detector in detectors.items():
                cores = world.cores if place == "web" else world.db_cores
                frame = Frame(id="q", at=float(at - 9), secs=10, v=2, seconds=seconds[place], load={"cores": cores})
                opened += sum(isinstance(found, Opened) for found in detector.feed(frame))
    return opened, world.cores


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=6, help="installations, a day of two hosts each")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--first", type=int, default=JUDGING.start)
    given = parser.parse_args()
    spikes = 0
    for n in range(given.days):
        found, cores = spikes_of_a_day(given.first + n, given.hours)
        spikes += found
        print(f"installation {given.first + n}, {cores} CPUs: {found} spikes in {given.hours:g} hours", flush=True)
    days = given.days * given.hours / 24
    print(f"Q4: {spikes / days:.2f} false spikes a day of data (goal 1)  - {days:g} days of two hosts each")


if __name__ == "__main__":
    main()
