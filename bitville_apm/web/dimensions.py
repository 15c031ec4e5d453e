"""What the pages call the dimensions of wire.md 6. Pure."""

from __future__ import annotations

from bitville_apm.web import words

DIMENSIONS = {
    "endpoint": "Endpoints",
    "function": "Functions",
    "statement": "Statements",
    "external": "External calls",
    "client": "Clients",
    "agent": "User agents",
    "release": "Releases",
    "process": "Processes",
    "wait": "Database waits",
    "blocker": "Blockers",
    "request": "Long requests",
}
"""What the pages call the dimensions."""
IN_HEAD = ("endpoint", "function", "statement", "process", "wait")
"""Those with a place of their own in the head of every page; the others are tabs of theirs."""


SINGULAR = {
    "endpoint": "Endpoint",
    "function": "Function",
    "statement": "Statement",
    "external": "External call",
    "client": "Client",
    "agent": "User agent",
    "release": "Release",
    "process": "Process",
    "wait": "Database wait",
    "blocker": "Blocker",
    "request": "Request",
}
"""One value of a dimension."""


def singular(dimension: str) -> str:
    """What one value of a dimension is called; that of a later version by its own name."""
    return SINGULAR.get(dimension) or words.cut(dimension[:1].upper() + dimension[1:])
