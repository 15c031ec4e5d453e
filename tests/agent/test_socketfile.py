"""The socket's file: who may connect, who may not make it, one that is left over."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from bitville_apm.agent.processes import alive
from bitville_apm.agent.socketfile import CannotListen, SocketFile, lock


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
