"""One request for a terminal: head, error, functions, statements, calls, and what its database was seen doing. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from bitville_apm import limits
from bitville_apm.analysis.telling import clock, duration, moment, percent, shown
from bitville_apm.cli import terminal
from bitville_apm.requests import External, StatementUse
from bitville_apm.web import words
from bitville_apm.web.detail import Detail, FunctionUse
from bitville_apm.web.fields import connections_of, fatal_of, is_cut
from bitville_apm.web.one import PARTS, STATES, parts_of
from bitville_apm.web.seen import Holder, Ran, Seen
from bitville_apm.web.sessions import what_of

_IN = "  "
_LABEL = 10


def told(detail: Detail, seen: Seen, width: int, most: int, link: str | None = None) -> Iterator[str]:
    """All of it; `most` rows of each table."""
    found = detail.found
    yield from textwrap.wrap(shown(f"{found.method} {found.url}".strip() or found.endpoint), width)
    for name, text in _facts(detail):
        yield from textwrap.wrap(
            shown(text), width, initial_indent=f"{_IN}{name:<{_LABEL}}", subsequent_indent=" " * (_LABEL + len(_IN))
        )
    yield from _trouble(detail, width)
    yield from _functions(detail, width, most)
    yield from _statements(detail, width, most)
    yield from _calls(detail.externals, width, most)
    yield from seen_lines(seen, width, most)
    if link is not None:
        yield ""
        yield link


def _facts(detail: Detail) -> Iterator[tuple[str, str]]:
    found, request, whole = detail.found, detail.request, detail.found.duration_ms
    took = "" if whole is None else f", {'ran' if found.died else 'took'} {duration(whole)}"
    yield "began", moment(found.at) + took
    yield "endpoint", found.endpoint
    if not found.died:
        yield "status", "not told" if found.status is None else str(found.status)
    parts = [f"{_part(name)} {duration(ms)}{_of(ms, whole)}" for name, ms in parts_of(detail)]
    if len(parts) > 1:
        yield "time", "; ".join(parts)
    if not found.died:
        on = f" on {', '.join(connections_of(detail)[:3])}" if connections_of(detail) else ""
        many = "statement" if found.sql_count == 1 else "statements"
        yield "SQL", f"{found.sql_count:,} {many}, {duration(found.sql_ms)}{_of(found.sql_ms, whole)}{on}"
    if found.memory_peak_bytes is not None:
        yield "memory", f"{words.bytes_(found.memory_peak_bytes).translate(_PLAIN)} at its peak"
    release = f", release {found.release}" if found.release else ""
    yield "on", f"{found.host}, project {found.project}{release}"
    if request is not None and request.client:
        yield "client", f"{request.client} {request.agent or ''}".strip()


def _part(name: str) -> str:
    label = PARTS[name]
    return label if label[1].isupper() else label[0].lower() + label[1:]


_PLAIN = {0x202F: " "}


def _of(ms: float, whole: float | None) -> str:
    return f" ({percent(ms / whole)})" if whole else ""


def _trouble(detail: Detail, width: int) -> Iterator[str]:
    """Why it ended as it did, where it did not end well."""
    fatal, state = fatal_of(detail), detail.record.get("state")
    if fatal is not None:
        yield from _titled("Fatal error")
        for text in fatal:
            yield from _wrapped(text, width, _IN)
    elif detail.found.died:
        yield from _titled("It died")
        last = f" When last seen it was {STATES.get(state, state)}." if isinstance(state, str) else ""
        why = "The process ended before the request did: killed, crashed, or out of its time limit."
        yield from _wrapped(f"{why}{last} What it ran is not known: a request says that at its end.", width, _IN)


def _titled(title: str, said: str = "") -> Iterator[str]:
    yield ""
    yield title.upper() + (f" ({said})" if said else "")


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(shown(text), max(20, width), initial_indent=indent, subsequent_indent=indent)


# --- Functions, statements, calls -------------------------------------------------------------------------


def _functions(detail: Detail, width: int, most: int) -> Iterator[str]:
    if detail.found.died:
        return
    if not detail.functions:
        yield from _titled("Functions")
        yield f"{_IN}no profile: it was faster than the threshold, or no profiler is installed"
        return
    whole = detail.profile_ms or detail.found.duration_ms or 0.0
    uses = detail.functions[:most]
    calls = "CALLS" if any(use.calls is not None for use in uses) else ""
    rows: list[tuple[str, ...]] = [("SELF", "", "INCLUSIVE", "", calls, "FUNCTION")]
    rows += [_function(use, whole) for use in uses]
    yield from _titled("Functions", _many(len(rows) - 1, len(detail.functions), "by self time"))
    yield from _table(rows, width, frozenset(range(5)))


def _function(use: FunctionUse, whole: float) -> tuple[str, ...]:
    return (
        _ms(use.self_ms), _share(use.self_ms, whole), _ms(use.inclusive_ms), _share(use.inclusive_ms, whole),
        "" if use.calls is None else f"{use.calls:,}", shown(use.name),
    )  # fmt: skip


def _ms(ms: float | None) -> str:
    return "-" if ms is None else duration(ms)


def _share(ms: float | None, whole: float) -> str:
    return percent(ms / whole) if ms is not None and whole > 0 else ""


def _many(told: int, all_: int, more: str = "") -> str:
    said = f"{told:,} of {all_:,}" if told < all_ else f"{all_:,}"
    return f"{said}, {more}" if more else said


def _table(rows: Sequence[Sequence[str]], width: int, numbers: frozenset[int]) -> Iterator[str]:
    yield from (_IN + line for line in terminal.columns(rows, width - len(_IN), numbers))


def _statements(detail: Detail, width: int, most: int) -> Iterator[str]:
    """Figures, and below them the statement and where in the application it came from."""
    uses, found = detail.statements, detail.found
    if found.died or not (uses or found.sql_count):
        return
    cut = "the rest was counted but not sent" if is_cut(detail) else ""
    yield from _titled("Statements", _many(min(most, len(uses)), len(uses), cut))
    rows: list[tuple[str, ...]] = [("TOTAL", "", "COUNT", "MEAN", "MAX", "")]
    rows += [_figures(use, found.duration_ms or 0.0) for use in uses[:most]]
    head, *figures = _table(rows, width, frozenset(range(5)))
    yield from [head] if figures else [f"{_IN}none was captured"]
    for line, use in zip(figures, uses, strict=False):
        yield line
        yield from _wrapped(words.cut(use.statement, limits.STATEMENT_TOLD), width, _IN * 3)
        frames = detail.stacks.get(use.fingerprint, ())
        for place, frame in enumerate(frames[: limits.FRAMES_TOLD]):
            yield from _wrapped(f"{'called by' if place else 'from'} {words.cut(frame, 300)}", width, _IN * 3)


def _figures(use: StatementUse, whole: float) -> tuple[str, ...]:
    marks = [f"repeated {use.n:,}\u00d7"] if use.n >= limits.STATEMENT_REPEATED else []
    marks += [f"failed {use.failed:,}\u00d7"] if use.failed else []
    mean = use.ms / max(1, use.n)
    return (_ms(use.ms), _share(use.ms, whole), f"{use.n:,}", _ms(mean), _ms(use.max_ms), ", ".join(marks))


def _calls(calls: Sequence[External], width: int, most: int) -> Iterator[str]:
    if not calls:
        return
    heaviest = sorted(calls, key=lambda call: -call.ms)[:most]
    yield from _titled("Calls to others", _many(len(heaviest), len(calls)))
    rows: list[tuple[str, ...]] = [("TOTAL", "COUNT", "CALLED")]
    rows += [(duration(call.ms), f"{call.n:,}", shown(call.target)) for call in heaviest]
    yield from _table(rows, width, frozenset({0, 1}))


# --- The database -----------------------------------------------------------------------------------------


def seen_lines(seen: Seen, width: int, most: int) -> Iterator[str]:
    """What Postgres was seen doing for it; nothing where nothing was."""
    if seen.ran:
        yield from _titled("In the database", "looked at once a second")
        for ran in seen.ran[:most]:
            yield from _wrapped(f"{duration(ran.seconds * 1000)}: {_waits(ran.waits)}; {_where(ran)}", width, _IN)
            yield from _wrapped(words.cut(ran.statement, limits.STATEMENT_TOLD), width, _IN * 3)
    if seen.holders:
        yield from _titled("Who held it up")
        for holder in seen.holders[:most]:
            own = f", request {holder.request}" if holder.request else ""
            yield from _wrapped(f"{holder.state}; {_where(holder)}{own}", width, _IN)
            yield from _wrapped(words.cut(holder.statement, limits.STATEMENT_TOLD), width, _IN * 3)
    if seen.held_up:
        yield ""
        yield f"{seen.held_up:,} sessions waited for it at a time"
    if seen.events:
        yield from _titled("In the server's log")
        for at, place, event in seen.events[:most]:
            yield from _wrapped(f"{clock(at)} {what_of(event).translate(_PLAIN)}; {place}", width, _IN)
            yield from _wrapped(words.cut(event.statement, limits.STATEMENT_TOLD), width, _IN * 3)


def _where(one: Ran | Holder) -> str:
    return f"session {one.session}, {one.server}"


def _waits(waits: Mapping[str, float]) -> str:
    ranked = sorted(waits.items(), key=lambda wait: -wait[1])
    return ", ".join(f"{name} {duration(seconds * 1000)}" for name, seconds in ranked[:6])
