"""P1: what the PHP client costs a page of WordPress and of MediaWiki, and that no byte of it differs.

Real applications, installed by this script: WordPress on MariaDB, MediaWiki on PostgreSQL. A pool of one worker for
each way of measuring, OPcache on, a stand-in for the agent that answers at once. All pools are asked for the same page,
one after another, in random order, again and again. Wall time is until the last byte; CPU time is that of the worker
with all its threads, as the kernel counts it, and includes what the client does after the answer. A figure is the
median of the differences between a page with and the page without in the same round, with its 95 % interval by order
statistics.

    python -m benchmarks.p1_overhead [--rounds 300]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from bitville_apm.cli import php_files
from tests.php import databases
from tests.php.applications import HOST, Application, Page
from tests.php.mediawiki import MediaWiki
from tests.php.peer import PATIENCE_S, Agent, Fpm, Response, Site
from tests.php.wordpress import WordPress

WARM_UP = 20
DEEP = ("tideways_xhprof",)
WAYS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "Excimer 10 ms": ({}, ()),
    "no profiler": ({"profiler": "none"}, ()),
    "switched off": ({"profiling_enabled": 0}, ()),
    "tideways loaded, Excimer": ({}, DEEP),
    "tideways deep mode": ({"xhprof_enabled": 1, "xhprof_one_in": 1}, DEEP),
}
"""Settings, and extensions beside the application's."""


@attrs.frozen
class Taken:
    """One page: milliseconds until its last byte, and of CPU until its worker had done with it."""

    wall: float
    cpu: float


@attrs.define(eq=False)
class Pool:
    """One way of measuring, and what it took."""

    fpm: Fpm
    site: Site
    agent: Agent
    parameters: Mapping[str, str]
    took: list[Taken] = attrs.Factory(list)

    @property
    def worker(self) -> int:
        """The process id of its only worker."""
        children = Path(f"/proc/{self.fpm.process.pid}/task/{self.fpm.process.pid}/children").read_text()
        return int(children.split()[0])

    def get(self, uri: str) -> Page:
        """A page, once its worker has done with it."""
        # The clock of another process: its threads that have ended are in it, too.
        clock = (~self.worker << 3) | 2
        closed, connections = self.agent.closed, len(self.agent.connections)
        began, before = time.perf_counter(), time.clock_gettime(clock)
        with self.fpm.open(self.site, "", uri, **self.parameters) as connection:
            data = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            wall = time.perf_counter() - began
        deadline = time.monotonic() + PATIENCE_S
        while len(self.agent.connections) > connections and self.agent.closed == closed:
            assert time.monotonic() < deadline, "the worker never came to an end"
            time.sleep(0.0005)
        time.sleep(0.002)
        self.took.append(Taken(wall * 1e3, (time.clock_gettime(clock) - before) * 1e3))
        answer = Response.of(data)
        # As a web server would pass them on: the applications' own patterns know them so.
        headers = tuple((name.title(), value) for name, value in answer.headers.items())
        return Page(answer.status, headers, answer.body)


@contextlib.contextmanager
def pools(application: Application, parameters: Mapping[str, str]) -> Iterator[dict[str, Pool]]:
    """The application without the client first, then in each way."""
    with contextlib.ExitStack() as stack:

        def folder() -> Path:
            made = tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True)
            return Path(stack.enter_context(made))

        client = folder() / "client"
        php_files.copy_to(client, stub=False)
        # Younger files are not kept by OPcache.
        time.sleep(2.5)
        made: dict[str, Pool] = {}
        for name, (settings, more) in {"without": ({}, ()), **WAYS}.items():
            site = Site(folder())
            site.configure(None, **settings)
            extensions = (*application.extensions, *more)
            fpm = Fpm(folder(), name != "without", client / "prepend.php", extensions=extensions, children=1)
            stack.callback(fpm.stop)
            made[name] = Pool(fpm, site, stack.enter_context(site.agent()), parameters)
        yield made


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median, and its 95 % interval: by order statistics, so that one slow page weighs no more than any other."""
    ordered, n = sorted(values), len(values)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return statistics.median(ordered), ordered[low], ordered[high]


def compare(name: str, application: Application, uri: str, script: str, rounds: int, **more: str) -> str:
    """Print what each way costs this page; the goal's line for Excimer."""
    parameters = {
        "SCRIPT_FILENAME": f"{application.home}{script}",
        "SCRIPT_NAME": script,
        "HTTP_HOST": HOST,
        "SERVER_NAME": HOST,
        **more,
    }
    chance = random.Random(1)
    with pools(application, parameters) as made:
        plain = made["without"]
        differences = dict.fromkeys(made, 0)
        for turn in range(WARM_UP + rounds):
            if turn == WARM_UP:
                differences = dict.fromkeys(made, 0)
                for pool in made.values():
                    pool.took.clear()
            order = list(made)
            chance.shuffle(order)
            pages = {way: made[way].get(uri) for way in order}
            for way, page in pages.items():
                differences[way] += application.settled(page) != application.settled(pages["without"])
        base = Taken(*(statistics.median(getattr(t, kind) for t in plain.took) for kind in ("wall", "cpu")))
        print(f"{name} {uri}: without the client {base.wall:.1f} ms, CPU {base.cpu:.1f} ms; {rounds} rounds")
        goal = ""
        for way, pool in made.items():
            if way == "without":
                continue
            told = []
            for kind in ("wall", "cpu"):
                deltas = [getattr(a, kind) - getattr(b, kind) for a, b in zip(pool.took, plain.took, strict=True)]
                figures = [100 * value / getattr(base, kind) for value in interval(deltas)]
                told.append("{} {:+.1f} % ({:+.1f} to {:+.1f})".format(kind, *figures))
            line = f"{'; '.join(told)}; {differences[way]} pages differ"
            print(f"  {way:24} {line}")
            goal = goal or f"{name}: {line}"
    return goal


def main() -> int:
    """Print every way for both applications, and the goal's figures last."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=300)
    rounds = arguments.parse_args().rounds
    goals = []
    with databases.mysql() as database, databases.application(WordPress, database) as blog:
        goals.append(compare("WordPress", blog, "/", "/index.php", rounds))
    with databases.postgres() as database, databases.application(MediaWiki, database) as wiki:
        uri = "/index.php?title=Main_Page"
        goals.append(compare("MediaWiki", wiki, uri, "/index.php", rounds, MW_CONFIG_FILE=str(wiki.settings)))
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.0f}, OPcache, one worker for each way")
    print(f"P1, Excimer at 10 ms on every request: {'. '.join(goals)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
