"""Numbers of a host: the `load` of frames, and which of its processes are databases (wire.md 6). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DATABASES = ("postgres", "mysqld", "mariadbd", "mariadb", "mongod", "postmaster")


def is_database(process: str) -> bool:
    """Whether a process is a database server."""
    name = called(process)
    return name in DATABASES or name.startswith("postgres")


def called(process: str) -> str:
    """The name to know a process by, of its short-lived children, too."""
    return process.removesuffix(" (short-lived)").partition(":")[0].strip().lower()


def merged(loads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The host's numbers of one window: what one part leaves out, another says."""
    whole: dict[str, Any] = {}
    for load in loads:
        for name, value in load.items():
            held = whole.get(name)
            if held is None:
                whole[name] = value
            elif isinstance(held, int | float) and isinstance(value, int | float):
                whole[name] = max(held, value)
            elif isinstance(held, dict) and isinstance(value, dict):
                whole[name] = {**held, **value} if len(value) > len(held) else {**value, **held}
    return whole


def number(load: Mapping[str, Any], *path: str) -> float | None:
    """A number somewhere in a window's `load`; None where it is not said."""
    held: Any = load
    for name in path:
        if not isinstance(held, dict):
            return None
        held = held.get(name)
    return float(held) if isinstance(held, int | float) and math.isfinite(held) else None


def average(loads: Sequence[Mapping[str, Any]], *path: str) -> float | None:
    """The mean of a number over the windows that say it."""
    said = [n for n in (number(load, *path) for load in loads) if n is not None]
    return sum(said) / len(said) if said else None
