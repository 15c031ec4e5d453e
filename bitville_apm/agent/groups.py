"""The group that PHP runs under, as `[php] group` names it."""

from __future__ import annotations

import grp

_MOST = 2**32 - 2
"""The largest number a group may have; the next one means none."""


def group_id(group: str) -> int:
    """The number of a group; -1 for none. Raises `KeyError` where there is no such group.

    A number need not have a name here: the group is a container's then.
    """
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal() and int(group) <= _MOST:
            return int(group)
        raise


def is_named(group: str) -> bool:
    """Whether this machine has a name for a group that is told by its name or number."""
    try:
        grp.getgrgid(group_id(group))
    except (KeyError, OverflowError):
        return False
    return True
