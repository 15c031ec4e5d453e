"""The name under which a request is added up: its route, or its method and path without what varies.

A pure function of the request (wire.md 7), so that every host, the agent before a framework has spoken, and the
collector for records of the first version all arrive at the same name. Vectors: `tests/wire/endpoints.tsv`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from bitville_apm import limits

_VARIES = re.compile(
    r"[0-9]+"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    r"|(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}"
    r"|(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])(?=[^0-9]*[0-9])[A-Za-z0-9_-]{16,}"
)
"""A whole segment that is a number, a date, a UUID, a hexadecimal or another token; ASCII only."""

_ORIGIN = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_CLI_PART = re.compile(r"[^/=]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def endpoint(method: str, uri: str, route: str | None = None) -> str:
    """`GET /product/42?x=1` is `GET /product/{}`; a route is taken as it is named; CLI is the script and its command.

    At most `limits.ENDPOINT_BYTES` bytes of UTF-8, never empty, no control characters. Never raises.
    """
    if route and (named := " ".join(route.split())):
        return _cut(named)
    method = method.strip().upper()
    if method == "CLI":
        return _cut(" ".join(map(_script_word, uri.split()[:2])) or method)
    return _cut(f"{method} {_path(uri)}".lstrip())


def _path(uri: str) -> str:
    """The path of a request target, in origin or absolute form; `*` of OPTIONS is `/*`."""
    target = uri if uri.startswith("/") else _ORIGIN.sub("", uri)
    path = target.partition("?")[0].partition("#")[0]
    if "%" in path:
        path = unquote_to_bytes(path.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    return "/" + "/".join(map(_segment, filter(None, path.split("/"))))


def _segment(segment: str) -> str:
    # Nothing that varies is letters only: most segments need no more than that to be told.
    return "{}" if not segment.isalpha() and _VARIES.fullmatch(segment) else segment


def _script_word(word: str) -> str:
    """`/srv/releases/20240131/bin/console` or `--user=42`, part by part; a command line has no escapes to undo."""
    return _CLI_PART.sub(lambda part: _segment(part[0]), word)


def _cut(name: str) -> str:
    """Within the limit and printable on one line."""
    if len(name) <= limits.ENDPOINT_BYTES and name.isascii() and name.isprintable():
        return name
    printable = _CONTROL.sub("\ufffd", name).encode("utf-8", "replace")
    return printable[: limits.ENDPOINT_BYTES].decode("utf-8", "ignore")
