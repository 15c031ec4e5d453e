"""What is done to the shop, one class of spike at a time, and the truth about it (the classes of the live lab).

Each class draws its culprit, its strength and nothing else from `chance`, and is a context: what it does lasts as long
as the context does.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from bitville_apm.demo.traffic import Counts, Crowd
from bitville_apm.demo.trouble import crowded, switched
from bitville_apm.demo.visits import PAGES, ROUTES, Visit, Visits
from tests.lab.stack import WORKERS, Stack
from tests.lab.truth import Truth

RATES: Mapping[str, float] = {
    "product": 2.0,
    "home": 1.5,
    "category": 1.5,
    "image": 1.0,
    "search": 1.5,
    "prices": 1.0,
    "add_to_cart": 1.0,
    "cart": 1.0,
    "delivery": 1.0,
    "orders": 0.4,
    "stock": 1.5,
    "feed": 0.8,
    "recommendations": 0.15,
    "login": 0.4,
    "checkout": 0.05,
    "report": 0.3,
    "missing": 0.3,
    "voucher": 0.2,
}
"""Visits a second of each page: flatter than the demo's, so that any of them can be the culprit; about half a core."""
RATE = sum(RATES.values())
WEIGHTS = tuple(RATES[page] for page in PAGES)
ALSO_LIKED_MS = 2.5
LISTED = {"product": 6, "home": 12, "category": 55, "search": 30}
"""Products that a page lists, about: what N+1 asks for one by one."""


@attrs.frozen
class Injection:
    """One thing to do: what it is called in the table, the truth about it, and how it is done."""

    culprit: str
    truth: Truth
    do: Callable[[], contextlib.AbstractContextManager[None]]


Draw = Callable[[Stack, random.Random, float], Injection]
"""Draws an injection that may last so many seconds."""


def _endpoint(page: str) -> tuple[str, str]:
    return ("endpoint", f"^{re.escape(ROUTES[page])}$")


def _cost_ms(chance: random.Random, page: str) -> float:
    """What each visit costs more, so that the page alone asks for about as much CPU as there is."""
    return 1000 * (os.cpu_count() or 1) * chance.uniform(0.9, 1.3) / RATES[page]


def _burner(stack: Stack, chance: random.Random, seconds: float) -> Injection:
    page = chance.choice(["product", "home", "category", "search", "stock", "prices", "cart", "image"])
    switch = {"until": time.time() + seconds + 5, "page": ROUTES[page], "ms": round(_cost_ms(chance, page))}
    truth = Truth(["load"], [_endpoint(page), ("function", "Campaign::personal_offers")], ["regression"])
    return Injection(ROUTES[page], truth, lambda: switched(stack.shop.data, {"burner": switch}))


def _crowd(stack: Stack, visits: Callable[[], Visit], size: int) -> contextlib.AbstractContextManager[None]:
    return crowded(Crowd(stack.ask, visits, size, Counts()))


def _surge(stack: Stack, chance: random.Random, _seconds: float) -> Injection:
    page = chance.choice(["product", "search", "recommendations", "login", "report", "orders", "feed", "category"])
    visits = Visits(chance, WEIGHTS)
    size = chance.randint(5, 7)
    truth = Truth(["load"], [_endpoint(page)], ["traffic"])
    return Injection(ROUTES[page], truth, lambda: _crowd(stack, lambda: visits.of(page), size))


def _n_plus_1(stack: Stack, chance: random.Random, seconds: float) -> Injection:
    page = chance.choice(list(LISTED))
    rounds = max(1, round(_cost_ms(chance, page) / (ALSO_LIKED_MS * LISTED[page])))
    switch = {"until": time.time() + seconds + 5, "page": ROUTES[page], "rounds": rounds}
    truth = Truth(["load"], [_endpoint(page), ("statement", "^SELECT b.product_id")], ["n+1"])
    return Injection(ROUTES[page], truth, lambda: switched(stack.shop.data, {"n+1": switch}))


INDEXES = {
    "review_product": ("review (product_id, stars)", r"^SELECT p\.id, p\.name, p\.price, \(SELECT"),
    "review_author": ("review (author_id)", r"^SELECT b\.product_id"),
}


def _index(stack: Stack, _chance: random.Random, _seconds: float) -> Injection:
    index = "review_product"  # the one without which usual traffic makes a spike
    columns, statement = INDEXES[index]

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        stack.sql(f"DROP INDEX IF EXISTS {index}")
        try:
            yield
        finally:
            stack.sql(f"CREATE INDEX IF NOT EXISTS {index} ON {columns}")

    return Injection(index, Truth(["load"], [("statement", statement)], ["regression"]), do)


def _lock(stack: Stack, chance: random.Random, seconds: float) -> Injection:
    table = chance.choice(["cart_line", "product", "review", "order_line"])
    sql = f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds + 5:g})"
    truth = Truth(["waiting"], [("blocker", "^backup@")], ["lock"])
    return Injection(table, truth, lambda: _beside([stack.psql("backup", sql)]))


def _external(stack: Stack, chance: random.Random, _seconds: float) -> Injection:
    delay = chance.uniform(4.0, 9.0)

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        usual, stack.carrier.delay = stack.carrier.delay, delay
        try:
            yield
        finally:
            stack.carrier.delay = usual

    truth = Truth(["waiting"], [("external", "carrier"), _endpoint("delivery")], ["external"])
    return Injection(f"carrier.example, {delay:.1f} s", truth, do)


@contextlib.contextmanager
def _beside(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Processes beside the shop, ended with the context whatever they do."""
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for command in commands
    ]
    try:
        yield
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _cron_cpu(_stack: Stack, chance: random.Random, seconds: float) -> Injection:
    packers = {
        "gzip": ["gzip", "-9", "--stdout", "/dev/zero"],
        "xz": ["xz", "-9", "--stdout", "/dev/zero"],
        "bzip2": ["bzip2", "--stdout", "/dev/zero"],
        "sha512sum": ["sha512sum", "/dev/zero"],
    }
    name = chance.choice([name for name in packers if shutil.which(name)])
    commands = [["timeout", f"{seconds + 5:g}", *packers[name]]] * chance.randint(4, 6)
    family = name.rstrip("0123456789")  # as the agent calls it
    return Injection(name, Truth(["load"], [("process", f"^{family}$")], ["not php"]), lambda: _beside(commands))


def _cron_disk(stack: Stack, chance: random.Random, seconds: float) -> Injection:
    directory = stack.place.state / "disk"
    how = chance.choice([("oflag=dsync", "bs=4k"), ("oflag=direct", "bs=64k"), ("oflag=sync", "bs=16k")])
    commands = [
        ["timeout", f"{seconds + 5:g}", "dd", "if=/dev/zero", f"of={directory}/{number}", *how]
        for number in range(chance.randint(10, 14))
    ]

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        directory.mkdir(exist_ok=True)
        try:
            with _beside(commands):
                yield
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    return Injection(f"dd {' '.join(how)}", Truth(["load"], [("process", "^dd$")], ["not php"]), do)


def _crawler(stack: Stack, chance: random.Random, _seconds: float) -> Injection:
    visits = Visits(chance, WEIGHTS)
    truth = Truth(["load"], [("client", r"^198\.18\.200\."), ("agent", "(?i)bot")], ["crawler"])
    return Injection("198.18.200.0/24", truth, lambda: _crowd(stack, visits.crawl, chance.randint(5, 7)))


def _deploy(stack: Stack, chance: random.Random, seconds: float) -> Injection:
    page = chance.choice(["product", "home", "category", "search", "stock", "image"])
    switch = {"until": time.time() + seconds + 5, "page": ROUTES[page], "ms": round(_cost_ms(chance, page))}
    releases = stack.shop.releases
    name = f"r{releases.number + 1}" if releases is not None else ""

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        if releases is not None:
            releases.deploy()
        with switched(stack.shop.data, {"deploy": switch}):
            yield
        if releases is not None:
            releases.deploy()  # the one that mends it

    right = [("release", f"^{name}$"), ("function", "Stickers::render_badges"), _endpoint(page)]
    return Injection(f"{name}, {ROUTES[page]}", Truth(["load"], right, ["deploy"]), do)


def _killer(stack: Stack, _chance: random.Random, _seconds: float) -> Injection:
    visit = Visit("GET", "/admin/report?detail=full&times=8", 1)

    def send() -> None:
        with contextlib.suppress(OSError):
            stack.ask(visit)

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        asking = threading.Thread(target=send, daemon=True)
        asking.start()
        try:
            yield
        finally:
            stop = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) AS pairs%'"
            while asking.is_alive():
                stack.sql(stop, "postgres")
                asking.join(0.5)

    right = [("request", "."), _endpoint("report"), ("statement", r"AS pairs")]
    return Injection("GET /admin/report", Truth(["load"], right, ["killer request"]), do)


def _stampede(stack: Stack, _chance: random.Random, seconds: float) -> Injection:
    switch = {"until": time.time() + seconds + 5}
    right = [("statement", r"^SELECT c\.slug, c\.name, count"), ("function", r"Catalogue::(menu|rows)|Cache::remember")]
    return Injection(
        "menu", Truth(["load"], right, ["stampede"]), lambda: switched(stack.shop.data, {"stampede": switch})
    )


def _saturated(stack: Stack, chance: random.Random, _seconds: float) -> Injection:
    delay = chance.uniform(1.5, 3.0)
    visits = Visits(chance, WEIGHTS)

    @contextlib.contextmanager
    def do() -> Iterator[None]:
        usual, stack.carrier.delay = stack.carrier.delay, delay
        try:
            with _crowd(stack, lambda: visits.of("delivery"), round(1.5 * WORKERS)):
                yield
        finally:
            stack.carrier.delay = usual

    right = [("external", "carrier"), _endpoint("delivery"), ("pool", "shop")]
    return Injection(ROUTES["delivery"], Truth(["waiting"], right, ["pool", "external"]), do)


def _database(stack: Stack, chance: random.Random, _seconds: float) -> Injection:
    sql = (
        "SELECT count(*), avg(abs(a.stars - b.stars)) FROM review a, review b "
        "WHERE a.author_id + 0 = b.author_id + 0 AND a.id % 7 < b.id % 11 AND length(a.words || b.words) > 3"
    )
    again = ["sh", "-c", 'while :; do "$@"; done', "sh", *stack.psql("reports", sql)]
    commands = [again] * chance.randint(3, 4)
    right = [("statement", r"^SELECT count\(\*\), avg\(abs")]
    return Injection("a report beside PHP", Truth(["load"], right, ["not php"]), lambda: _beside(commands))


def _quiet(_stack: Stack, _chance: random.Random, _seconds: float) -> Injection:
    return Injection("nothing", Truth(["none"]), contextlib.nullcontext)


CLASSES: Mapping[str, Draw] = {
    "burner": _burner,
    "surge": _surge,
    "n+1": _n_plus_1,
    "index": _index,
    "lock": _lock,
    "external": _external,
    "cron-cpu": _cron_cpu,
    "cron-disk": _cron_disk,
    "crawler": _crawler,
    "deploy": _deploy,
    "killer": _killer,
    "stampede": _stampede,
    "saturated": _saturated,
    "database": _database,
    "quiet": _quiet,
}
