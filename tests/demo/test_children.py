"""Processes of the demo: none is ever left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitville_apm.demo.children import ChildDied, Children

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(600)",
]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(directory: Path) -> Children:
    (directory / "logs").mkdir(exist_ok=True)
    return Children(directory / "logs", directory / "processes")


def test_started_and_stopped(tmp_path: Path) -> None:
    """A process runs with its output in its log; after stop() it is gone, the last started first."""
    all_of_them = children(tmp_path)
    first = all_of_them.start("first", SLEEP, os.environ)
    second = all_of_them.start("second", SLEEP, os.environ)
    wait_for(lambda: "here" in second.log.read_text() and "here" in first.log.read_text())
    all_of_them.check()
    all_of_them.stop()
    assert not alive(first.process.pid)
    assert not alive(second.process.pid)
    assert json.loads((tmp_path / "processes").read_text()) == {}


def test_one_that_died_is_named(tmp_path: Path) -> None:
    """When a process ends by itself, the message has its name, how it ended, and the end of its log."""
    some = children(tmp_path)
    child = some.start("agent", [sys.executable, "-c", "raise SystemExit('no disk')"], os.environ)
    child.process.wait(20)
    with pytest.raises(ChildDied, match=r"(?s)the agent ended \(exit code 1\).*no disk"):
        some.check()
    some.stop()


def test_the_log_before_is_kept(tmp_path: Path) -> None:
    """A new start moves the old log aside instead of losing what it said."""
    for _ in range(2):
        some = children(tmp_path)
        child = some.start("agent", SLEEP, os.environ)
        wait_for(lambda child=child: child.log.read_text() == "here\n")
        some.stop()
    assert (tmp_path / "logs" / "agent.log.1").read_text() == "here\n"


def _parent(directory: Path, command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A process that has started a child, and the child's id."""
    code = (
        "import os, sys, time; from pathlib import Path; from bitville_apm.demo.children import Children\n"
        f"c = Children(Path({str(directory)!r}) / 'logs', Path({str(directory)!r}) / 'processes')\n"
        f"c.start('child', {command!r}, os.environ)\ntime.sleep(600)"
    )
    (directory / "logs").mkdir(exist_ok=True)
    parent = subprocess.Popen([sys.executable, "-c", code])
    log = directory / "logs" / "child.log"
    wait_for(lambda: log.exists() and "here" in log.read_text())
    return parent, int(next(iter(json.loads((directory / "processes").read_text()))))


def test_they_die_with_a_killed_parent(tmp_path: Path) -> None:
    """Even SIGKILL of the demo leaves no process behind: the kernel tells them."""
    parent, child = _parent(tmp_path, SLEEP)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(child))


def test_leftovers_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that did not listen when its parent was killed is ended by the next start."""
    parent, child = _parent(tmp_path, STUBBORN)
    parent.kill()
    parent.wait()
    time.sleep(0.3)
    assert alive(child)
    monkeypatch.setattr("bitville_apm.demo.children.STOP_S", 0.5)
    children(tmp_path).clear_leftovers()
    assert not alive(child)


def test_another_process_with_the_same_number_is_left_alone(tmp_path: Path) -> None:
    """An id is reused by the kernel: what counts is the id together with the time it started."""
    (tmp_path / "processes").write_text(json.dumps({str(os.getpid()): 1}))
    children(tmp_path).clear_leftovers()
    assert alive(os.getpid())
    for unreadable in ("", "[]", "{", '{"x": 1}'):
        (tmp_path / "processes").write_text(unreadable)
        children(tmp_path).clear_leftovers()
