"""Listening sockets that the agent starts with: a supervisor's, who holds them when the agent is killed, or its own.

systemd passes them from descriptor 3 on and says how many in the environment; supervisord's `fcgi-program` passes one
as descriptor 0. Such a socket belongs to the section whose `socket =` is its path, or whose name it bears.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path

import attrs

from bitville_apm.agent.handover import Handover, SourceState
from bitville_apm.agent.socketfile import SocketFile

_FIRST = 3
_NAMES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@attrs.frozen
class Lent:
    """One such socket: a listening descriptor, the path it is bound to, the name a supervisor gave it."""

    descriptor: int
    path: Path
    name: str = ""

    def belongs(self, section: str, path: Path) -> bool:
        """Whether it is the socket of this section. `/var/run` and `/run` are the same place."""
        return self.name == section or same_place(self.path, path)


def same_place(one: Path, other: Path) -> bool:
    """Whether two paths name the same file, be it there or not."""
    return os.path.realpath(one) == os.path.realpath(other)


def lent_sockets(environment: MutableMapping[str, str]) -> list[Lent]:
    """What this process was given; the variables that said so are taken out, so that no child believes them."""
    count, pid, names = _told(environment)
    found = []
    if pid == str(os.getpid()) and count.isdecimal():
        named = names.split(":") if names else []
        for number in range(int(count)):
            found.append(_lent(_FIRST + number, named[number] if number < len(named) else ""))
    if _listens(0):
        # Number 0 must go on to be something: twistd puts /dev/null there, and so does this.
        moved = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        found.append(_lent(moved))
    return found


def _told(environment: MutableMapping[str, str]) -> list[str]:
    """The variables of systemd. Twisted takes them out of the environment at its import, for endpoints of its own.

    The kernel still shows what the process was started with.
    """
    with open("/proc/self/environ", "rb") as file:
        started = dict(os.fsdecode(entry).partition("=")[::2] for entry in file.read().split(b"\0"))
    return [environment.pop(name, "") or started.get(name, "") for name in _NAMES]


@attrs.frozen
class Inheritance:
    """What a new process starts with: sockets of a supervisor, or all that its process before left."""

    lent: Sequence[Lent] = ()
    handed: Handover | None = None

    def file(self, name: str, path: Path, mode: int, group: str) -> SocketFile:
        """The socket of a section."""
        for one in self.lent:
            if one.belongs(name, path):
                return SocketFile(one.path, mode, group, inherited=one.descriptor, lent=True, given=one.name)
        state = self.state(name, path)
        if self.handed is None or state is None:
            return SocketFile(path, mode, group)
        where = bound_to(state.listening)
        lent, given = str(where) in self.handed.lent, self.handed.lent.get(str(where), "")
        return SocketFile(where, mode, group, state.listening, lent, given, self.handed.locks.get(str(where), -1))

    def state(self, name: str, path: Path) -> SourceState | None:
        """What the process before left of this section: by its socket's path, or the name it was given."""
        for state in self.handed.sources if self.handed is not None else ():
            where = bound_to(state.listening)
            given = self.handed.lent.get(str(where), "") if self.handed is not None else ""
            if Lent(state.listening, where, given).belongs(name, path):
                return state
        return None

    def close(self, sections: Iterable[tuple[str, Path]]) -> None:
        """Let go of what belongs to no section any more. Its clients keep what they have to say."""
        if self.handed is None:
            return
        kept = {id(self.state(*section)) for section in sections}
        for state in self.handed.sources:
            if id(state) in kept:
                continue
            where = bound_to(state.listening)
            where.unlink(missing_ok=True)
            for descriptor in (state.listening, *state.datagrams, *(held.descriptor for held in state.held)):
                os.close(descriptor)
            if str(where) in self.handed.locks:
                os.close(self.handed.locks[str(where)])


def unclaimed(lent: Iterable[Lent], sections: Iterable[tuple[str, Path]]) -> str:
    """What is wrong when a supervisor's socket belongs to no section: who connects there would never be answered."""
    known = list(sections)
    for one in lent:
        if not any(one.belongs(*section) for section in known):
            return f"descriptor {one.descriptor} is {one.path}, but no [php …] section has this as its socket"
    return ""


def _listens(descriptor: int) -> bool:
    """Whether this is a listening UNIX stream socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as other:
            listening = other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listening) and (other.family, other.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        return False


def bound_to(descriptor: int) -> Path:
    """The path that a UNIX socket is bound to; of anything else, what it is, which is no section's path."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as other:
            name = other.getsockname()
    except OSError:
        return Path("no socket")
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes) else Path(str(name))


def _lent(descriptor: int, name: str = "") -> Lent:
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    return Lent(descriptor, bound_to(descriptor), name)
