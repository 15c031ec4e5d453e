"""What an entry of a log tells, without any value of the application (PG-03). Pure.

A message may hold anything an application wrote, so none is sent as it is: those that are known are read, their
numbers and names told, and their statement without its literals. Of others only severity, SQLSTATE and statement are.
Parameters, DETAIL, HINT and CONTEXT are never sent.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from bitville_apm.agent.postgres import plans
from bitville_apm.agent.postgres.logformats import Entry
from bitville_apm.agent.postgres.names import correlation, named
from bitville_apm.agent.postgres.sessions import APPLICATION

_DURATION = re.compile(
    r"duration: (\d+(?:\.\d+)?) ms  (?:statement|(?:parse|bind|execute)(?: fetch from)? [^:]*): (.*)", re.DOTALL
)
_ON = r"(\w+) on (.+)"
_WAITS = re.compile(
    r"process (\d+) (still waiting for|acquired|avoided deadlock for|detected deadlock while waiting for) "
    rf"{_ON} (?:after|by rearranging queue order after) (\d+(?:\.\d+)?) ms\Z"
)
_HOLDING = re.compile(r"Process(?:es)? holding the lock: ([\d, ]*)\. Wait queue: ([\d, ]*)\.")
_BEHIND = re.compile(rf"Process (\d+) waits for {_ON}; blocked by process (\d+)\.\Z")
_RAN = re.compile(r"^Process (\d+): ", re.MULTILINE)
_OBJECT = re.compile(r"(?:relation|extension of relation|page|tuple|transaction|virtual transaction|speculative token|"
                     r"object|advisory lock|user lock|apply transaction|transaction of|frozen)"
                     r"[\w ,()\[\]/:-]*\Z")  # fmt: skip
_CHECKPOINT = re.compile(r"(checkpoint|restartpoint) complete: wrote (\d+) buffers .*?write=([\d.]+) s, "
                         r"sync=([\d.]+) s, total=([\d.]+) s", re.DOTALL)  # fmt: skip
_TEMPORARY = re.compile(r'temporary file: path "[^"]*", size (\d+)\Z')
_VACUUM = re.compile(r'automatic (?:aggressive )?(vacuum|analyze)[a-z ]* of table "([^"]*)"')
_ELAPSED = re.compile(r"elapsed: (\d+(?:\.\d+)?) s")
_KNOWN = {
    what: re.compile(pattern)
    for what, pattern in {
        "ready": r"database system is ready to accept",
        "starting": r"starting PostgreSQL",
        "stopping": r"received (?:fast|smart|immediate) shutdown request",
        "stopped": r"database system is shut down",
        "crash": r"server process \(PID \d+\) was terminated by|terminating any other active server processes",
        "recovery": r"database system was (?:interrupted|not properly shut down)",
        "reload": r"received SIGHUP, reloading",
        "no connection left": r"sorry, too many clients already|remaining connection slots are reserved",
        "statement timeout": r"canceling statement due to statement timeout",
        "lock timeout": r"canceling statement due to lock timeout",
        "canceled": r"canceling statement due to user request",
        "recovery conflict": r"canceling statement due to conflict with recovery",
        "idle in transaction timeout": r"terminating connection due to idle-in-transaction timeout",
        "terminated": r"terminating connection due to administrator command",
        "out of memory": r"out of memory",
        "disk full": r"could not .*: No space left on device",
    }.items()
}
"""Messages of a server that tell of itself, and what they are called."""
_SERVER = ("ready", "starting", "stopping", "stopped", "crash", "recovery", "reload")
_BAD = ("ERROR", "FATAL", "PANIC")


class Event(Struct, frozen=True):
    """What an entry tells: `kind` slow, plan, lock_wait, deadlock, checkpoint, temporary_file, autovacuum, server or
    error; `weight` orders those of a kind, heaviest first.
    """

    kind: str
    data: dict[str, Any]
    at: float | None
    correlation: str | None
    weight: float = 0.0


def event(entry: Entry) -> Event | None:
    """What an entry tells; None for one that is of no interest, or our own."""
    if entry.application == APPLICATION:
        return None
    for read in (_slow, _plan, _lock_wait, _deadlock, _own_work):
        found = read(entry)
        if found is not None:
            kind, data, text, weight = found
            return _event(entry, kind, data, text, weight)
    known = next((what for what, pattern in _KNOWN.items() if pattern.search(entry.message)), None)
    if known in _SERVER and entry.severity == "LOG":
        return _event(entry, "server", {"what": known}, "", 0.0)
    if entry.severity in _BAD:
        data = {"severity": entry.severity, "sqlstate": entry.sqlstate or None, "what": known}
        return _event(entry, "error", data, entry.statement, 0.0)
    return None


Read = tuple[str, dict[str, Any], str, float] | None
"""Kind, what it tells, the text of its statement, weight."""


def _event(entry: Entry, kind: str, data: dict[str, Any], text: str, weight: float) -> Event:
    statement = named(text)
    told = {
        "event": kind,
        **data,
        "statement": statement.value if statement else None,
        "fingerprint": statement.fingerprint if statement else None,
        "query_id": str(entry.query_id) if entry.query_id else None,
        "pid": entry.pid,
        "user": entry.user,
        "database": entry.database,
        "application": entry.application,
    }
    told = {name: value for name, value in told.items() if value not in (None, "")}
    return Event(kind, told, entry.at, correlation(entry.application, text), weight)


def _slow(entry: Entry) -> Read:
    found = _DURATION.match(entry.message)
    if not found:
        return None
    ms = float(found[1])
    return "slow", {"duration_ms": ms}, found[2], ms


def _plan(entry: Entry) -> Read:
    found = plans.duration(entry.message)
    if found is None:
        return None
    ms, plan = found
    text, as_text, as_json = plans.cleaned(plan)
    return "plan", {"duration_ms": ms, "plan": as_text if as_json is None else as_json}, text, ms


def _pids(text: str) -> list[int]:
    return [int(pid) for pid in text.split(",") if pid.strip()][:20]


def _object(text: str) -> str:
    """What a lock is on, as long as it is one of the server's own words with numbers."""
    return text if _OBJECT.match(text) and len(text) < 200 else ""


def _lock_wait(entry: Entry) -> Read:
    found = _WAITS.match(entry.message)
    if not found:
        return None
    ms = float(found[5])
    holding = _HOLDING.match(entry.detail)
    data = {
        "waiting_pid": int(found[1]),
        "what": found[2].split(" ")[0] if found[2] != "still waiting for" else "waiting",
        "mode": found[3],
        "on": _object(found[4]),
        "waited_ms": ms,
        "holders": _pids(holding[1]) if holding else [],
        "queue": _pids(holding[2]) if holding else [],
    }
    return "lock_wait", data, entry.statement, ms


def _deadlock(entry: Entry) -> Read:
    if entry.severity not in _BAD or not (entry.sqlstate == "40P01" or entry.message == "deadlock detected"):
        return None
    first = _RAN.search(entry.detail)
    waits = entry.detail[: first.start()] if first else entry.detail
    ran = _RAN.split(entry.detail[first.start() :]) if first else []
    statements = {int(pid): named(text) for pid, text in zip(ran[1::2], ran[2::2], strict=False)}
    processes = []
    for line in waits.split("\n")[:100]:
        found = _BEHIND.match(line)
        if found:
            statement = statements.get(int(found[1]))
            processes.append(
                {
                    "pid": int(found[1]),
                    "mode": found[2],
                    "on": _object(found[3]),
                    "blocked_by": int(found[4]),
                    "statement": statement.value if statement else "",
                    "fingerprint": statement.fingerprint if statement else "",
                }
            )
    return "deadlock", {"processes": processes}, entry.statement, float(len(processes))


def _own_work(entry: Entry) -> Read:
    """What a server does by itself and takes disk or CPU for it."""
    if entry.severity != "LOG":
        return None
    found = _CHECKPOINT.match(entry.message)
    if found:
        seconds = float(found[5])
        data = {"what": found[1], "buffers": int(found[2]), "write_s": float(found[3]), "sync_s": float(found[4])}
        return "checkpoint", {**data, "total_s": seconds}, "", seconds
    found = _TEMPORARY.match(entry.message)
    if found:
        return "temporary_file", {"bytes": int(found[1])}, entry.statement, float(found[1])
    found = _VACUUM.match(entry.message)
    if found:
        elapsed = _ELAPSED.search(entry.message)
        seconds = float(elapsed[1]) if elapsed else 0.0
        return "autovacuum", {"what": found[1], "table": found[2], "elapsed_s": seconds}, "", seconds
    return None
