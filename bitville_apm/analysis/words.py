"""The sentences of a report, for a person at three in the morning. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bitville_apm.analysis.report import Cause, Change, Factor, Mechanism

Kind = Literal["load", "waiting", "none"]

_WHAT = {"load": "the load", "waiting": "the waiting"}

_CUT, _CUT_OTHERS = 80, 50
"""Characters of a name in the sentence: that of the cause and what is beside it, and of what else there is."""

_BECAUSE: dict[Mechanism, str] = {
    "traffic": "more requests",
    "n+1": "more executions in each request",
    "regression": "each execution takes longer",
    "killer request": "a single request",
    "crawler": "one client asks for many pages",
    "stampede": "the same work repeated by many requests at once",
    "deploy": "dearer since a new release",
    "not php": "not PHP",
    "memory pressure": "memory ran short",
    "lock": "others wait for its lock",
    "external": "it answers more slowly",
    "pool": "all workers are busy and requests wait for one",
    "unclear": "",
}


def verdict(kind: Kind, causes: Sequence[Cause], level: float, baseline: float, unit: str) -> str:
    """One sentence: cause, mechanism, confidence."""
    rose = f"{unit} rose from {figure(baseline)} to {figure(level)}"
    if kind == "none":
        return f"Nothing rose for long: {unit} were {figure(baseline)} before and {figure(level)} at the worst second."
    if not causes:
        return f"{rose[:1].upper()}{rose[1:]}; no request, statement or process explains it."
    first = causes[0]
    parts = [f"{name(first)} caused {percent(first.share)} of {_WHAT[kind]}"]
    why = reason(first)
    if why:
        parts[0] += f": {why}"
    if kind == "waiting":
        parts.append("waiting, not load")
    if len(causes) > 1:
        parts.append("also " + " and ".join(f"{name(c, _CUT_OTHERS)} ({percent(c.share)})" for c in causes[1:]))
    parts.append(f"confidence {sure(first.confidence)}")
    return "; ".join(parts)


def name(cause: Cause, most: int = _CUT) -> str:
    """A cause by name, with what it is where that is not plain; a long one is cut, the report has it whole."""
    if cause.dimension == "all":
        return "traffic to all endpoints"
    value = cut(cause.value, most)
    kinds = {
        "process": "process", "request": "request", "client": "client", "function": "function",
        "external": "external host", "blocker": "session", "release": "release", "agent": "user agent", "pool": "pool",
        "statement": "statement",
    }  # fmt: skip
    kind = kinds.get(cause.dimension)
    return f"{kind} {value}" if kind else value


def reason(cause: Cause) -> str:
    """The mechanism in words, with its numbers."""
    factors = cause.factors
    parts = []
    if cause.mechanism in ("traffic", "crawler") and "n" in factors:
        parts.append(f"{times(factors['n'])} ({span(factors['n'])} a second)")
    elif cause.mechanism in ("n+1", "stampede") and "q" in factors:
        parts.append(f"{_BECAUSE[cause.mechanism]} ({span(factors['q'])} a request)")
    elif cause.mechanism == "regression" and "q" in factors and factors["q"].part > factors["c"].part:
        parts.append(f"more of the requests run it ({span(factors['q'])} of each)")
    elif cause.mechanism in ("regression", "deploy", "external") and "c" in factors and _risen(factors["c"]):
        before, after = 1000 * factors["c"].before, 1000 * factors["c"].after
        parts.append(f"{_BECAUSE[cause.mechanism]} (from {figure(before)} to {figure(after)} ms)")
    elif cause.mechanism == "not php" and cause.dimension == "statement":
        parts.append("no PHP request asked for it")
    elif _BECAUSE[cause.mechanism]:
        parts.append(_BECAUSE[cause.mechanism])
    parts += beside(cause)
    return ", ".join(parts)


def _risen(factor: Factor) -> bool:
    """Whether it is worth telling: where a new release runs something new, that has not become dearer."""
    return factor.before > 0 and factor.after > 1.1 * factor.before


def beside(cause: Cause) -> list[str]:
    """The other values of its story that say more."""
    said = []
    for step in cause.story:
        if (step.dimension, step.value) == (cause.dimension, cause.value):
            continue
        value = cut(step.value, _CUT)
        if step.dimension == "client":
            said.append(f"mostly from {value}")
        elif step.dimension == "release":
            said.append(f"release {value}")
        elif step.dimension == "endpoint":
            said.append(f"in {value}")
        elif step.dimension == "statement" and cause.mechanism in ("n+1", "lock", "killer request"):
            said.append(f"statement {value}")
        elif step.dimension == "function" and cause.mechanism in ("n+1", "killer request"):
            said.append(f"in {value}")
        elif step.dimension in ("process", "function", "statement") and cause.mechanism == "memory pressure":
            said.append(f"most of all {value}")
    return said


def ruled_out(
    kind: Kind,
    causes: Sequence[Cause],
    memory: tuple[float, bool],
    releases: bool,
    changes: Sequence[Change],
    requests: tuple[float, float],
    processes: tuple[float, bool],
    database: tuple[float, bool],
) -> list[str]:
    """What it was not, as far as the data says so.

    `memory`: percent of the time under full pressure, and whether anybody measured. `requests`: a second, before and
    during. `processes`, `database`: their share of the rise, and whether they were looked at.
    """
    named = {cause.mechanism for cause in causes}
    said = []
    if memory[1] and "memory pressure" not in named:
        said.append(f"Memory pressure: tasks waited for memory {figure(memory[0])} % of the time.")
    if releases and "deploy" not in named and not any(change.dimension == "release" for change in changes):
        said.append("A deploy: no release is new.")
    if processes[1] and processes[0] < 0.1:
        said.append("Other processes: what is neither PHP nor the database rose by less than a tenth of it.")
    if database[1] and database[0] < 0.1:
        said.append("The database: its sessions rose by less than a tenth of it.")
    before, after = requests
    if before > 0.05 and after < 1.15 * before:
        said.append(f"Traffic: {figure(after)} requests a second, {figure(before)} before.")
    if kind == "waiting":
        said.append("Load: running and blocked tasks stayed as they were.")
    return said


def cut(text: str, most: int) -> str:
    """So many characters at most."""
    return text if len(text) <= most else text[: most - 1] + "…"


def times(factor: Factor) -> str:
    """How many times as much."""
    ratio = factor.after / factor.before if factor.before > 0 else 0.0
    return f"{figure(ratio)} times as many requests" if ratio < 100 else "over 100 times as many requests"


def span(factor: Factor) -> str:
    """From … to …"""
    return f"from {figure(factor.before)} to {figure(factor.after)}"


def figure(value: float) -> str:
    """A number with two digits that mean something."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.0f}"
    if size >= 1:
        return f"{value:.1f}"
    return f"{value:.2g}" if size >= 0.001 else "0"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.0f} %"


def sure(confidence: float) -> str:
    """Confidence as a word."""
    return "high" if confidence >= 0.8 else "fair" if confidence >= 0.5 else "low"
