"""The socket's file: who may connect, who may not make it, one that is left over."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitville_apm.agent.groups import group_id
from bitville_apm.agent.processes import alive
from bitville_apm.agent.socketfile import CannotListen, SocketFile, lock
from bitville_apm.agent.spoolfiles import prepare
from tests.tools import lacking

NOBODY = 65534
NAMELESS = next(gid for gid in range(70_000, 80_000) if gid not in {group.gr_gid for group in grp.getgrall()})
"""A group without a name on this machine."""


def test_a_socket_is_made_private_then_given_away(tmp_path: Path) -> None:
    """DAEMON-07: never 0666 for a moment; mode and group as configured at the end."""
    modes = []
    file = SocketFile(tmp_path / "s", 0o660, "")
    file.claim()
    with file.private(), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(file.path))
        modes.append(file.path.stat().st_mode & 0o777)
    file.open_up()
    modes.append(file.path.stat().st_mode & 0o777)
    assert modes == [0o600, 0o660]


def test_who_may_not_listen_is_told_what_to_do(tmp_path: Path) -> None:
    """DAEMON-07: a file in the way, a living listener, an unknown group, a lock held: one line each, no removal."""
    path = tmp_path / "s"
    cases = []
    path.write_text("precious")
    cases.append(refusal(SocketFile(path, 0o660, "")))
    assert path.read_text() == "precious"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        cases.append(refusal(SocketFile(path, 0o660, "")))
        assert path.exists()
    cases.append(refusal(SocketFile(path, 0o660, "no-such-group")))
    holder = SocketFile(path, 0o660, "")
    holder.claim()
    cases.append(refusal(SocketFile(path, 0o660, "")))
    holder.release()
    assert ["move it away" in cases[0], "stop it" in cases[1], "set group" in cases[2], "stop it" in cases[3]] == [
        True
    ] * 4
    assert all("\n" not in case for case in cases)


def test_a_group_may_be_a_number(tmp_path: Path) -> None:
    """DAEMON-07: a group that has no name here, a container's, is told by its number."""
    assert group_id("") == -1
    assert group_id(grp.getgrgid(os.getgid()).gr_name) == group_id(str(os.getgid())) == os.getgid()
    assert group_id(str(NAMELESS)) == NAMELESS
    for none in ("-5", "4294967295", "1e3", "no-such-group"):
        with pytest.raises(KeyError):
            group_id(none)
    if os.geteuid() != 0:
        lacking("giving a file to a group that one is not in needs root")
    SocketFile(tmp_path / "s", 0o660, str(NAMELESS)).listen().close()
    prepare(tmp_path / "spool", str(NAMELESS))
    assert [(tmp_path / name).stat().st_gid for name in ("s", "spool")] == [NAMELESS] * 2


def test_who_is_not_in_the_group_is_told_how_to_be(tmp_path: Path) -> None:
    """DAEMON-07: one line, with the commands; where the group has no name here, how it gets one."""
    others = [group.gr_name for group in grp.getgrall() if group.gr_gid not in (os.getegid(), *os.getgroups())]
    with nobody(tmp_path) as directory:
        for group, commands in (
            (others[0], [f"(usermod -aG {others[0]} USER)"]),
            (str(NAMELESS), [f"(groupadd -g {NAMELESS} NAME)", f"(usermod -aG {NAMELESS} USER)"]),
        ):
            with pytest.raises(CannotListen) as refused:
                SocketFile(directory / "s", 0o660, group).check(ours=False)
            assert re.findall(r"\([^)]*\)", str(refused.value)) == commands
            assert "\n" not in str(refused.value)


def test_a_spool_of_somebody_else_is_said(tmp_path: Path) -> None:
    """COMM-08: what a container's engine made as root: the agent could remove nothing there, and says so."""
    if os.geteuid() != 0:
        lacking("a directory of somebody else needs root")
    with nobody(tmp_path) as directory:
        os.seteuid(0)
        (directory / "spool").mkdir(mode=0o755)
        os.seteuid(NOBODY)
        with pytest.raises(PermissionError, match="chown"):
            prepare(directory / "spool", "")
        os.seteuid(0)
        (directory / "spool").chmod(0o777)
        os.seteuid(NOBODY)
        prepare(directory / "spool", "")


@contextlib.contextmanager
def nobody(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this process may write, and for the time being no right beyond that of its owner."""
    if os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="bv") as made:
        os.chmod(made, 0o777)
        os.seteuid(NOBODY)
        try:
            yield Path(made)
        finally:
            os.seteuid(0)


def refusal(file: SocketFile) -> str:
    try:
        file.claim()
    except CannotListen as error:
        return str(error)
    finally:
        file.release()
    raise AssertionError("it was allowed")


def test_a_stale_socket_is_replaced_and_a_lock_is_one_processs(tmp_path: Path) -> None:
    """DAEMON-07: what a killed agent left behind does not stop the next one."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    file = SocketFile(path, 0o660, "")
    file.claim()
    assert not path.exists()
    file.release()
    os.close(lock(tmp_path / "s.lock"))


def test_a_process_is_alive_only_if_it_is_the_same_one() -> None:
    """A pid that was given to another process since is gone; a zombie is gone; an invisible one is not."""
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert alive(os.getpid(), boot)
    assert not alive(os.getpid(), 1.0), "started after that: another process by the same number"
    assert alive(0, boot)
    child = os.fork()
    if child == 0:
        os._exit(0)
    time.sleep(0.2)
    assert not alive(child, boot + 60)
    os.waitpid(child, 0)
    assert not alive(child, boot + 60)
