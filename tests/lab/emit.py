"""What agents send of a simulated world: frames, made by the agent's own code for windows, caps, rounding and links.

Of a world nothing is told that an agent could not know: sessions of a database are sampled once a second, functions
and statements are told when a request ends, a long one's in late frames.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.agent import frames
from bitville_apm.agent.frames import Kept, Said
from bitville_apm.agent.links import Link
from bitville_apm.agent.window import Window
from bitville_apm.cells import Columns, bucket
from bitville_apm.records import Frame
from tests.lab.world import Effects, Endpoint, Second, World, poisson

WEB, DB = "web1", "db1"
LONG_S = 15.0
"""Requests that take longer than this tell their functions in late frames."""


@attrs.define(eq=False)
class Told:
    """Of one endpoint's requests in flight: seconds on a CPU, in the database and away that no end has told of yet."""

    cpu: float = 0.0
    sql: float = 0.0
    away: float = 0.0


@attrs.define(eq=False)
class Agent:
    """Both hosts' agents. `lost_looks`: share of seconds without a look; `captured`: external hosts are told."""

    world: World
    random: random.Random
    captured: bool = True
    lost_looks: float = 0.0
    host_off: bool = False
    skew: float = 0.0
    sampled_away: float = 0.0
    told: list[Told] = attrs.field(init=False)
    kept: dict[str, Kept] = attrs.Factory(lambda: {WEB: {}, DB: {}})
    loads: dict[str, dict[str, Any]] = attrs.Factory(dict)
    load1: dict[str, float] = attrs.Factory(lambda: {WEB: 0.0, DB: 0.0})

    def __attrs_post_init__(self) -> None:
        self.told = [Told() for _ in self.world.endpoints]

    def frames(self, at: int, seconds: Sequence[Second]) -> dict[str, list[Frame]]:
        """The frames of one window: by host, late parts included."""
        web, late = Window(at=at), Window(at=at)
        hosts = {WEB: web} if self.world.together else {WEB: web, DB: Window(at=at)}
        db = hosts.get(DB, web)
        self._requests(web, late, seconds)
        if self.world.dialect == "postgres":
            self._sessions(db, seconds)
        self._processes(hosts, seconds)
        self._loads(hosts, seconds)
        made = {}
        for name, window in hosts.items():
            if self.sampled_away:
                _thin(window, self.sampled_away, self.random)
            made[name] = [self._frame(name, window, False)]
        if late.tables:
            made[WEB].append(self._frame(WEB, late, True))
        return made

    def _frame(self, host: str, window: Window, late: bool) -> Frame:
        kept = frames.keep(window, self.kept[host])
        if not late:
            self.kept[host] = {dimension: frozenset(values) for dimension, values in kept.items()}
        if host == DB and self.skew:
            window.at = int(window.at + self.skew * limits.WINDOW_S)
        said = Said(f"{host}-{window.at}-{late}", None, True, late)
        made = frames.frame(window, said, kept, limits.FRAME_LINKS)
        return msgspec.structs.replace(made, load={} if late else self.loads.get(host, {}))

    def _requests(self, web: Window, late: Window, seconds: Sequence[Second]) -> None:
        world, random = self.world, self.random
        effects = seconds[len(seconds) // 2].effects
        clients, weights = list(world.clients), list(world.clients.values())
        for i, endpoint in enumerate(world.endpoints):
            amounts = [second.amounts[i] for second in seconds]
            ended = sum(a.ended for a in amounts)
            wall, cpu = sum(a.wall for a in amounts), sum(a.cpu for a in amounts)
            queue, blocked = sum(a.queue for a in amounts), sum(a.blocked_s for a in amounts)
            db_s = sum(a.db_s + a.locked_s for a in amounts)
            away = sum(a.away_s for a in amounts)
            if ended == 0 and cpu <= 0 and db_s <= 0 and away <= 0:
                continue
            inside = sum(a.inside for a in amounts)
            open_ = amounts[-1].inside
            told = self.told[i]
            told.cpu += cpu
            told.sql += db_s
            told.away += away
            share = ended / (ended + open_) if ended else 0.0
            sql, gone, own = told.sql * share, told.away * share, told.cpu * share
            told.sql -= sql
            told.away -= gone
            told.cpu -= own
            waited = db_s + away
            typical = inside / max(ended, 1)
            seen = min(1.0, typical / (typical + 0.3)) if inside else 0.0
            columns = Columns(
                requests=ended, wall_us=_us(wall), cpu_us=_us(cpu), queue_us=_us(queue), sql_us=_us(sql),
                blocked_s=blocked, waiting_s=waited * seen, max_us=_us(4 * wall / max(ended, 1)),
            )  # fmt: skip
            if ended:
                columns.histogram = {bucket(1e6 * wall / ended): ended}
            _put(web, "endpoint", endpoint.name, columns)
            self._clients(web, endpoint, columns, effects, clients, weights)
            _put(web, "release", effects.release or world.release, _part(columns, 1.0))
            _link(web, "release", effects.release or world.release, "endpoint", endpoint.name, ended, None, cpu + queue)
            long = typical > LONG_S
            self._functions(late if long else web, endpoint, effects, cpu if long else own, queue, (sql, gone), ended)
            self._statements(web, endpoint, effects, ended, sql)
            if self.captured:
                hosts = {h: s * effects.external.get(h, 1.0) for h, s in endpoint.external.items()}
                total = sum(hosts.values()) + endpoint.sleep + effects.sleep.get(endpoint.name, 0.0)
                for host, s in hosts.items():
                    _put(web, "external", host, Columns(
                        requests=ended, executions=ended, wall_us=_us(gone * s / total if total else 0.0)))  # fmt: skip
            if wall > 0 and typical > 0.5:
                for _ in range(min(3, ended)):
                    part = random.uniform(0.3, 1.5) / max(ended, 1)
                    _put(web, "request", f"req-{random.getrandbits(48):012x}", _part(columns, part))
        self._killer(web, late, seconds)

    def _clients(
        self, web: Window, endpoint: Endpoint, columns: Columns, effects: Effects, clients: Sequence[str],
        weights: Sequence[float],
    ) -> None:  # fmt: skip
        left, n = 1.0, columns.requests
        if effects.client is not None:
            rate = effects.client[1] / len(self.world.endpoints)
            own = endpoint.rate * effects.rate.get(endpoint.name, 1.0) * effects.all_rates
            part = rate / (rate + own)
            _put(web, "client", effects.client[0], _part(columns, part))
            _link(web, "client", effects.client[0], "endpoint", endpoint.name, round(n * part), None,
                  part * _tasks(columns))  # fmt: skip
            left -= part
        picks = max(1, min(n, 10))
        for client in self.random.choices(clients, weights, k=picks):
            _put(web, "client", client, _part(columns, left / picks))
            _link(web, "client", client, "endpoint", endpoint.name, round(n * left / picks), None,
                  left / picks * _tasks(columns))  # fmt: skip

    def _functions(
        self,
        window: Window,
        endpoint: Endpoint,
        effects: Effects,
        cpu: float,
        queue: float,
        waited: tuple[float, float],
        ended: int,
    ) -> None:
        costs = {
            f: s + effects.functions.get((endpoint.name, f), 0.0) + effects.functions.get(("*", f), 0.0)
            for f, s in endpoint.functions.items()
        }
        for (e, f), s in effects.functions.items():
            if e == endpoint.name and f not in costs:
                costs[f] = s
        total = sum(costs.values()) or 1.0
        for name, cost in costs.items():
            noisy = max(0.0, cpu * cost / total * self.random.gauss(1, 0.05))
            if noisy <= 0 and not ended:
                continue
            columns = Columns(requests=ended, wall_us=_us(noisy), cpu_us=_us(noisy), queue_us=_us(queue * cost / total))
            _put(window, "function", name, columns)
            _link(window, "endpoint", endpoint.name, "function", name, ended, None, noisy)
        for caller, seconds in zip(("PDOStatement::execute", "HttpClient::send" if endpoint.external else "usleep"),
                                   waited, strict=True):  # fmt: skip
            if seconds > 0.001:
                _put(window, "function", caller, Columns(requests=ended, wall_us=_us(seconds)))
                _link(window, "endpoint", endpoint.name, "function", caller, ended, None, 0.0)

    def _statements(self, web: Window, endpoint: Endpoint, effects: Effects, ended: int, sql: float) -> None:
        uses = dict(endpoint.statements)
        for (e, name), more in effects.executions.items():
            if e == endpoint.name:
                uses[name] = uses.get(name, 0.0) + more
        weights = {n: x * self.world.statements[n].cost * effects.costs.get(n, 1.0) for n, x in uses.items()}
        if effects.locked in weights:
            weights[effects.locked] = max(weights[effects.locked], 20 * sum(weights.values()))
        total = sum(weights.values()) or 1.0
        for name, executions in uses.items():
            if not ended:
                continue
            n = poisson(self.random, ended * executions) if ended * executions < 50 else round(ended * executions)
            if not n:
                continue
            requests = min(ended, n)
            us = _us(sql * weights[name] / total)
            _put(web, "statement", name, Columns(requests=requests, executions=n, wall_us=us, sql_us=us))
            _link(web, "endpoint", endpoint.name, "statement", name, requests, n, us / 1e6)

    def _killer(self, web: Window, late: Window, seconds: Sequence[Second]) -> None:
        killed = [s for s in seconds if s.effects.killer and s.killer]
        if not killed:
            return
        assert killed[0].effects.killer is not None
        id_, endpoint, function, _, statement = killed[0].effects.killer
        cpu = sum(s.killer[0] for s in killed if s.killer)
        queue = sum(s.killer[1] for s in killed if s.killer)
        columns = Columns(cpu_us=_us(cpu), queue_us=_us(queue))
        if statement is not None:
            columns = Columns(waiting_s=float(len(killed)))
        _put(web, "endpoint", endpoint, _part(columns, 1.0))
        _put(web, "request", id_, _part(columns, 1.0))
        client = next(iter(self.world.clients))
        _put(web, "client", client, _part(columns, 1.0))
        _link(web, "client", client, "endpoint", endpoint, 0, None, _tasks(columns))
        if statement is None:
            _put(late, "function", function, _part(columns, 1.0))
            _link(late, "endpoint", endpoint, "function", function, 0, None, _tasks(columns))

    def _sessions(self, db: Window, seconds: Sequence[Second]) -> None:
        world, random = self.world, self.random
        effects = seconds[len(seconds) // 2].effects
        active: dict[str, float] = {}
        worked: dict[str, float] = {}
        locked = 0.0
        for i, endpoint in enumerate(world.endpoints):
            s = sum(second.amounts[i].db_s for second in seconds)
            work = sum(second.amounts[i].db_work for second in seconds)
            locked += sum(second.amounts[i].locked_s for second in seconds)
            weights = {
                n: x * world.statements[n].cost * effects.costs.get(n, 1.0) for n, x in endpoint.statements.items()
            }
            for (e, n), x in effects.executions.items():
                if e == endpoint.name:
                    weights[n] = weights.get(n, 0.0) + x * world.statements[n].cost * effects.costs.get(n, 1.0)
            total = sum(weights.values())
            for n, w in weights.items() if total else ():
                active[n] = active.get(n, 0.0) + s * w / total
                worked[n] = worked.get(n, 0.0) + work * w / total
        for second in seconds:
            killer = second.effects.killer
            if killer and killer[4] is not None and second.killer:
                active[killer[4]] = active.get(killer[4], 0.0) + sum(second.killer)
        waits: dict[str, Columns] = {}
        for name, s in active.items():
            io = world.statements[name].io if name in world.statements else 0.05
            cpu, blocked = poisson(random, s - worked.get(name, 0.0) * io), poisson(random, worked.get(name, 0.0) * io)
            if cpu or blocked:
                _put(db, "statement", name, Columns(cpu_us=cpu * 1_000_000, blocked_s=float(blocked)))
                _add(waits, "CPU", Columns(cpu_us=cpu * 1_000_000))
                _add(waits, "IO:DataFileRead", Columns(blocked_s=float(blocked)))
        if locked > 0 and effects.locked:
            s = float(poisson(random, locked))
            holder = f"app@shop 4711: {effects.locked}"
            _put(db, "statement", effects.locked, Columns(waiting_s=s))
            _add(waits, "Lock:transactionid", Columns(waiting_s=s))
            _put(db, "blocker", holder, Columns(waiting_s=s))
            _link(db, "statement", effects.locked, "blocker", holder, 0, None, s)
        for name, columns in waits.items():
            _put(db, "wait", name, columns)

    def _processes(self, hosts: Mapping[str, Window], seconds: Sequence[Second]) -> None:
        for place, host in (("web", WEB), ("db", DB)):
            window = hosts.get(host)
            if window is None or self.host_off:
                continue
            for second in seconds:
                for process, cpu, queue in second.processes[place]:
                    _put(window, "process", process.name, Columns(
                        cpu_us=_us(cpu), queue_us=_us(queue), blocked_s=process.blocked))  # fmt: skip
        window = hosts.get(DB, hosts[WEB])
        if not self.host_off:
            server = "postgres" if self.world.dialect == "postgres" else "mysqld"
            work = sum(a.db_work for second in seconds for a in second.amounts)
            s = sum(a.db_s for second in seconds for a in second.amounts)
            for second in seconds:
                if second.effects.killer and second.effects.killer[4] is not None and second.killer:
                    work += second.killer[0]
                    s += sum(second.killer)
            _put(window, "process", server, Columns(cpu_us=_us(0.9 * work), queue_us=_us(max(0.0, s - work)),
                                                    blocked_s=0.1 * work))  # fmt: skip

    def _loads(self, hosts: Mapping[str, Window], seconds: Sequence[Second]) -> None:
        world, random = self.world, self.random
        for host, window in hosts.items():
            cores = world.cores if host == WEB else world.db_cores
            tasks, db, flying = [], [], []
            running = blocked = 0.0
            for second in seconds:
                r = b = 0.0
                for place in ("web", "db"):
                    if place == ("web" if host == WEB else "db"):
                        for process, cpu, queue in second.processes[place]:
                            r += cpu + queue
                            b += process.blocked
                if host == WEB:
                    r += sum(a.cpu + a.queue for a in second.amounts)
                    b += sum(a.blocked_s for a in second.amounts)
                if host == DB or world.together:
                    s = sum(a.db_s for a in second.amounts)
                    work = sum(a.db_work for a in second.amounts)
                    r += s - 0.1 * work
                    b += 0.1 * work
                if second.killer and second.effects.killer:
                    on_db = second.effects.killer[4] is not None
                    if on_db == (host == DB) or world.together:
                        r += sum(second.killer)
                running += r
                blocked += b
                php_only = sum(a.cpu + a.queue + a.blocked_s for a in second.amounts) if host == WEB else 0.0
                tasks.append(max(0.0, (php_only if self.host_off else r + b) + random.gauss(0, 0.15)))
                sessions = sum(a.db_s + a.locked_s for a in second.amounts)
                db.append(float(poisson(random, sessions)))
                stuck = sum(a.locked_s for a in second.amounts)
                flying.append(poisson(random, sum(a.inside for a in second.amounts) - stuck) + stuck
                              + (1.0 if second.killer else 0.0))  # fmt: skip
            n = len(seconds)
            running, blocked = running / n, blocked / n
            self.load1[host] += (running + blocked - self.load1[host]) * (1 - 2.718 ** (-n / 60))
            blind = [random.random() < self.lost_looks for _ in seconds]
            window.secs = float(n - sum(blind))
            if host == WEB:
                window.seconds["in_flight"] = _blinded(flying, blind)
                window.seconds["tasks"] = _blinded(tasks, blind)
            elif not self.host_off:
                window.seconds["tasks"] = _blinded(tasks, blind)
            if (host == DB or world.together) and world.dialect == "postgres":
                window.seconds["db"] = _blinded(db, blind)
            if self.host_off:
                continue
            busy = sum(s.web_busy if host == WEB else s.db_busy for s in seconds)
            slower = max(s.effects.slower for s in seconds)
            load: dict[str, Any] = {
                "running": round(running, 3), "blocked": round(blocked, 3), "load1": round(self.load1[host], 2),
                "procs_running": round(running, 3), "cores": cores,
                "cpu": {"user_s": round(0.8 * busy, 3), "system_s": round(0.2 * busy, 3), "iowait_s": 0.0,
                        "steal_s": 0.0},
                "psi": {
                    "cpu": {"some": round(min(95.0, 100 * max(0.0, running - cores) / max(running, 1)), 2)},
                    "io": {"some": round(min(90.0, 10 * blocked), 2), "full": 0.0},
                    "memory": {"some": 0.0, "full": 0.0},
                },
                "memory": {"total_bytes": 8 << 30, "available_bytes": 4 << 30},
                "swap": {"used_bytes": 0, "in_bytes": 0, "out_bytes": 0},
                "major_faults": poisson(random, 3),
            }  # fmt: skip
            if slower > 1 and host == WEB:
                load["psi"]["memory"] = {"some": 45.0, "full": round(random.uniform(15, 40), 2)}
                load["swap"] = {"used_bytes": 1 << 30, "in_bytes": 80 << 20, "out_bytes": 60 << 20}
                load["major_faults"] = poisson(random, 4000)
            if host == WEB:
                load["in_flight"] = max(flying)
                # Where requests queue for a worker, no worker is idle.
                queue = max(s.backlog for s in seconds)
                full = queue > 0.5 * world.workers
                busy = world.workers if full else min(world.workers, round(max(flying)))
                load["pools"] = [{"name": "www", "busy": busy, "max": world.workers, "listen_queue": queue * full}]
            channels = [
                (p, p.blocked * n) for s in seconds[:1] for p, _, _ in s.processes["web" if host == WEB else "db"]
            ]
            listed = [{"name": p.name, "wait_channel": p.channel, "cgroup": "", "seconds": round(b, 2)}
                      for p, b in channels if b > 0]  # fmt: skip
            if listed:
                load["blocked_in"] = listed
            self.loads[host] = load


def _us(seconds: float) -> int:
    return max(0, round(seconds * 1e6))


def _tasks(columns: Columns) -> float:
    return (columns.cpu_us + columns.queue_us) / 1e6 + columns.blocked_s


def _part(c: Columns, part: float) -> Columns:
    return Columns(
        requests=round(c.requests * part), wall_us=round(c.wall_us * part), cpu_us=round(c.cpu_us * part),
        queue_us=round(c.queue_us * part), sql_us=round(c.sql_us * part), blocked_s=c.blocked_s * part,
        waiting_s=c.waiting_s * part,
    )  # fmt: skip


def _add(table: dict[str, Columns], value: str, columns: Columns) -> None:
    held = table.get(value)
    if held is None:
        table[value] = columns
    else:
        held.add(columns)


def _put(window: Window, dimension: str, value: str, columns: Columns) -> None:
    _add(window.tables.setdefault(dimension, {}), value, columns)


def _link(
    window: Window, a: str, value_a: str, b: str, value_b: str, requests: int, executions: int | None, task_s: float
) -> None:
    group = window.links.held.setdefault((a, value_a, b), {})
    if value_b not in group:
        group[value_b] = Link()
        window.links.count += 1
    group[value_b].add(requests, executions, _us(task_s))


def _blinded(values: Sequence[float], blind: Sequence[bool]) -> list[float | None]:
    return [None if gone else round(value, 3) for value, gone in zip(values, blind, strict=True)]


def _thin(window: Window, share: float, random: random.Random) -> None:
    """Profiles of most requests were left out: functions are told of some requests only."""
    for columns in window.tables.get("function", {}).values():
        keep = max(0.0, 1 - share)
        n = poisson(random, columns.cpu_us / 1e4 * keep)
        columns.cpu_us = columns.wall_us = n * 10_000
