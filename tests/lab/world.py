"""A small company's machines as fluids: web hosts and a database host that share their CPUs among whoever wants them.

Second by second: requests arrive, take turns on the CPUs (processor sharing), run statements on the database in the
same way, wait for other hosts, and end. Time is conserved: what is in flight is somewhere, and what ended had been.
Nothing of the product is in here; what agents would see of it is made in `emit.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import attrs


def poisson(random: random.Random, mean: float) -> int:
    """A count with this mean."""
    if mean <= 0:
        return 0
    if mean > 30:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    limit, product, n = math.exp(-mean), random.random(), 0
    while product > limit:
        product *= random.random()
        n += 1
    return n


@attrs.define(eq=False)
class Statement:
    """`cost` seconds of a database's time an execution, of which the share `io` is spent blocked on a disk."""

    name: str
    cost: float
    io: float = 0.05


@attrs.define(eq=False)
class Endpoint:
    """`rate` requests a second; `functions` and `statements`: name -> seconds, executions, a request."""

    name: str
    rate: float
    functions: dict[str, float]
    statements: dict[str, float]
    external: dict[str, float] = attrs.Factory(dict)
    sleep: float = 0.0

    @property
    def cpu(self) -> float:
        """Seconds on a CPU a request."""
        return sum(self.functions.values())


@attrs.define(eq=False)
class Process:
    """Something that is not PHP: tasks that run and that are blocked, all the time; `jitter` of the former."""

    name: str
    running: float
    blocked: float = 0.0
    channel: str = "folio_wait_bit_common"


@attrs.define(eq=False)
class Effects:
    """What is different right now. Everything multiplies but `processes`, which add."""

    rate: dict[str, float] = attrs.Factory(dict)
    all_rates: float = 1.0
    functions: dict[tuple[str, str], float] = attrs.Factory(dict)
    """(endpoint or "*", function) -> seconds more a request."""
    costs: dict[str, float] = attrs.Factory(dict)
    executions: dict[tuple[str, str], float] = attrs.Factory(dict)
    """(endpoint, statement) -> executions more a request."""
    external: dict[str, float] = attrs.Factory(dict)
    slower: float = 1.0
    """Everything takes so many times as much CPU, and as much again blocked: memory is short."""
    sleep: dict[str, float] = attrs.Factory(dict)
    client: tuple[str, float] | None = None
    """A client and the requests a second that it adds, spread over all endpoints."""
    processes: list[tuple[str, Process]] = attrs.Factory(list)
    """("web" or "db", what runs)."""
    locked: str | None = None
    """The statement behind a lock that somebody holds."""
    killer: tuple[str, str, str, float, str | None] | None = None
    """A request's id, endpoint, function, CPUs that it takes, and the statement that takes a database's CPU instead."""
    release: str | None = None
    key: str = ""
    """Effects of one key differ in `all_rates` alone."""


@attrs.define(eq=False)
class World:
    """One web host and one database host, or one machine for both (`together`)."""

    random: random.Random
    endpoints: list[Endpoint]
    statements: dict[str, Statement]
    cores: int
    db_cores: int
    together: bool = False
    workers: int = 200
    processes: list[tuple[str, Process]] = attrs.Factory(list)
    clients: dict[str, float] = attrs.Factory(dict)
    release: str = "r1"
    dialect: str = "postgres"
    strength: float = 1.0


class Flow:
    """One endpoint's requests: `jobs` on the CPU with `work` left, `queries` in the database with `asked` left,
    `away` waiting for others, `locked` behind a lock; `age` is the time that those in flight have been."""

    __slots__ = ("age", "asked", "away", "before", "carry", "jobs", "locked", "queries", "waited", "work")

    def __init__(self) -> None:
        self.before = self.waited = 0.0
        self.jobs = self.work = self.queries = self.asked = self.away = self.locked = self.age = self.carry = 0.0

    @property
    def inside(self) -> float:
        """Requests in flight."""
        return self.jobs + self.queries + self.away + self.locked


class Amounts:
    """What one endpoint did in one second."""

    __slots__ = ("arrived", "away_s", "blocked_s", "cpu", "db_s", "db_work", "ended", "inside", "locked_s", "queue",
                 "wall")  # fmt: skip

    def __init__(self) -> None:
        self.arrived = self.ended = 0
        self.cpu = self.queue = self.blocked_s = self.db_s = self.db_work = self.away_s = self.locked_s = 0.0
        self.wall = self.inside = 0.0


@attrs.define(eq=False)
class Second:
    """What happened in one second: by endpoint, and of the machines in all."""

    effects: Effects
    amounts: list[Amounts]
    processes: dict[str, list[tuple[Process, float, float]]]
    """host -> (process, on a CPU, waiting for one)"""
    web_busy: float = 0.0
    db_busy: float = 0.0
    backlog: int = 0
    killer: tuple[float, float] | None = None


def waits_per_work(utilisation: float, cores: int) -> float:
    """How long work waits for each second of it, at a utilisation below 1 (Sakasegawa's approximation of M/M/c)."""
    u = min(utilisation, 0.92)  # beyond it the queue itself is simulated
    return u ** (math.sqrt(2 * (cores + 1)) - 1) / (cores * (1 - u))


@attrs.frozen
class Plan:
    """One request of an endpoint: arrivals a second; seconds on a CPU, in the database, away, and of a worker."""

    rate: float
    cpu: float
    database: float
    away: float
    worker: float


def planned(world: World, endpoint: Endpoint, effects: Effects) -> Plan:
    """What a request of one endpoint is like."""
    cost = sum(endpoint.functions.values())
    executions = sum(endpoint.statements.values())
    for (e, name), seconds in effects.functions.items():
        if e == endpoint.name or (e == "*" and name in endpoint.functions):
            cost += seconds
    executions += sum(x for (e, _), x in effects.executions.items() if e == endpoint.name)
    cost = (cost + executions * 0.00015) * effects.slower
    away = endpoint.sleep + effects.sleep.get(endpoint.name, 0.0)
    away += sum(s * effects.external.get(host, 1.0) for host, s in endpoint.external.items())
    database = demand(world, endpoint, effects)
    # A worker serves many short requests in a second, and one long one.
    worker = min(1.0, 1.2 * (cost + away + database))
    return Plan(endpoint.rate * effects.rate.get(endpoint.name, 1.0), cost, database, away, worker)


@attrs.define(eq=False)
class Machine:
    """Runs a world second by second."""

    world: World
    plans: dict[str, list[Plan]] = attrs.Factory(dict)
    used: list[float] = attrs.Factory(lambda: [0.3, 0.3])
    flows: list[Flow] = attrs.field(init=False)
    backlog: list[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.flows = [Flow() for _ in self.world.endpoints]
        self.backlog = [0.0] * len(self.flows)

    def second(self, effects: Effects) -> Second:
        """One second."""
        world, random = self.world, self.world.random
        amounts = [Amounts() for _ in self.flows]
        self._arrive(effects, amounts)
        processes: dict[str, list[tuple[Process, float]]] = {"web": [], "db": []}
        for place, process in (*world.processes, *effects.processes):
            wanted = process.running * random.lognormvariate(0, 0.4) if process.running < 0.3 else process.running
            processes["web" if world.together else place].append((process, wanted))
        killer_web = effects.killer[3] if effects.killer and effects.killer[4] is None else 0.0
        killer_db = effects.killer[3] if effects.killer and effects.killer[4] is not None else 0.0
        # Who wants a CPU, on which machine: (jobs, work) of each.
        extra = [wanted for _, wanted in processes["web"]] + [killer_web]
        asking = [(flow.jobs, flow.work) for flow in self.flows]
        asked = [(flow.queries, flow.asked) for flow in self.flows]
        if world.together:
            done, used = shared(asking + asked, [*extra, killer_db], world.cores)
            q = self._waits(0, used, world.cores)
            done_web, done_db = done[: len(asking)], done[len(asking) : 2 * len(asking)]
            rest = done[2 * len(asking) :]
            killed, q_db = rest[-2] + rest[-1], q
            done_extra = {"web": rest[:-2], "db": []}
        else:
            done, used = shared(asking, extra, world.cores)
            q = self._waits(0, used, world.cores)
            done_web, rest = done[: len(asking)], done[len(asking) :]
            done2, used = shared(asked, [w for _, w in processes["db"]] + [killer_db], world.db_cores)
            q_db = self._waits(1, used, world.db_cores)
            done_db, rest2 = done2[: len(asked)], done2[len(asked) :]
            done_extra = {"web": rest[:-1], "db": rest2[:-1]}
            killed = rest[-1] + rest2[-1]
        ran: dict[str, list[tuple[Process, float, float]]] = {"web": [], "db": []}
        for place in ("web", "db"):
            for (process, wanted), cpu in zip(processes[place], done_extra[place], strict=True):
                wait = (q if place == "web" else q_db) * cpu
                ran[place].append((process, cpu, max(0.0, max(wanted - cpu, 0.0) if wanted >= 0.3 else wait)))
        for i, (flow, a) in enumerate(zip(self.flows, amounts, strict=True)):
            self._step(i, flow, a, done_web[i], done_db[i], q, q_db, effects)
        seconds = Second(effects=effects, amounts=amounts, processes=ran, backlog=round(sum(self.backlog)))
        seconds.web_busy = sum(done_web) + sum(done_extra["web"]) + killed * (killer_web > 0 or world.together)
        seconds.db_busy = sum(done_db) + sum(done_extra["db"]) + killed * (killer_db > 0)
        if effects.killer:
            wanted = killer_web + killer_db
            seconds.killer = killed, max(0.0, wanted - killed)
        return seconds

    def _waits(self, machine: int, utilisation: float, cores: int) -> float:
        """How long work waits for each second of it, by the utilisation of the last seconds."""
        self.used[machine] += 0.2 * (utilisation - self.used[machine])
        return waits_per_work(self.used[machine], cores)

    def plan(self, effects: Effects) -> list[Plan]:
        """What a request of each endpoint is like now; made once for effects of the same `key`."""
        found = self.plans.get(effects.key)
        if found is None:
            found = self.plans[effects.key] = [
                planned(self.world, endpoint, effects) for endpoint in self.world.endpoints
            ]
        return found

    def _arrive(self, effects: Effects, amounts: Sequence[Amounts]) -> None:
        world, random = self.world, self.world.random
        more = effects.client[1] / len(world.endpoints) if effects.client else 0.0
        room = max(0.0, world.workers - sum([flow.inside for flow in self.flows]))
        held = 0.0
        plans = self.plan(effects)
        for i, plan in enumerate(plans):
            self.backlog[i] += poisson(random, plan.rate * effects.all_rates + more)
            held += self.backlog[i] * plan.worker
        admitted = 1.0 if held <= room else room / held
        for i, plan in enumerate(plans):
            n = self.backlog[i]
            if not n:
                continue
            if admitted < 1.0:
                n = min(n, float(int(n * admitted + random.random())))
            self.backlog[i] -= n
            amounts[i].arrived = round(n)
            flow = self.flows[i]
            flow.jobs += n
            flow.work += n * plan.cpu * math.exp(random.gauss(0, 0.5) / math.sqrt(max(n, 1.0)))

    def _step(
        self, i: int, flow: Flow, a: Amounts, cpu: float, db: float, q: float, q_db: float, effects: Effects
    ) -> None:
        world = self.world
        endpoint = world.endpoints[i]
        # On the CPU.
        through = flow.jobs * cpu / flow.work if flow.work > 0 else flow.jobs
        left = flow.jobs - through
        a.cpu = cpu
        # Requests come all through the second: what waits grows from what was left before to what is left now.
        a.queue = max(q * cpu, (flow.before + left) / 2 - cpu)
        flow.before = left
        if effects.slower > 1:
            a.blocked_s = cpu * (effects.slower - 1)
        flow.jobs, flow.work = left, max(0.0, flow.work - cpu)
        # In the database: what was asked before, then what is asked now.
        plan = self.plan(effects)[i]
        per_request = plan.database
        finished = flow.queries * db / flow.asked if flow.asked > 0 else flow.queries
        waiting = flow.queries - finished
        a.db_work = db
        a.db_s = max(db * (1 + q_db), (flow.waited + waiting) / 2)
        flow.waited = waiting
        flow.queries, flow.asked = waiting, max(0.0, flow.asked - db)
        share = 0.0
        if effects.locked and endpoint.statements.get(effects.locked, 0.0) > 0:
            share = min(1.0, endpoint.statements[effects.locked])
            flow.locked += through * share
        elif flow.locked:
            flow.queries += flow.locked
            flow.asked += flow.locked * per_request
            flow.locked = 0.0
        a.locked_s = flow.locked
        on = through * (1 - share)
        if per_request > 0:
            flow.queries += on
            flow.asked += on * per_request
        else:
            finished += on
        # With others.
        away = plan.away
        flow.away += finished
        leave = flow.away if away < 0.05 else flow.away * (1 - math.exp(-1 / away))
        a.away_s = away * finished if away < 0.5 else flow.away - leave / 2
        flow.away -= leave
        # Ended, in whole requests.
        flow.carry += leave
        a.ended = int(flow.carry)
        flow.carry -= a.ended
        a.inside = a.cpu + a.queue + a.blocked_s + a.db_s + a.away_s + a.locked_s
        flow.age += a.inside
        remaining = flow.inside
        a.wall = flow.age * a.ended / (a.ended + remaining + flow.carry) if a.ended else 0.0
        flow.age = max(0.0, flow.age - a.wall)


def demand(world: World, endpoint: Endpoint, effects: Effects) -> float:
    """Seconds of a database's time that one request asks for."""
    total = 0.0
    for name, executions in endpoint.statements.items():
        total += executions * world.statements[name].cost * effects.costs.get(name, 1.0)
    for (e, name), executions in effects.executions.items():
        if e == endpoint.name:
            total += executions * world.statements[name].cost * effects.costs.get(name, 1.0)
    return total


def shared(asking: Sequence[tuple[float, float]], extra: Sequence[float], cores: int) -> tuple[list[float], float]:
    """Share CPUs in one second: (jobs, work) of each, and single tasks that want so many CPUs.

    A job gets one CPU at most; when there are more jobs than CPUs each gets the same. Returns what each got done, and
    the utilisation.
    """
    wants = [min(work, max(jobs, min(work, 1.0))) for jobs, work in asking] + list(extra)
    heads = [max(jobs, w) for (jobs, _), w in zip(asking, wants, strict=False)] + list(extra)
    total = sum(wants)
    if total <= cores:
        return wants, total / cores
    done = [0.0] * len(wants)
    room, left = float(cores), [i for i, w in enumerate(wants) if w > 0]
    for _ in range(6):
        share = sum(heads[i] for i in left)
        if room <= 1e-9 or share <= 0:
            break
        rate, room_now, still = room / share, room, []
        for i in left:
            got = min(wants[i] - done[i], heads[i] * rate)
            done[i] += got
            room_now -= got
            if wants[i] - done[i] > 1e-9:
                still.append(i)
        room, left = room_now, still
    return done, 1.0
