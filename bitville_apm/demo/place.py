"""Where the demo keeps everything: one directory, with short paths in it and one demo at a time.

A UNIX socket's path has 108 bytes, and each program has its own idea of a blank or a quote in a setting. Where the
directory's own name is too long or too odd, all paths go through a short, plain link to it, in $XDG_RUNTIME_DIR or
the temporary directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

HOME_BYTES = 80
"""The longest socket below it is `/agent/control.sock`, with room to spare."""


class PlaceError(Exception):
    """The directory cannot be used; the message says why."""


def default_state(environment: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/bitville-apm/demo`, or what that variable stands for when it is not set."""
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "bitville-apm" / "demo"


@attrs.frozen
class Place:
    """The directory of the demo. `home` is the name under which the processes know it, `state` its real one."""

    state: Path
    home: Path

    @classmethod
    @contextlib.contextmanager
    def taken(cls, state: Path, environment: Mapping[str, str]) -> Iterator[Place]:
        """Make the directory and hold it against a second demo. Raises `PlaceError`."""
        state = state.absolute()
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (state / "lock").open("a+")
        except OSError as error:
            raise PlaceError(f"{error.filename}: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise PlaceError(
                    f"a demo is already running in {state} ({lock.read().strip()}); "
                    "stop it, or give --state another directory"
                ) from None
            lock.seek(0)
            lock.truncate()
            lock.write(f"process {os.getpid()}\n")
            lock.flush()
            home = state if _is_plain(state) else _plain_link(state, environment)
            for name in ("logs", "agent", "collector"):
                (state / name).mkdir(mode=0o700, exist_ok=True)
            try:
                yield cls(state, home)
            finally:
                if home != state:
                    home.unlink(missing_ok=True)

    @staticmethod
    def is_taken(state: Path) -> bool:
        """Whether a demo runs there."""
        try:
            with (state / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def agent_ini(self) -> Path:
        """Settings of the agent."""
        return self.home / "agent.ini"

    @property
    def collector_ini(self) -> Path:
        """Settings of the collector."""
        return self.home / "collector.ini"

    @property
    def profiling_ini(self) -> Path:
        """Settings of the PHP client."""
        return self.home / "profiling.ini"

    @property
    def socket(self) -> Path:
        """Where the agent listens; its heartbeat lies beside it, where the client looks for it."""
        return self.home / "agent.sock"

    @property
    def status_socket(self) -> Path:
        """Where php-fpm tells how busy its pool is, also when all of it is busy."""
        return self.home / "fpm.sock"

    @property
    def login_url(self) -> Path:
        """The one-time link that a collector leaves at its first start."""
        return self.home / "collector" / "login.url"

    def clear_sockets(self) -> None:
        """Remove what processes that could not clean up have left."""
        for path in (
            self.socket,
            self.home / "alive",
            self.home / "agent" / "control.sock",
            self.home / "php.sock",
            self.status_socket,
        ):
            path.unlink(missing_ok=True)

    def write_settings(self, web_port: int, health_port: int, workers: int = 0) -> None:
        """Write the three ini files, anew at each start: ports may have changed. `workers` of php-fpm, 0 without."""
        status = f"fpm_status = unix:{self.status_socket} /status {workers}\n" if workers else ""
        _write(
            self.collector_ini,
            f"[collector]\nlisten = 127.0.0.1:{web_port}\ndata = {self.home}/collector\n",
        )
        _write(
            self.agent_ini,
            f"[agent]\nstate = {self.home}/agent\nhealth = 127.0.0.1:{health_port}\nheartbeat = {self.home}/alive\n"
            f"[collector]\nurl = http://127.0.0.1:{web_port}\nkey_file = {self.home}/collector/local.key\n"
            f"[php]\nsocket = {self.socket}\nmode = 0600\ngroup = {_group()}\nspool = {self.home}/spool\n{status}",
        )
        _write(
            self.profiling_ini,
            f'profiling_enabled = on\ndaemon_socket_path = "{self.socket}"\ndisk_buffer_path = "{self.home}/spool"\n',
        )


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o640)
    path.chmod(0o640)
    path.write_text(text)


def _group() -> str:
    """The group of whoever runs the demo: nobody else needs the socket."""
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def _is_plain(path: Path) -> bool:
    return len(os.fsencode(path)) <= HOME_BYTES and re.fullmatch(r"[A-Za-z0-9/._-]+", str(path)) is not None


def _plain_link(state: Path, environment: Mapping[str, str]) -> Path:
    name = f"bitville-demo-{os.getuid()}-{hashlib.sha256(os.fsencode(state)).hexdigest()[:8]}"
    places = [environment.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - checked below
    for directory in places:
        link = Path(directory) / name
        if not link.is_absolute() or not _is_plain(link):
            continue
        try:
            if link.is_symlink() and link.lstat().st_uid == os.getuid():
                link.unlink()
            link.symlink_to(state)
        except OSError:
            continue
        return link
    raise PlaceError(f"{state} is too long or too odd a name for the path of a socket; give --state another")
