"""PHP in a container: processes and files of its own, and of the host no more than docs/php.md mounts.

The container is made of what engines make it of: another PID namespace, another root, two directories of the host, a
user and a group that have no names on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.agent.asking import asked
from tests.agent.rig import Agent, Collector, running, wait_until
from tests.php.peer import PHP, base_options
from tests.tools import lacking, require

DOCUMENT = Path(__file__).parents[2] / "docs" / "php.md"
SOCKET = "/var/run/bitville-apm"
SPOOL = "/var/lib/bitville-apm/buffer/php"
SETTINGS = "/etc/bitville-apm"
CLIENT = "/usr/share/bitville-apm/php"
MOUNTED = [f"{SOCKET}:ro", SPOOL, f"{SETTINGS}:ro", f"{CLIENT}:ro"]
UID, GID = 70_082, 70_083
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ROOT = """
set -e
mount -t tmpfs tmpfs "$ROOT"
cd "$ROOT"
mkdir -p proc etc usr
mount -t proc proc proc
for name in bin lib lib64 sbin usr/bin usr/lib usr/lib64 usr/sbin usr/share/zoneinfo; do
    if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"
    elif [ -d "/$name" ]; then mkdir -p "$name"; mount --bind "/$name" "$name"; fi
done
for one in $MOUNTED; do
    there=".${one#*:}"
    mkdir -p "${there%:ro}"
    mount --bind "${one%%:*}" "${there%:ro}"
    case "$there" in *:ro) mount -o remount,bind,ro "${there%:ro}" ;; esac
done
exec chroot --userspec="$OWNER" . "$@"
"""
WORK = f"""<?php
bitville_apm_set_endpoint('container/{{id}}');
echo json_encode(['pid' => getmypid(), 'seen' => bitville_apm_check_socket()]), "\\n";
while (!is_file('{SPOOL}/go')) {{ md5('x'); usleep(200); }}
"""


class Container:
    """PHP with the client, beside an agent whose socket and spool it is given."""

    def __init__(self, root: Path, agent: Agent) -> None:
        for folder in ("root", "settings", "app"):
            (root / folder).mkdir()
        (root / "settings" / "profiling.ini").write_text("profiling_enabled = 1\nprofiling_threshold_ms = 0\n")
        (root / "app" / "work.php").write_text(WORK)
        here = {SOCKET: agent.socket.parent, SPOOL: agent.spool, SETTINGS: root / "settings", CLIENT: PHP}
        mounted = {here[where.removesuffix(":ro")]: where for where in MOUNTED} | {root / "app": "/srv:ro"}
        self.environment = {
            "PATH": os.environ["PATH"],
            "ROOT": str(root / "root"),
            "MOUNTED": " ".join(f"{here}:{there}" for here, there in mounted.items()),
            "OWNER": f"{UID}:{GID}",
        }
        php = os.path.realpath(str(shutil.which("php")))
        options = [*base_options(()), f"-dauto_prepend_file={CLIENT}/prepend.php"]
        self.command = [*APART, "sh", "-c", ROOT, "sh", php, *options, "/srv/work.php"]

    @contextmanager
    def working(self) -> Iterator[subprocess.Popen[str]]:
        """One run of the application, until the file `go` lets it end."""
        with subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def collector() -> Iterator[Collector]:
    stand_in = Collector()
    try:
        yield stand_in
    finally:
        stand_in.close()


@pytest.fixture
def agent(collector: Collector) -> Iterator[Agent]:
    """An agent whose socket and spool are given to a group by its number."""
    require("php", "unshare", "chroot", "mount")
    tried = subprocess.run([*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    if tried.returncode != 0:
        lacking(f"a PID namespace and a root of one's own need root: {tried.stderr.strip()}")
    # In a short directory: a UNIX socket's path ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="bv", ignore_cleanup_errors=True) as directory:
        made = Agent(Path(directory), collector.url, environment={"BITVILLE_PHP_GROUP": str(GID)})
        with running(made):
            wait_until(lambda: made.spool.exists() and made.spool.stat().st_gid == GID, what="its spool")
            yield made


def test_a_worker_is_known_by_its_process_outside(agent: Agent, collector: Collector, tmp_path: Path) -> None:
    """DAEMON-07: PHP is process 1 to itself; the agent tells the state and the CPU of the process that it is here."""
    container = Container(tmp_path, agent)
    with container.working() as php:
        assert php.stdout is not None
        seen = {"socket_path": f"{SOCKET}/daemon.sock", "exists": True, "is_socket": True, "writable_dir": True}
        assert json.loads(php.stdout.readline()) == {"pid": 1, "seen": seen}
        (outside,) = psutil.Process(php.pid).children()
        assert outside.uids().real == UID
        (told,) = wait_until(lambda: [one for one in asked(agent, "live")["requests"] if one["cpu_s"]])
        assert told["pid"] == outside.pid
        assert told["endpoint"] == "container/{id}"
        assert told["state"] in "RSD"
        (agent.spool / "go").touch()
        assert (php.wait(60), php.stderr and php.stderr.read()) == (0, "")
    wait_until(lambda: len(collector.items) == 1, what="its record")
    (item,) = collector.items.values()
    assert (item["k"], item["id"], item["body"]["request"]["route"]) == ("end", told["id"], "container/{id}")
    assert agent.ledger()["died"] == 0


def test_its_spool_is_taken_up(agent: Agent, collector: Collector, tmp_path: Path) -> None:
    """COMM-03, COMM-08: without an agent a record is left in the shared directory, and imported by the next one."""
    container = Container(tmp_path, agent)
    (agent.spool / "go").touch()
    agent.stop()
    with container.working() as php:
        assert php.wait(60) == 0
    (left,) = agent.spool.glob("profile_*.json")
    assert (left.stat().st_uid, left.stat().st_gid) == (UID, GID)
    agent.spawn()
    wait_until(lambda: len(collector.items) == 1, 60, "its record")
    wait_until(lambda: not left.exists(), what="its file to be removed")


def test_the_document_mounts_what_is_mounted_here() -> None:
    """DAEMON-07: what docs/php.md gives to a container is what these tests give to theirs."""
    assert re.findall(r"-v [^:\s]+:(\S+)", DOCUMENT.read_text()) == MOUNTED
