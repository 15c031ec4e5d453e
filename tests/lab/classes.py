"""The classes of spikes.md: what happens in each, with a random culprit, and what a right report says of it."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from tests.lab.world import Effects, Endpoint, Process, Statement, World, planned

Value = tuple[str, str]


@attrs.frozen
class Truth:
    """`causes`: for each thing that was done the values that name it (dimension, value); any of them will do.

    `mechanisms`: the labels that fit each. `kinds`: whether it is load or waiting.
    """

    causes: tuple[frozenset[Value], ...]
    mechanisms: tuple[frozenset[str], ...]
    kinds: frozenset[str]


@attrs.frozen
class Injected:
    """What is different while it lasts; `share` is 0 to 1 of its time, for what does not stay the same."""

    effects: Callable[[float, Effects], None]
    truth: Truth


NAMES = (
    "GET /", "GET /product/{}", "GET /category/{}", "GET /search", "POST /cart", "GET /cart", "POST /checkout",
    "GET /account", "POST /login", "GET /api/stock/{}", "GET /api/price/{}", "POST /api/order", "GET /feed",
    "GET /sitemap", "GET /blog/{}", "GET /reviews/{}", "POST /review", "GET /wishlist", "GET /compare", "GET /export",
    "GET /admin/orders", "POST /api/track", "GET /invoice/{}", "GET /suggest", "cron.php cleanup",
)  # fmt: skip
SHARED = ("Router::match", "Container::get", "Twig\\Template::render", "Session::open", "json_encode", "Logger::write")
HOSTS = ("payments.example", "search.example", "mail.example")


def application(
    random: random.Random, utilisation: float, together: bool = False, wide: bool = False, least: int = 2
) -> World:
    """A shop that uses this much of its CPUs. `wide`: more endpoints, functions and statements than a frame keeps."""
    cores, db_cores = random.choice((2, 4, 8, 16) if least == 2 else (8, 16)), random.choice((2, 4, 8))
    names = list(NAMES[: random.randint(9, len(NAMES))])
    if wide:
        names += [f"GET /page/{n}" for n in range(230)]
    tables = ("product", "category", "orders", "customer", "cart", "stock", "price", "review", "session", "audit")
    statements = {}
    for n in range(random.randint(15, 40) + 230 * wide):
        table = random.choice(tables)
        name = f"SELECT * FROM {table} WHERE c{n} = ?" if n % 3 else f"UPDATE {table} SET c{n} = ? WHERE id = ?"
        statements[name] = Statement(name, random.lognormvariate(-6.5, 0.8), random.choice((0.02, 0.05, 0.2)))
    endpoints = []
    for n, name in enumerate(names):
        rate = random.lognormvariate(0, 1) / (1 + n / 4)
        functions = {f: random.lognormvariate(-6.5, 0.5) for f in random.sample(SHARED, 4)}
        own = name.split(" ")[1].strip("/{}").replace("/", "_") or "home"
        functions |= {f"{own.title()}Controller::step{i}": random.lognormvariate(-5, 1) for i in range(2 + 3 * wide)}
        used = random.sample(sorted(statements), min(len(statements), random.randint(1, 6)))
        external = {random.choice(HOSTS): random.uniform(0.03, 0.2)} if random.random() < 0.25 else {}
        endpoints.append(
            Endpoint(name, rate, functions, {s: random.choice((1, 1, 1, 2, 0.3, 5)) for s in used}, external)
        )
    web = sum(e.rate * e.cpu for e in endpoints)
    scale = cores * utilisation * (0.6 if together else 1.0) / web
    for endpoint in endpoints:
        endpoint.rate *= scale
    db = sum(e.rate * x * statements[s].cost for e in endpoints for s, x in e.statements.items())
    db_scale = (cores * utilisation * 0.4 if together else db_cores * utilisation * 0.8) / db
    for statement in statements.values():
        statement.cost *= db_scale
    usual = {"node_exporter": 0.01, "[kworker]": 0.01, "systemd": 0.005}
    more = {"nginx": 0.05, "redis-server": 0.03, "bitville-agent": 0.02}
    processes = [("web", Process(name, running)) for name, running in {**more, **usual}.items()]
    processes += [("db", Process(name, running)) for name, running in usual.items()]
    clients = {f"10.{n // 20}.{n}.0/24": random.lognormvariate(0, 1) for n in range(70)}
    return World(
        random, endpoints, statements, cores, cores if together else db_cores, together, random.choice((80, 150, 250)),
        processes, clients,
    )  # fmt: skip


def truth(*values: Value, mechanisms: str, kinds: str = "load") -> Truth:
    """One thing that was done."""
    return Truth((frozenset(values),), (frozenset(mechanisms.split("|")),), frozenset(kinds.split("|")))


def _busy(world: World, least: float = 0.01) -> Endpoint:
    """An endpoint that is asked for often enough to be in every frame."""
    total = sum(e.rate * e.cpu for e in world.endpoints)
    good = [e for e in world.endpoints if e.rate * e.cpu >= least * total and e.rate > 0.2] or world.endpoints
    return world.random.choice(good)


def _strength(world: World, cores: int) -> float:
    """CPUs that a culprit wants: from what is just seen to what chokes the host."""
    if world.strength < 1:
        return cores * world.random.uniform(0.3, 0.4)
    return max(2.2, cores * world.random.uniform(0.6, 1.6))


def traffic(world: World) -> Injected:
    """More requests for one endpoint."""
    endpoint = _busy(world)
    factor = 1 + _strength(world, world.cores) / (endpoint.rate * endpoint.cpu)

    def act(_: float, effects: Effects) -> None:
        effects.rate[endpoint.name] = factor

    return Injected(act, truth(("endpoint", endpoint.name), mechanisms="traffic"))


def all_traffic(world: World) -> Injected:
    """More requests for everything."""
    used = sum(e.rate * e.cpu for e in world.endpoints) / world.cores
    factor = max(2.0, (used + world.random.uniform(0.4, 0.7)) / used)

    def act(_: float, effects: Effects) -> None:
        effects.all_rates = factor

    return Injected(act, truth(("all", "all endpoints"), mechanisms="traffic"))


def statement(world: World) -> Injected:
    """One statement takes longer: its index is gone."""
    weights: dict[str, float] = {}
    for e in world.endpoints:
        for s, x in e.statements.items():
            weights[s] = weights.get(s, 0.0) + e.rate * x * world.statements[s].cost
    total = sum(weights.values())
    name = world.random.choice([s for s, w in weights.items() if w >= 0.01 * total])
    factor = 1 + _strength(world, world.db_cores) / weights[name]

    def act(_: float, effects: Effects) -> None:
        effects.costs[name] = factor

    return Injected(act, truth(("statement", name), mechanisms="regression"))


def lock(world: World) -> Injected:
    """A session holds a lock, and who wants to write waits."""
    asked = {s for e in world.endpoints for s, x in e.statements.items() if s.startswith("UPDATE") and e.rate * x > 0.3}
    name = world.random.choice(sorted(asked) or sorted(s for e in world.endpoints for s in e.statements))

    def act(_: float, effects: Effects) -> None:
        effects.locked = name

    return Injected(act, truth(("blocker", f"app@shop 4711: {name}"), mechanisms="lock", kinds="waiting"))


def external(world: World) -> Injected:
    """A host that is called answers slowly."""
    users = [e for e in world.endpoints if e.external] or [world.endpoints[0]]
    for e in users:
        e.external = e.external or {HOSTS[0]: 0.1}
    host = world.random.choice(sorted({h for e in users for h in e.external}))
    rate = sum(e.rate for e in users if host in e.external)
    usual = max(e.external[host] for e in users if host in e.external)
    seconds = max(2.0, world.random.uniform(1.5, 4) * world.cores / rate)
    factor = min(seconds, 0.5 * world.workers / rate) / usual

    def act(_: float, effects: Effects) -> None:
        effects.external[host] = factor

    return Injected(act, truth(("external", host), mechanisms="external", kinds="waiting"))


def cron(world: World) -> Injected:
    """A program beside PHP wants CPUs."""
    name = world.random.choice(("gzip", "convert", "python3", "clamscan", "ffmpeg"))
    process = Process(name, _strength(world, world.cores))

    def act(_: float, effects: Effects) -> None:
        effects.processes.append(("web", process))

    return Injected(act, truth(("process", name), mechanisms="not php"))


def backup(world: World) -> Injected:
    """A program beside PHP is blocked on a disk, many times over."""
    name = world.random.choice(("rsync", "tar", "restic", "mysqldump", "updatedb"))
    process = Process(name, 0.3, max(3.0, world.random.uniform(0.7, 1.5) * world.cores), "jbd2_log_wait_commit")

    def act(_: float, effects: Effects) -> None:
        effects.processes.append(("web", process))

    return Injected(act, truth(("process", name), mechanisms="not php"))


def crawler(world: World) -> Injected:
    """One client asks for everything."""
    average = sum(e.cpu for e in world.endpoints) / len(world.endpoints)
    client = ("203.0.113.0/24", _strength(world, world.cores) / average)

    def act(_: float, effects: Effects) -> None:
        effects.client = client

    return Injected(act, truth(("client", client[0]), mechanisms="crawler|traffic"))


def swap(world: World) -> Injected:
    """Memory is short: everything takes longer, and is blocked."""
    factor = world.random.uniform(2.5, 5)

    def act(_: float, effects: Effects) -> None:
        effects.slower = factor

    return Injected(act, truth(("memory", "memory pressure"), mechanisms="memory pressure"))


def function(world: World, deploy: bool = False) -> Injected:
    """One function of one endpoint takes longer."""
    endpoint = _busy(world)
    name = world.random.choice([f for f in endpoint.functions if f not in SHARED])
    more = _strength(world, world.cores) / endpoint.rate

    def act(_: float, effects: Effects) -> None:
        effects.functions[endpoint.name, name] = more
        if deploy:
            effects.release = "r2"

    labels = "deploy" if deploy else "regression"
    return Injected(act, truth(("function", name), ("endpoint", endpoint.name), mechanisms=labels))


def deploy(world: World) -> Injected:
    """The same, with a new release."""
    return function(world, deploy=True)


def killer(world: World) -> Injected:
    """A single request takes the CPUs (it has children that count as its own), or a database's."""
    id_ = f"killer-{world.random.getrandbits(32):08x}"
    endpoint = world.random.choice([*[e.name for e in world.endpoints], "GET /report"])
    killed = (id_, endpoint, "Report::build", max(2.5, 0.65 * world.cores), None)

    def act(_: float, effects: Effects) -> None:
        effects.killer = killed

    return Injected(act, truth(("request", id_), ("endpoint", endpoint), mechanisms="killer request"))


def n_plus_one(world: World) -> Injected:
    """An endpoint asks for each row of a list by itself."""
    endpoint = _busy(world)
    name = world.random.choice(sorted(endpoint.statements) if world.random.random() < 0.6 else sorted(world.statements))
    cost = world.statements[name].cost
    more = max(10.0, _strength(world, world.db_cores) / (endpoint.rate * cost))

    def act(_: float, effects: Effects) -> None:
        effects.executions[endpoint.name, name] = more

    return Injected(act, truth(("endpoint", endpoint.name), ("statement", name), mechanisms="n+1"))


def stampede(world: World) -> Injected:
    """A cache is empty: many endpoints rebuild the same at once."""
    users = [e for e in world.endpoints if e.rate > 0.3][:8] or world.endpoints
    rate = sum(e.rate for e in users)
    if world.random.random() < 0.5:
        name = "Cache::rebuildMenu"
        for e in users:
            e.functions[name] = 1e-5
        more = max(_strength(world, world.cores) / rate, 0.01)

        def act(_: float, effects: Effects) -> None:
            for e in users:
                effects.functions[e.name, name] = more

        # Excimer does not count calls, and a function that was sampled in every request says nothing about them.
        return Injected(act, truth(("function", name), mechanisms="stampede|regression"))
    name = "SELECT * FROM menu JOIN category"
    world.statements[name] = Statement(name, max(0.02, _strength(world, world.db_cores) / rate), 0.05)
    for e in users:
        e.statements[name] = 0.002

    def act2(_: float, effects: Effects) -> None:
        for e in users:
            effects.executions[e.name, name] = 1.0

    return Injected(act2, truth(("statement", name), mechanisms="stampede"))


def knee(world: World) -> Injected:
    """A small intruder on a host that was near its limit."""
    small = world.cores * world.random.uniform(0.3, 0.45)
    if world.random.random() < 0.5:
        process = Process("python3", small)

        def act(_: float, effects: Effects) -> None:
            effects.processes.append(("web", process))

        return Injected(act, truth(("process", "python3"), mechanisms="not php"))
    total = sum(e.rate * e.cpu for e in world.endpoints)
    low = [e for e in world.endpoints if 0.005 * total < e.rate * e.cpu < 0.1 * total and e.rate > 0.1]
    endpoint = world.random.choice(low or world.endpoints)
    factor = 1 + small / (endpoint.rate * endpoint.cpu)

    def act2(_: float, effects: Effects) -> None:
        effects.rate[endpoint.name] = factor

    return Injected(act2, truth(("endpoint", endpoint.name), mechanisms="traffic"))


def pool(world: World) -> Injected:
    """An endpoint whose requests sleep fills all workers of the pool."""
    usual = sum(p.rate * (p.cpu + p.database + p.away) for p in (planned(world, e, Effects()) for e in world.endpoints))
    world.workers = max(world.random.choice((30, 40, 60)), round(6 * usual))
    endpoint = world.random.choice([e for e in world.endpoints if e.rate > 0.3] or world.endpoints)
    seconds = 2.5 * world.workers / endpoint.rate

    def act(_: float, effects: Effects) -> None:
        effects.sleep[endpoint.name] = min(seconds, 40.0)
        effects.rate[endpoint.name] = max(1.0, world.workers / (endpoint.rate * 12))

    return Injected(act, truth(("pool", "www"), mechanisms="pool", kinds="waiting"))


def two(world: World) -> Injected:
    """Two of the above at once."""
    world.strength = 0.5  # that both have room: one that chokes the host starves the other
    kinds = [traffic, function, cron, crawler]
    first, second = (kind(world) for kind in world.random.sample(kinds, 2))

    def act(share: float, effects: Effects) -> None:
        first.effects(share, effects)
        second.effects(share, effects)

    return Injected(
        act,
        Truth(
            first.truth.causes + second.truth.causes,
            first.truth.mechanisms + second.truth.mechanisms,
            frozenset({"load"}),
        ),
    )


CLASSES: dict[str, Callable[[World], Injected]] = {
    "traffic": traffic, "all traffic": all_traffic, "statement": statement, "lock": lock, "external": external,
    "cron": cron, "backup": backup, "crawler": crawler, "swap": swap, "function": function, "deploy": deploy,
    "killer": killer, "n+1": n_plus_one, "stampede": stampede, "knee": knee, "same database": statement, "pool": pool,
    "two": two,
}  # fmt: skip
