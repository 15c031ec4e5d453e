"""The place of a listening socket in the file system: made safely, one agent at a time, stale ones replaced.

All of this happens before the reactor runs; everything that a person can mend raises `CannotListen` in one line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from bitville_apm import limits
from bitville_apm.agent.groups import group_id, is_named

_LONGEST_PATH = 107
"""Of `sun_path`, without the byte that ends it."""


class CannotListen(Exception):
    """Why a socket cannot be made, and what to do."""


def lock(path: Path) -> int:
    """Hold a lock file as long as the descriptor it gives back is open. Raises `CannotListen`.

    The file stays behind: the one who removes a lock file takes it from under somebody else.
    """
    descriptor = -1
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise CannotListen(f"{path}: another agent holds this; stop it first") from None
        raise CannotListen(f"{path}: {error.strerror}; the agent's user must own {path.parent}") from None
    return descriptor


def _adopted(descriptor: int) -> socket.socket:
    """A listening UNIX socket that was handed to this process. Raises `CannotListen` for anything else."""
    try:
        handed = socket.socket(fileno=descriptor)
    except OSError as error:
        raise CannotListen(f"descriptor {descriptor}: {error.strerror}; hand over a listening UNIX socket") from None
    listens = handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (handed.family, handed.type, listens) != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        handed.detach()
        raise CannotListen(f"descriptor {descriptor}: not a listening UNIX stream socket; hand over one of those")
    handed.set_inheritable(False)
    handed.setblocking(False)
    return handed


@attrs.define(eq=False)
class SocketFile:
    """A socket's path with the mode and group it is to have.

    `inherited` is a descriptor that listens there already, from before a re-execution or from a supervisor; -1: the
    socket is still to be made. `lent`: the file is the supervisor's, who made it, gave it its mode and removes it;
    nothing here touches it then; `given` is the name he gave it. `held` is the descriptor of its lock.
    """

    path: Path
    mode: int
    group: str
    inherited: int = -1
    lent: bool = False
    given: str = ""
    held: int = -1

    def listen(self) -> socket.socket:
        """The listening socket: nobody can connect before it has its group and mode. Raises `CannotListen`."""
        if self.inherited >= 0:
            return _adopted(self.inherited)
        self.claim()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with self.private():
                listening.bind(str(self.path))
            self.open_up()
            listening.setblocking(False)
            listening.listen(limits.LISTEN_BACKLOG)
        except OSError as error:
            listening.close()
            self.release()
            raise CannotListen(f"{self.path}: {error.strerror or error}") from None
        except CannotListen:
            listening.close()
            self.remove()
            self.release()
            raise
        return listening

    def bind(self) -> socket.socket:
        """A datagram socket there. No lock beside it: a section has its stream socket's. Raises `CannotListen`."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._clear()
            with self.private():
                bound.bind(str(self.path))
            self.open_up()
        except OSError as error:
            bound.close()
            raise CannotListen(f"{self.path}: {error.strerror or error}") from None
        except CannotListen:
            bound.close()
            raise
        return bound

    def claim(self) -> None:
        """Make sure that nobody else listens there, and that the path is free. Raises `CannotListen`.

        With an inherited descriptor both have been seen to before.
        """
        if self.inherited >= 0:
            return
        self._group_id()
        self.held = lock(self.path.with_name(self.path.name + ".lock"))
        try:
            self._clear()
        except OSError as error:
            raise CannotListen(f"{self.path}: {error.strerror}; the agent's user must own {self.path.parent}") from None

    def check(self, ours: bool) -> None:
        """Find out whether `listen` would work, and leave everything as it was. Raises `CannotListen`.

        `ours`: whoever listens there now is the agent that asks.
        """
        gid = self._group_id()
        if gid >= 0 and os.geteuid() and gid not in (os.getegid(), *os.getgroups()):
            raise self._not_given()
        parent = next(parent for parent in self.path.parents if parent.exists())
        beside = parent / f".{os.getpid()}"
        try:
            with self.private(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
                trial.bind(str(beside))
            beside.unlink()
        except OSError as error:
            raise CannotListen(f"{self.path}: {error.strerror}; the agent's user must own {parent}") from None
        if len(os.fsencode(self.path)) > _LONGEST_PATH:
            raise CannotListen(f"{self.path}: longer than the {_LONGEST_PATH} bytes that a socket's path may have")
        if os.path.lexists(self.path) and not ours:
            self._probe()

    def _clear(self) -> None:
        """Remove a socket that nobody listens on any more."""
        if os.path.lexists(self.path):
            self._probe()
            self.path.unlink(missing_ok=True)

    def _probe(self) -> None:
        """Raises `CannotListen` when the path is no socket, or somebody listens there."""
        if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
            raise CannotListen(f"{self.path}: there is something that is no socket; move it away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except OSError:  # a full backlog, a hung listener: somebody is there
                pass
        raise CannotListen(f"{self.path}: another program listens here; stop it or choose another socket")

    def _group_id(self) -> int:
        try:
            return group_id(self.group)
        except KeyError:
            raise CannotListen(
                f"{self.path}: this machine has no group {self.group!r}; set group to the one PHP runs under, "
                "or enabled = no where there is no PHP"
            ) from None

    @contextlib.contextmanager
    def private(self) -> Iterator[None]:
        """While the socket is bound inside this, nobody else can connect yet."""
        before = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(before)

    def open_up(self) -> None:
        """Give the bound socket its group, then its mode. Raises `CannotListen`."""
        if self.lent:
            return
        try:
            os.chown(self.path, -1, self._group_id())
            os.chmod(self.path, self.mode)
        except OSError:
            raise self._not_given() from None

    def _not_given(self) -> CannotListen:
        first = "" if is_named(self.group) else f"give it a name (groupadd -g {self.group} NAME), "
        return CannotListen(
            f"{self.path}: may not give it to group {self.group!r}; {first}"
            f"add this user to the group (usermod -aG {self.group} USER) or set group to one of its own"
        )

    def remove(self) -> None:
        """Take the name away, so that nobody connects any more. A lent one stays: its owner listens on."""
        if not self.lent:
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let another agent have it."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1
