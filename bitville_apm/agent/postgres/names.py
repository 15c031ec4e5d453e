"""What a session runs, under the name PHP gives it, and the request that it runs for. Pure.

A server knows a request by three ways (PG-05): its session is called `bitville-<id>`, its statement begins with our
comment `/* correlation:<id> */`, or bears one of sqlcommenter's with `correlation_id` or `traceparent`.
"""

from __future__ import annotations

import functools
import re
from urllib.parse import unquote

from msgspec import Struct

from bitville_apm import limits, sqltext
from bitville_apm.records import canonical_id

HIDDEN = "<insufficient privilege>"
"""What a server shows of others' statements to a role that may not see them."""

_CUT = 900
"""Characters from which on a text may have been cut by the server, which keeps 1,023 bytes."""

_HEX = r"[0-9a-fA-F]"
_UUID = rf"{_HEX}{{8}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{12}}"
_SESSION = re.compile(rf"bitville-({_UUID})\Z")
_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_LEADING = re.compile(r"\s*(?:/\*(?:[^*]|\*(?!/))*\*/\s*)+")
_OURS = re.compile(rf"\s*correlation:\s*({_UUID})\s*\Z")
_THEIRS = re.compile(r"(?:\A|,)\s*correlation(?:_|%5[Ff])?(?:id)?='([^']{1,200})'")
_TRACE = re.compile(rf"(?:\A|,)\s*traceparent='{_HEX}{{2}}-({_HEX}{{32}})-{_HEX}{{16}}-{_HEX}{{2}}'")


class Named(Struct, frozen=True):
    """A statement: `value` is what frames call it (wire.md 6, 7), `fingerprint` the same for short."""

    value: str
    fingerprint: str


@functools.lru_cache(limits.STATEMENTS_REMEMBERED)
def _named(text: str) -> Named:
    statement = sqltext.statement(text, "pg")
    return Named(sqltext.value(statement), sqltext.fingerprint(statement))


def named(text: str | None) -> Named | None:
    """The statement of a text as a server shows it; None where there is none to see."""
    if not text or text == HIDDEN:
        return None
    text = text[len(leading_comments(text)) :]
    if len(text) >= _CUT and text.rfind("/*") > text.rfind("*/"):
        # A comment behind the statement, of which the server shows half: it is no part of the name either.
        text = text[: text.rfind("/*")]
    found = (_named if len(text) <= limits.STATEMENT_REMEMBERED_CHARACTERS else _named.__wrapped__)(text)
    return found if found.value else None


def leading_comments(text: str) -> str:
    """What stands in front of a statement: another in each request, and so no part of its name."""
    leading = _LEADING.match(text)
    return leading[0] if leading else ""


def correlation(application: str | None, text: str | None) -> str | None:
    """The request that a session or a line of the log belongs to; None when it does not say."""
    if application:
        session = _SESSION.match(application)
        if session:
            return canonical_id(session[1])
    if not text or "/*" not in text:
        return None
    trace = None
    for comment in _COMMENT.findall(text):
        ours = _OURS.match(comment)
        if ours:
            return canonical_id(ours[1])
        theirs = _THEIRS.search(comment)
        if theirs:
            return canonical_id(unquote(theirs[1]))
        found = _TRACE.search(comment)
        trace = trace or (found[1] if found else None)
    return canonical_id(trace) if trace else None
