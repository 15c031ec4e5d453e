"""Troubles that the demo makes by itself, or when it is asked to: so that there is a spike to explain.

What happens inside the shop is switched by a file that it reads (`shop/src/Trouble.php`); what happens beside it, a
crowd, a lock, a slow carrier, another process, is made here. Each ends after its time, and with the demo.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from bitville_apm.demo.carrier import Carrier
from bitville_apm.demo.releases import Releases
from bitville_apm.demo.traffic import Crowd, Traffic
from bitville_apm.demo.visits import PAGES, ROUTES, Visits, zipf

SECONDS = 60.0
SLOW_CARRIER_S = 12.0
MOST_MS = 4000.0
LOADS = 2.5
"""Load units that a trouble aims at on a small machine: a spike opens above 1.5, or half the cores."""
LOADS_A_CORE = 0.75
ALSO_LIKED_MS = 2.0
SIMILAR = 6
"""One statement of `also_liked`, and how many of them a product page runs a round."""
SWITCHES = "trouble.json"


@attrs.define(eq=False)
class Scene:
    """What troubles are made of. `data` is the shop's directory; without php-fpm there are no `releases`."""

    data: Path
    traffic: Traffic
    carrier: Carrier
    releases: Releases | None
    cores: int

    @property
    def loads(self) -> float:
        """How much load makes a spike on this machine."""
        return max(LOADS, LOADS_A_CORE * self.cores)

    def cost_ms(self, page: str) -> float:
        """What each visit of a page has to cost more, so that its usual visitors make a spike."""
        weights = zipf(len(PAGES))
        rate = self.traffic.rate * weights[PAGES.index(page)] / sum(weights)
        return min(MOST_MS, 1000 * self.loads / rate)


@attrs.frozen
class Trouble:
    """One kind: what happens, and how it is made for as long as a context lasts. `until` is unix time."""

    says: str
    make: Callable[[Scene, float], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def switched(data: Path, switches: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Have the shop meet these, `{kind: {"until": unix time, …}}`, while the context lasts."""
    file = data / SWITCHES
    new = file.with_suffix(".new")
    new.write_text(json.dumps(switches))
    new.rename(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def crowded(crowd: Crowd) -> Iterator[None]:
    """A crowd, while the context lasts."""
    crowd.start()
    try:
        yield
    finally:
        crowd.stop()


def _n_plus_1(scene: Scene, until: float) -> contextlib.AbstractContextManager[None]:
    rounds = max(1, round(scene.cost_ms("product") / (SIMILAR * ALSO_LIKED_MS)))
    return switched(scene.data, {"n+1": {"until": until, "page": ROUTES["product"], "rounds": rounds}})


def _burner(scene: Scene, until: float) -> contextlib.AbstractContextManager[None]:
    return switched(
        scene.data, {"burner": {"until": until, "page": ROUTES["home"], "ms": round(scene.cost_ms("home"))}}
    )


@contextlib.contextmanager
def _deploy(scene: Scene, until: float) -> Iterator[None]:
    if scene.releases is None:
        raise OSError("no php-fpm, and so no releases")
    scene.releases.deploy()
    switch = {"until": until, "page": ROUTES["category"], "ms": round(scene.cost_ms("category"))}
    with switched(scene.data, {"deploy": switch}):
        yield
    scene.releases.deploy()


def _stampede(scene: Scene, until: float) -> contextlib.AbstractContextManager[None]:
    return switched(scene.data, {"stampede": {"until": until}})


def _rush(scene: Scene, _until: float) -> contextlib.AbstractContextManager[None]:
    visits = Visits(scene.traffic.chance)
    crowd = Crowd(scene.traffic.ask, lambda: visits.of("recommendations"), _size(scene), scene.traffic.counts)
    return crowded(crowd)


def _crawler(scene: Scene, _until: float) -> contextlib.AbstractContextManager[None]:
    visits = Visits(scene.traffic.chance)
    return crowded(Crowd(scene.traffic.ask, visits.crawl, _size(scene), scene.traffic.counts))


def _size(scene: Scene) -> int:
    return round(scene.loads) + 2


@contextlib.contextmanager
def _carrier(scene: Scene, _until: float) -> Iterator[None]:
    usual = scene.carrier.delay
    scene.carrier.delay = SLOW_CARRIER_S
    try:
        yield
    finally:
        scene.carrier.delay = usual


@contextlib.contextmanager
def _lock(scene: Scene, _until: float) -> Iterator[None]:
    with _database(scene.data) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")


@contextlib.contextmanager
def _index(scene: Scene, _until: float) -> Iterator[None]:
    with _database(scene.data) as database:
        database.execute("DROP INDEX IF EXISTS review_product")
        try:
            yield
        finally:
            mend(scene.data)


def mend(data: Path) -> None:
    """Give the shop back the index that a demo killed meanwhile has left it without."""
    with _database(data) as database:
        database.execute("CREATE INDEX IF NOT EXISTS review_product ON review (product_id, stars)")


@contextlib.contextmanager
def _database(data: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(data / "shop2.sqlite", timeout=20, isolation_level=None)
    with contextlib.closing(database):
        yield database


@contextlib.contextmanager
def _cron(scene: Scene, _until: float) -> Iterator[None]:
    # `timeout`: it ends by itself even when the demo is killed.
    command = ["timeout", f"{SECONDS + 5:g}", "gzip", "-9", "--stdout", "/dev/zero"]
    jobs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) for _ in range(_size(scene))]
    try:
        yield
    finally:
        for job in jobs:
            job.terminate()
        for job in jobs:
            job.wait()


TROUBLES: Mapping[str, Trouble] = {
    "n+1": Trouble("product pages ask once for every product in a loop, instead of once for all", _n_plus_1),
    "cron": Trouble("a job that has nothing to do with PHP compresses an archive", _cron),
    "deploy": Trouble("a new release, whose badges on category pages are slow", _deploy),
    "rush": Trouble("a crowd wants recommendations, the page that burns CPU", _rush),
    "lock": Trouble("something holds the database's write lock: carts and checkouts wait", _lock),
    "crawler": Trouble("a robot reads everything at once, from one address", _crawler),
    "index": Trouble("the index of the reviews is dropped: one statement reads the whole table", _index),
    "burner": Trouble("a campaign's new function burns CPU on the home page", _burner),
    "carrier": Trouble(f"the carrier, another host, takes {SLOW_CARRIER_S:g} s to answer", _carrier),
    "stampede": Trouble("the cache forgets the menu: all pages work it out at once, again and again", _stampede),
}
"""In the order in which the demo makes them by itself."""
