"""What a look at one part of an installation found, and looking at all parts at once within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import attrs

from bitville_apm import limits
from bitville_apm.cli.asking import Declined
from bitville_apm.ini import ConfigError

Level = Literal["absent", "ok", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("absent", "ok", "warning", "problem")
"""From nothing to say to the worst."""


@attrs.frozen
class Finding:
    """One line: about what, how bad it is, what it is, and what to do about it."""

    about: str
    level: Level
    what: str
    do: str = ""


Check = Callable[[], Iterable[Finding]]


def examined(checks: Mapping[str, Check], seconds: float) -> Iterator[Finding]:
    """What all checks find, in their order. They run at once, each in a thread; what does not end in time is told so,
    and left behind: nothing that hangs (a disk, a server) may hang the one who asks.
    """
    until = time.monotonic() + seconds
    begun = [(about, *_begun(about, check)) for about, check in checks.items()]
    for about, thread, found in begun:
        thread.join(max(0.0, until - time.monotonic()))
        late = thread.is_alive()
        yield from list(found)
        if late:
            yield Finding(about, "problem", f"no answer within {seconds:.0f} s", "whatever it waits for hangs")


def _begun(about: str, check: Check) -> tuple[threading.Thread, list[Finding]]:
    found: list[Finding] = []
    thread = threading.Thread(target=_run, args=(about, check, found), daemon=True)
    thread.start()
    return thread, found


def _run(about: str, check: Check, found: list[Finding]) -> None:
    try:
        for one in check():
            found.append(one)
    except (ConfigError, Declined) as error:
        found.append(Finding(about, "problem", str(error)))
    except PermissionError as error:
        what = f"{error.filename}: {error.strerror}"
        found.append(Finding(about, "warning", what, "look again as root or as the daemon's user, with sudo -u"))
    except OSError as error:
        found.append(Finding(about, "problem", str(error)))
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide what the others found
        found.append(Finding(about, "problem", f"cannot be told: {type(error).__name__}: {error}", "please report it"))


def disk(about: str, where: str, free: int, total: int) -> Finding:
    """How full a disk is, bytes."""
    what = f"{free / limits.MIB:,.0f} MiB free of {total / limits.MIB:,.0f} on the disk of {where}"
    if free < limits.DOCTOR_FREE_LEAST_BYTES:
        return Finding(about, "problem", what, "make room now; nothing has to be repaired afterwards")
    if free < min(limits.DOCTOR_FREE_BYTES, limits.DOCTOR_FREE_SHARE * total):
        return Finding(about, "warning", what, "make room before it is full")
    return Finding(about, "ok", what)


def ends(about: str, what: str, until: float, now: float, do: str) -> Finding:
    """When a certificate ends, unix seconds."""
    days = (until - now) / 86_400
    if days <= 0:
        return Finding(about, "problem", f"{what} ended {int(-days)} days ago", do)
    level: Level = "warning" if until - now < limits.DOCTOR_CERTIFICATE_S else "ok"
    return Finding(about, level, f"{what} ends in {int(days)} days", do if level == "warning" else "")
