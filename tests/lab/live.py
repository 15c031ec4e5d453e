"""The live lab: real trouble on a real stack, and whether the product says what it was (`make lab`).

Against steady visits, each class of `injections` is done at a random time with a random culprit, round after round. Of
each, the report is held against the truth twice: what the product found by itself (its spike, if it saw one), and what
`analysis.explain` says of the window, given by hand, against the quiet times before it. Results are kept one a line, so
that a run can be continued; the table is printed and written beside them.

    make lab                                            all classes, four rounds: about an hour and a half
    make lab ARGS='--classes lock,n+1 --rounds 2 --seed 7'
    make lab ARGS=--again                               explain the kept frames with today's analysis
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from bitville_apm.demo.traffic import Traffic
from bitville_apm.records import Frame
from bitville_apm.store.sqlite.asking import Asking
from bitville_apm.store.sqlite.reader import Reader
from tests.lab.injections import CLASSES, RATE, WEIGHTS, Injection
from tests.lab.stack import NoStack, Stack, described, running
from tests.lab.table import Result, told
from tests.lab.truth import judge, opened, overlapping
from tests.lab.window import Window, again, window_file

WARM_S = 330.0
"""The product opens a spike once it has five minutes to compare it with."""
INJECT_S = (35.0, 50.0)
QUIET_S = (30.0, 40.0)
SETTLE_S = 16.0
"""The last frame's ten seconds, its sealing and its way to the collector; late frames too."""
DRAIN_S = 60.0
FEW = 4
"""Visits open at once in a quiet time."""
BASELINE_S = 600.0
"""The baseline is the quiet part of so long before; the product itself looks back an hour."""
FRAME_S = 10.0
THREADS = 64
ROUNDS = 4


@attrs.frozen
class Plan:
    """What to do: one injection's class and round, which with the seed name all that is random about it."""

    kind: str
    round: int

    def chance(self, seed: int) -> random.Random:
        """The randomness of this injection alone, so that a continued run does what the whole one would have."""
        return random.Random(f"{seed} {self.kind} {self.round}")


def plans(kinds: Sequence[str], rounds: int, seed: int) -> list[Plan]:
    """Every class once a round, each round in an order of its own."""
    found = []
    for number in range(rounds):
        order = [Plan(kind, number) for kind in kinds]
        random.Random(f"{seed} order {number}").shuffle(order)
        found += order
    return found


@attrs.define(eq=False)
class Lab:
    """One run against a running stack. `quiet` are the windows in which nothing was done."""

    stack: Stack
    seed: int
    results: list[Result]
    keep: Callable[[Result], None]
    dumps: Path
    quiet: list[tuple[float, float]] = attrs.field(factory=list)

    def run(self, todo: Sequence[Plan], until: float | None = None, short: float = 1.0) -> None:
        """Do all of them, saying how far it is; stop before one that would end after `until` (unix time)."""
        _pause(WARM_S * short, "warming up")
        self.quiet.append((time.time() - WARM_S * short + FRAME_S, time.time()))
        for number, plan in enumerate(todo):
            each = (sum(INJECT_S) + sum(QUIET_S)) / 2 * short + SETTLE_S
            left = each * (len(todo) - number)
            say(f"[{number + 1}/{len(todo)}, {left / 60:.0f} min left] {plan.kind}, round {plan.round + 1}")
            if until is not None and time.time() + each > until:
                say("the time is over")
                return
            self._one(plan, short)

    def _one(self, plan: Plan, short: float) -> None:
        chance = plan.chance(self.seed)
        seconds = chance.uniform(*INJECT_S) * short
        injection = CLASSES[plan.kind](self.stack, chance, seconds)
        start = time.time()
        with injection.do():
            _pause(seconds)
        end = time.time()
        calm = chance.uniform(*QUIET_S) * short
        self._drain()
        _pause(SETTLE_S)
        result = self._judged(plan, injection, start, end)
        self.results.append(result)
        self.keep(result)
        say(f"    {result.line()}")
        begun = time.time()
        _pause(calm)
        self.quiet.append((begun, time.time()))

    def _drain(self) -> None:
        """Wait until what has piled up is served: it belongs to no quiet time."""
        deadline = time.time() + DRAIN_S
        while self.stack.open_visits > FEW and time.time() < deadline:
            time.sleep(0.5)

    def _judged(self, plan: Plan, injection: Injection, start: float, end: float) -> Result:
        report = self._explained(plan, injection, start, end)
        spike, detail = self._spike(start, end)
        by_hand = judge(injection.truth, report)
        by_itself = judge(injection.truth, detail) if spike is not None or not injection.truth.causes else None
        return Result(
            kind=plan.kind,
            round=plan.round,
            seed=self.seed,
            at=start,
            seconds=end - start,
            culprit=injection.culprit,
            place=by_hand.place,
            kind_right=by_hand.kind,
            mechanism=by_hand.mechanism,
            said=by_hand.said,
            detected=spike is not None,
            delay=None if spike is None else opened(spike) - start,
            own_place=None if by_itself is None else by_itself.place,
            own_said="" if by_itself is None else by_itself.said,
            rise=report["level"] - report["baseline"],
            coverage=report["coverage"],
        )

    def _explained(self, plan: Plan, injection: Injection, start: float, end: float) -> Mapping[str, Any]:
        """The report of the window by hand; its frames are kept, so that a miss can be looked into."""
        frames = self._frames(start - BASELINE_S, end)
        half = FRAME_S / 2
        spike = [frame for frame in frames if start - half <= frame.at and frame.at + FRAME_S <= end + half]
        calm = [frame for frame in frames if any(a <= frame.at and frame.at + FRAME_S <= b for a, b in self.quiet)]
        window = Window(start=start, end=end, truth=attrs.asdict(injection.truth), spike=spike, baseline=calm)
        (self.dumps / window_file(plan.kind, self.seed, plan.round)).write_bytes(msgspec.json.encode(window))
        return window.report()

    def _frames(self, start: float, end: float) -> list[Frame]:
        return [framed.frame for framed in Reader(Asking(self.stack.data)).frames(None, start, end, None)]

    def _spike(self, start: float, end: float) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """The product's own spike of that time, and its report."""
        try:
            asked = {"from": start - 60, "to": end + 60, "limit": 20}
            found = overlapping(self.stack.api("spikes", **asked)["items"], start, end)
            return found, None if found is None else self.stack.api(f"spikes/{found['id']}")
        except urllib.error.HTTPError as error:
            say(f"    the collector: {error}")
            return None, None


def _pause(seconds: float, why: str = "") -> None:
    if why:
        say(f"{why}, {seconds:.0f} s")
    time.sleep(max(0.0, seconds))


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def kept(file: Path) -> Iterator[Result]:
    """The results of an earlier run."""
    if file.exists():
        for line in file.read_bytes().splitlines():
            yield msgspec.json.decode(line, type=Result)


def options() -> argparse.ArgumentParser:
    """Those of the command."""
    parser = argparse.ArgumentParser(prog="make lab", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--classes", default=",".join(CLASSES), help="comma between them (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each class (default: {ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: 1)")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--out", type=Path, default=Path("lab-results"), help="results, frames and table; continued")
    parser.add_argument("--again", action="store_true", help="nothing but explain anew what --out keeps")
    parser.add_argument("--state", type=Path, help="directory of the stack (default: a temporary one)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lab; returns the exit code: 0 also when reports are wrong, for this measures."""
    asked = options().parse_args(arguments)
    kinds = asked.classes.split(",")
    unknown = [kind for kind in kinds if kind not in CLASSES]
    if unknown:
        sys.stderr.write(f"no such class: {', '.join(unknown)}; there are {', '.join(CLASSES)}" + "\n")
        return 2
    dumps = asked.out / "frames"
    dumps.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.ndjson"
    results = list(kept(file))
    if asked.again:
        say(told(again(results, dumps)))
        return 0
    done = {(result.seed, result.kind, result.round) for result in results}
    todo = [p for p in plans(kinds, asked.rounds, asked.seed) if (asked.seed, p.kind, p.round) not in done]
    until = None if asked.minutes is None else time.time() + asked.minutes * 60
    what = f"{described()}; seed {asked.seed}; {RATE:.1f} visits a second"
    say(f"{what}; {len(todo)} injections to do, {len(done)} done before")

    def keep(result: Result) -> None:
        with file.open("ab") as out:
            out.write(msgspec.json.encode(result) + b"\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # a shell's background job would ignore Ctrl-C
    with tempfile.TemporaryDirectory(prefix="bv-lab-") as temporary:
        os.chmod(temporary, 0o711)  # PostgreSQL runs as its own user
        try:
            with running(asked.state or Path(temporary) / "s") as stack:
                visitors = Traffic(stack.ask, RATE, random.Random(asked.seed), THREADS, WEIGHTS)
                visitors.start()
                try:
                    Lab(stack, asked.seed, results, keep, dumps).run(todo, until)
                except KeyboardInterrupt:
                    say("stopped; the same command goes on")
                finally:
                    visitors.stop()
                say(json.dumps({"visits": attrs.asdict(visitors.counts, filter=lambda a, _: a.name[0] != "_")}))
        except NoStack as error:
            sys.stderr.write(f"the lab cannot run: {error}" + "\n")
            return 1
    table = f"{what}\n\n{told(results)}\n"
    (asked.out / "table.md").write_text(table)
    say(f"\n{table}\nwritten to {asked.out}/table.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
