"""Which hosts fell silent: they sent frames before a time, and for a while of it they did not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bitville_apm import limits


def silent(frames: Mapping[str, Iterable[float]], start: float, end: float) -> list[str]:
    """The hosts that were there before `start` and said nothing for over `limits.SILENT_S` of [start, end).

    `frames` are the beginnings of each host's windows, unix seconds, from some minutes before `start` on.
    """
    found = []
    for host, ats in frames.items():
        known = sorted({at for at in ats if at < end})
        if not known or known[0] >= start:
            continue
        covered = start
        for at in known:
            if at > covered + limits.SILENT_S:
                break
            covered = max(covered, at + limits.WINDOW_S)
        if covered + limits.SILENT_S < end:
            found.append(host)
    return sorted(found)
