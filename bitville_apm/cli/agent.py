"""`bitville agent`: how the agent of this machine is; restart, reload and the breaker, by way of its control socket."""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bitville_apm import limits
from bitville_apm.agent.control import CONTROL
from bitville_apm.cli import inis, keyring
from bitville_apm.cli.errors import NotDone


class NoAnswer(NotDone):
    """No agent answers at this control socket, and what to do."""


class Declined(NotDone):
    """The agent's own word why it did not do what was asked."""


def add_to(commands: Any) -> None:
    """The command and its actions."""
    agent = commands.add_parser("agent", help="the agent on this machine: status, restart, reload, reset-breaker")
    actions = agent.add_subparsers(metavar="ACTION", required=True)
    for name, run, help_ in (
        ("status", _status, "how it is; exit code 0 when all is well, 3 when it is degraded, 4 when it fails"),
        ("restart", _restart, "replace its process, for example after an upgrade; nobody is refused"),
        ("reload", _restart, "read agent.ini again; a wrong one changes nothing"),
        ("reset-breaker", _reset, "close the circuit breaker and send at once"),
    ):
        action = actions.add_parser(name, help=help_)
        inis.add_options(action, "agent.ini")
        action.set_defaults(run=_told, action=name, tell=run)


def _told(given: argparse.Namespace) -> int:
    code: int = given.tell(given, inis.agent(given).agent.state / CONTROL)
    return code


def ask(path: Path, command: str, seconds: float = limits.CHECK_S + limits.CONTROL_S) -> dict[str, Any]:
    """Ask a running agent. Raises `NoAnswer`, `Declined`, `PermissionError`."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(seconds)
            asking.connect(str(path))
            asking.sendall(json.dumps({"do": command}).encode() + b"\n")
            answer = b"".join(iter(lambda: asking.recv(65536), b""))
    except PermissionError as error:
        raise PermissionError(error.errno, error.strerror, str(path)) from None
    except FileNotFoundError:
        raise NoAnswer(
            f"the agent is not running: no {path}; another [agent] state is in another --config FILE"
        ) from None
    except ConnectionRefusedError:
        raise NoAnswer(f"the agent is not running: {path} is what a killed one left behind") from None
    except OSError as error:
        raise NoAnswer(f"{path}: {error}") from None
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise NoAnswer(f"{path}: the agent ended before it answered") from None
    if not told.pop("ok"):
        raise Declined(f"agent: not done, it goes on as before: {told['error']}")
    return told


# --- status -------------------------------------------------------------------------------------------------


def _status(given: argparse.Namespace, path: Path) -> int:
    told = ask(path, "status")
    if given.json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join(status_lines(told)))
    return {"ok": 0, "degraded": 3}.get(told["status"], 4)


def status_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to know at 3 a.m., the worst first."""
    stats = told["stats"]
    worker, breakers = stats["worker"], stats["circuit_breaker"]["by_pipeline"]
    yield f"status        {told['status']}"
    yield from (f"  because     {why}" for why in told["why"])
    yield f"agent         {told['version']}, pid {told['pid']}, up {span(told['uptime_seconds'])}"
    last = told["last_restart"]
    if last is not None:
        yield (
            f"last restart  {keyring.when(float(last['at']))} because of {last['because']}; "
            f"clients waited {last['clients_waited_s']} s ({worker['restarts']} since it was started)"
        )
    yield (
        f"memory        {worker['memory_usage_mb']} MB, restart {_above(worker['memory_limit_mb'], 'above {} MB')}; "
        f"{worker['request_count']} requests, restart {_above(worker['max_requests'], 'after {}')}"
    )
    for name, place in told["sockets"].items():
        source = stats["sources"][name]
        held = ", held by the supervisor" if place["held_by_supervisor"] else ""
        yield f"socket        {name}: {place['path']}{held}"
        yield (
            f"              {source['in_flight']} requests in flight on {source['connections']} connections, "
            f"{source['waiting_for_spool']} closed without an end"
        )
    yield from _host_lines(stats["sources"]["host"])
    for name, source in stats["sources"].items():
        if "server_version" in source:
            yield from _server_lines(name, source)
    for name, ledger in stats["ledger"].items():
        yield f"pipeline      {name}: circuit {breakers[name]}, {ledger['pending']} records wait to be sent"
        yield f"              {', '.join(f'{value} {key}' for key, value in _numbers(ledger))}"
    buffer = stats["buffer"]
    yield (
        f"backlog       {buffer['memory_buffer_count']} records in memory, "
        f"{buffer['disk_overflow_count']} on disk only, "
        f"{buffer['disk_file_count']} files in {buffer['disk_buffer_path']}"
    )


def _host_lines(host: Mapping[str, Any]) -> Iterator[str]:
    """What is looked at of the whole machine, and what cannot be seen."""
    if "tasks" not in host:
        yield "host          not looked at ([host] enabled = no)"
        return
    where = "" if host["scope"] == "host" else f", of this {host['scope']}"
    yield (
        f"host          {host['tasks']} tasks of {host['processes']} processes{where}; "
        f"a look takes {host['look_ms']} ms"
    )
    yield from (f"              not seen: {what}" for what in host["unseen"])


def _server_lines(name: str, server: Mapping[str, Any]) -> Iterator[str]:
    """A database server: how it is reached, what it does, and what cannot be seen of it."""
    version = server["server_version"]
    if version is None:
        yield f"database      {name}: {server['why'] or 'not looked at yet'}"
    else:
        yield (
            f"database      {name}: PostgreSQL {version // 10000}.{version % 10000}, "
            f"{server['active']} sessions active, {server['waiting']} waiting; a look takes {server['look_ms']} ms"
        )
        if server["why"]:
            yield f"              {server['why']}"
    yield from (f"              not seen: {what}" for what in server["missing"])


def _numbers(ledger: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """A ledger's numbers; those that are nothing are left out, the first never is."""
    for place, (key, value) in enumerate(ledger.items()):
        if key != "pending" and isinstance(value, int) and (value or place == 0):
            yield key.replace("_", " "), value


def _above(limit: int, words: str) -> str:
    return words.format(limit) if limit else "never"


def span(seconds: float) -> str:
    """A time in its two largest units: 2 h 5 min."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    shown = [f"{n} {unit}" for n, unit in parts if n][:2]
    return " ".join(shown) or "0 s"


# --- restart, reload, reset-breaker -------------------------------------------------------------------------


def _restart(given: argparse.Namespace, path: Path) -> int:
    """Both are a restart: then everything is read again, whatever it is."""
    before = ask(path, given.action)
    until = time.monotonic() + limits.AGENT_STOP_S + limits.CONTROL_S
    while True:
        time.sleep(0.1)
        try:
            told = ask(path, "status", limits.CONTROL_S)
        except NoAnswer:
            told = None
        if told is not None and told["stats"]["worker"]["restarts"] > before["restarts"]:
            break
        if time.monotonic() > until:
            raise NoAnswer("the agent has not come back; its log says why, and its supervisor should start it")
    waited = told["last_restart"]["clients_waited_s"]
    if given.json:
        print(json.dumps({"pid": told["pid"], "version": told["version"], "clients_waited_s": waited}))
    else:
        print(f"{given.action} done: version {told['version']}, pid {told['pid']}, clients waited {waited} s")
    return 0


def _reset(given: argparse.Namespace, path: Path) -> int:
    told = ask(path, "reset-breaker")
    if given.json:
        print(json.dumps(told))
    else:
        for name, before in told["before"].items():
            print(f"pipeline {name}: circuit was {before}, is {told['now'][name]}")
    return 0
