"""What `bitville doctor` looks at of an agent: the agent itself, its socket, its disk, its collector, its Postgres."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from bitville_apm import limits
from bitville_apm.agent import survey
from bitville_apm.agent.config import AgentConfig, PhpSection, PostgresSection
from bitville_apm.agent.control import CONTROL
from bitville_apm.cli import asking, keyring
from bitville_apm.cli import postgres as servers
from bitville_apm.cli.agent import Declined, NoAnswer, ask, span
from bitville_apm.cli.findings import Check, Finding, disk, ends

_DO = (
    (
        "refuses its key",
        "bitville key new on the collector's machine, the key into agent.ini, bitville agent reload",
    ),
    ("there is no key", "start the collector first, or let the agent's user read key_file"),
    ("circuit", "is the collector up? Nothing is lost meanwhile; bitville agent reset-breaker tries at once"),
    ("does not add up", "the log says which sum; please report it"),
    ("journal", "make room on its disk; PHP keeps its records in the spool until then"),
    ("fpm", "bitville top --live shows what its children do; docs/operate.md, Pools of php-fpm"),
)
"""What to do about what an agent says of itself, by words of it."""


def checks(settings: AgentConfig) -> Iterator[tuple[str, Check]]:
    """All of them, by name."""
    yield "agent", lambda: _agent(settings)
    for php in settings.php:
        yield f"socket {php.name}", lambda php=php: _socket(settings, php)  # type: ignore[misc]
    yield "journal", lambda: _journal(settings)
    yield "agent's disk", lambda: _disk(settings)
    yield "way to the collector", lambda: _way(settings)
    for server in settings.postgres:
        yield f"postgres {server.name}", lambda server=server: _postgres(settings, server)  # type: ignore[misc]


def _agent(settings: AgentConfig) -> Iterator[Finding]:
    try:
        told = ask(settings.agent.state / CONTROL, "status", limits.CONTROL_S)
    except NoAnswer as error:
        do = "start it: systemctl start bitville-apm-daemon; its log says why not"
        yield Finding("agent", "problem", str(error), do)
        return
    except (PermissionError, Declined):
        told = _health(settings)
        yield from _status(told, [f"status {told['status']}"] if told["status"] != "ok" else [])
        yield Finding("agent", "warning", "more is told to root and the agent's user only", "look again with sudo")
        return
    yield from _status(told, [what for what in told["why"] if not what.startswith("postgres")])
    for name, ledger in told["stats"]["ledger"].items():
        if ledger["error"]:
            what = f"pipeline {name} lost count of {ledger['error']} records"
            yield Finding("agent", "problem", what, "the log says which sum; please report it")
        else:
            state = told["stats"]["circuit_breaker"]["by_pipeline"][name]
            lost = sum(
                n for key, n in ledger.items() if key.startswith("dropped_") or key in ("quarantined", "corrupt")
            )
            ever = f", {lost:,} dropped or refused ever" if lost else ""
            yield Finding("agent", "ok", f"pipeline {name}: circuit {state}, {ledger['pending']:,} records wait{ever}")


def _health(settings: AgentConfig) -> dict[str, Any]:
    """What everybody on the machine is told; a failing agent answers 503 with the same."""
    try:
        with urllib.request.urlopen(f"http://{settings.agent.health}/health", timeout=limits.CONTROL_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
    told: dict[str, Any] = json.loads(body)
    return told


def _status(told: Mapping[str, Any], why: list[str]) -> Iterator[Finding]:
    up = f"{told['version']}, up {span(told['uptime_seconds'])}, {told['stats']['worker']['memory_usage_mb']} MB"
    yield Finding("agent", "ok", f"runs: {up}")
    for what in why:
        level: Any = "problem" if told["status"] == "failing" else "warning"
        yield Finding("agent", level, what, next((do for word, do in _DO if word in what), "its log says more"))


def _socket(settings: AgentConfig, php: PhpSection) -> Iterator[Finding]:
    about = f"socket {php.name}"
    try:
        found = php.socket.lstat()
    except FileNotFoundError:
        yield Finding(about, "problem", f"{php.socket} does not exist", "the agent does not run, or listens elsewhere")
        return
    if not stat.S_ISSOCK(found.st_mode):
        yield Finding(about, "problem", f"{php.socket} is no socket", "remove it, then bitville agent restart")
        return
    yield Finding(about, "ok", f"{php.socket}, mode {stat.S_IMODE(found.st_mode):04o}")
    try:
        age = time.time() - settings.agent.heartbeat.stat().st_mtime
    except FileNotFoundError:
        age = float("inf")
    if age > limits.DOCTOR_BEAT_S:
        beat = "has never beaten" if age == float("inf") else f"beat {span(age)} ago"
        what = f"{settings.agent.heartbeat} {beat}: PHP takes the agent for hung and writes to its spool"
        yield Finding(about, "problem", what, "is the agent's disk stuck? bitville agent status, its log, dmesg")


def _journal(settings: AgentConfig) -> Iterator[Finding]:
    most = settings.limits.journal_mb * limits.MIB
    for directory in survey.journals(settings.agent.state / "journal"):
        found = survey.headers(directory)
        size = f"{directory.name}: {found.bytes / limits.MIB:.1f} MiB of {settings.limits.journal_mb}"
        if found.cursor == "lost":
            yield Finding(
                "journal", "warning", f"{directory.name}: its cursor cannot be read", "nothing: all is sent again"
            )
        if found.bytes > limits.DOCTOR_JOURNAL_SHARE * most:
            do = "records are dropped, the oldest first, once it is full: bring the collector back, or raise journal_mb"
            yield Finding("journal", "warning", f"{size}, {found.pending.records:,} records wait", do)
        else:
            yield Finding("journal", "ok", f"{size}, {found.pending.records:,} records wait")


def _disk(settings: AgentConfig) -> Iterator[Finding]:
    usage = shutil.disk_usage(settings.agent.state)
    yield disk("agent's disk", str(settings.agent.state), usage.free, usage.total)


def _way(settings: AgentConfig) -> Iterator[Finding]:
    """From here to the collector: reached, whether the clocks agree, and until when its certificate is good."""
    about, link = "way to the collector", settings.collector
    context = asking.trusting(link.ca) if link.url.startswith("https:") else None
    try:
        status, headers, _ = asking.Collector(link.url, {}, context, limits.CONTROL_S).ask("/health")
    except asking.Declined as error:
        yield Finding(about, "problem", str(error), "[collector] url and ca in agent.ini, the network, the collector")
        return
    if status != 200:
        do = "[collector] url leads elsewhere, or `allow` in collector.ini does not name this network"
        yield Finding(about, "problem", f"{link.url} answers {status}", do)
        return
    yield Finding(about, "ok", f"{link.url} answers")
    if "date" in headers:
        ahead = keyring.now() - parsedate_to_datetime(headers["date"]).timestamp()
        # The header has whole seconds: half of one is the mean of what it leaves out.
        if abs(ahead - 0.5) > limits.SKEW_SHOWN_S:
            which = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the collector's"
            yield Finding(
                "clock", "warning", f"this clock is {which}", "timedatectl; both should follow one time server"
            )
        else:
            yield Finding("clock", "ok", "this clock and the collector's agree")
    if context is not None:
        do = "a new certificate for the collector, and its copy to `ca` where it is its own authority"
        yield ends("certificate", f"the certificate of {link.url}", _until(link.url, context), keyring.now(), do)


def _until(url: str, context: ssl.SSLContext) -> float:
    """Until when the certificate there is good, unix seconds."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with (
        socket.create_connection((host, parts.port or 443), limits.CONTROL_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate: Any = secure.getpeercert()
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def _postgres(settings: AgentConfig, server: PostgresSection) -> Iterator[Finding]:
    """As the agent sees the server; where none answers, as somebody with this user's rights does."""
    about = f"postgres {server.name}"
    try:
        told = ask(settings.agent.state / CONTROL, "status", limits.CONTROL_S)["stats"]["sources"][_source(server)]
        trouble = told["why"]
    except (NoAnswer, Declined, PermissionError, KeyError):
        told = servers.look_at(server)
        trouble = told["error"]
    if trouble:
        do = "is it up, and does the role of the dsn exist? bitville postgres setup; docs/postgres.md"
        yield Finding(about, "warning" if trouble.startswith("a look costs") else "problem", trouble, do)
    else:
        yield Finding(about, "ok", "is reached")
    for what in told["missing"]:
        yield Finding(about, "warning", f"not seen: {what}", "bitville postgres setup prints the SQL that grants it")


def _source(server: PostgresSection) -> str:
    """Its name among an agent's sources."""
    return "postgres" if server.name == "postgres" else f"postgres {server.name}"
