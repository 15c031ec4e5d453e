"""Pools of php-fpm by their status page: a real one, idle, busy, full, stopped and away; and others in its place."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from bitville_apm import limits
from bitville_apm.agent.config import FpmStatus, read_agent
from bitville_apm.agent.fpm import FpmSource, Page, Pool
from bitville_apm.agent.load import Load
from bitville_apm.ini import ConfigError
from tests.agent.rig import Agent, Collector, running, wait_until
from tests.agent.source_rig import passing
from tests.faults.test_php_client import pool, site
from tests.php.peer import Site

__all__ = ["site"]

STATUS = ("pm.status_path = /status",)


class Frames:
    """Takes the `load` of one window."""

    def __init__(self) -> None:
        self.told = Load()

    def load(self, now: float) -> Load:
        return self.told


@attrs.frozen
class Asked:
    source: FpmSource
    frames: Frames


class Fpms(TestCase):
    """Sources that ask when the test says so."""

    timeout = 60

    def source(self, address: Any, path: str = "/status", most: int | None = None) -> Asked:
        frames: Any = Frames()
        source = FpmSource("fpm php", FpmStatus(address, path, most), frames, reactor, time.time)
        self.addCleanup(source.stop)
        return Asked(source, frames)

    async def answered(self, asked: Asked) -> dict[str, Any]:
        before = asked.source.answered
        asked.source.tick()
        await passing(lambda: asked.source.answered > before or asked.source.tick())
        return asked.source.health()

    async def failed(self, asked: Asked, but: str = "nothing") -> str:
        """Why it fails; `but` is what it may say while a php-fpm has its socket and does not listen yet."""
        asked.source.tick()
        await passing(lambda: (asked.source.why and but not in asked.source.why) or asked.source.tick())
        assert asked.source.health()["status"] == "degraded"
        return asked.source.why

    async def test_an_idle_pool(self) -> None:
        """Wire 6, pools: nobody is busy but who answers us; a static pool may have as many children as it has."""
        with pool(client=False, children=3, pool=STATUS) as server:
            asked = self.source(str(server.socket))
            for _ in range(2):
                health = await self.answered(asked)
        assert (health["status"], health["pool"], health["answered"]) == ("ok", "shop", 2)
        assert asked.frames.told.told()["pools"] == [
            {"name": "shop", "busy": 0, "total": 3, "listen_queue": 0, "max": 3}
        ]

    async def test_over_tcp(self) -> None:
        """A pool may listen at an address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pool(client=False, children=2, pool=(f"pm.status_listen = 127.0.0.1:{port}", *STATUS)):
            health = await self.answered(self.source(("127.0.0.1", port)))
        assert (health["status"], health["max"]) == ("ok", 2)

    async def test_what_is_no_status_page(self) -> None:
        """Each trouble is one line that says what to do, and the agent is degraded by it."""
        with pool(client=False, children=1) as server:
            assert "pm.status_path = /status" in await self.failed(self.source(str(server.socket)), "refused")
            path = str(server.socket)
        assert "No such file" in await self.failed(self.source(path))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            assert "refused" in await self.failed(self.source(closed.getsockname()))

    async def test_a_server_that_says_something_else(self) -> None:
        """No FastCGI, an answer without an end, one that never ends: said, and the connection is closed."""
        path = f"/tmp/bv-fpm-{time.time_ns()}.sock"
        self.addCleanup(lambda: Path(path).unlink())
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            answers = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\1\6\0\1\xff\xff\0\0" * 70_000]

            def serve() -> None:
                for answer in answers:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1)
                        try:
                            connection.sendall(answer)
                        except OSError:
                            continue

            thread = threading.Thread(target=serve)
            thread.start()
            said = [await self.failed(self.source(path)) for _ in answers]
            thread.join(10)
        assert "speaks no FastCGI" in said[0]
        assert "without an answer" in said[1]
        assert "more than a status page has" in said[2]

    async def test_a_full_queue_is_no_busy_loop(self) -> None:
        """A UNIX socket with a full queue refuses at once: that is told, and tried again at the next question."""
        path = f"/tmp/bv-fpm-{time.time_ns()}.sock"
        self.addCleanup(lambda: Path(path).unlink())
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(0)
            with socket.socket(socket.AF_UNIX) as first:
                first.connect(path)
                asked = self.source(path)
                asked.source.pool.told(Page("www", "static", 1, 0, 3, 3))
                began = time.process_time()
                assert await self.failed(asked) == "its listen queue is full"
                await deferLater(reactor, 0.3)  # type: ignore[arg-type]
                assert time.process_time() - began < 0.2
        assert asked.frames.told.told()["pools"][0]["listen_queue"] >= 1


@contextlib.contextmanager
def beside_a_pool(tmp_path: Path) -> Iterator[tuple[Any, Agent, Collector, Callable[[], dict[str, Any]]]]:
    """A real agent beside a pool of two that answers it: the pool, the agent, who gets its frames, and what it says."""
    collector = Collector()
    try:
        with pool(client=False, children=2, pool=STATUS) as server:
            agent = Agent(tmp_path / "a", collector.url)
            ini = agent.config.read_text()
            agent.config.write_text(ini.replace("[php]\n", f"[php]\nfpm_status = unix:{server.socket} /status\n"))
            with running(agent):
                health: Callable[[], dict[str, Any]] = lambda: agent.health()["stats"]["sources"]["fpm php"]  # noqa: E731
                wait_until(lambda: health()["answered"])
                yield server, agent, collector, health
                assert agent.stop() == 0
    finally:
        collector.close()


def test_busy_full_and_stopped(tmp_path: Path, site: Site) -> None:
    """Wire 6, pools: a real agent beside a pool of two. Busy children and the queue are those there are; when all are
    busy and the question itself waits, the pool is told as busy with somebody in its queue, and health says so.
    """
    with beside_a_pool(tmp_path) as (server, agent, collector, health):
        assert agent.health()["status"] == "ok"
        # Four pages: two run, two wait, and behind them the question.
        code = "sleep(7); echo 'done';"
        pages = [threading.Thread(target=server.get, args=(site, code)) for _ in range(4)]
        for page in pages:
            page.start()
        wait_until(lambda: health()["status"] == "degraded", 12)
        assert "all children are busy" in health()["why"]
        assert agent.health()["status"] == "degraded"
        for page in pages:
            page.join()
        wait_until(lambda: (health()["status"], health()["busy"]) == ("ok", 0), 12)
    pools = [frame["body"]["load"]["pools"] for frame in collector.frames.values() if "pools" in frame["body"]["load"]]
    assert {one["name"] for told in pools for one in told} == {"shop"}
    assert max(one["busy"] for told in pools for one in told) == 2
    assert max(one["listen_queue"] for told in pools for one in told) >= 1
    assert {one["max"] for told in pools for one in told} == {2}


@pytest.mark.full
def test_a_pool_that_hangs(tmp_path: Path, site: Site) -> None:
    """A php-fpm that was stopped answers nobody: degraded with how long, one question in flight, well again after."""
    with beside_a_pool(tmp_path) as (server, _agent, _collector, health):
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        for pid in children:
            signal.pidfd_send_signal(os.pidfd_open(int(pid)), signal.SIGSTOP)
        before = health()["asked"]
        wait_until(lambda: health()["status"] == "degraded", 12)
        time.sleep(6)
        assert health()["asked"] <= before + 1
        for pid in children:
            signal.pidfd_send_signal(os.pidfd_open(int(pid)), signal.SIGCONT)
        wait_until(lambda: health()["status"] == "ok", 12)


# --- what is known of a pool ----------------------------------------------------------------------------------


def page(active: int, total: int, reached: int = 0, accepted: int = 0, queue: int = 0) -> Page:
    return Page("www", "dynamic", accepted, queue, active, total, reached)


def test_how_many_children_it_may_have() -> None:
    """The page does not tell pm.max_children: of a dynamic pool it is known once that was reached, or when written."""
    learning = Pool()
    learning.told(page(1, 2, reached=5))
    assert "max" not in learning.numbers(False), "it was reached some day; how many there were then is not known"
    learning.told(page(9, 9, reached=6))
    learning.told(page(1, 4, reached=6))
    assert learning.numbers(False)["max"] == 9
    assert Pool(most=40).numbers(False)["max"] == 40
    waiting = Pool()
    waiting.told(page(5, 5, reached=1, queue=3))
    assert waiting.numbers(False)["max"] == 5, "it lets three wait, and has reached it some day"
    full = Pool()
    full.told(page(4, 6))
    assert full.numbers(True) == {"busy": 6, "total": 6, "max": 6, "listen_queue": 1}


def test_who_answers_is_not_busy() -> None:
    """Its own child is taken off, unless a process apart answers: which its count of connections gives away, or, where
    visitors never stop coming, that once nobody was busy."""
    own, apart, visited = Pool(), Pool(), Pool()
    own.told(page(1, 2, accepted=7))
    own.told(page(2, 2, accepted=8))
    assert own.busy == 1
    apart.told(page(2, 2, accepted=7))
    apart.told(page(2, 2, accepted=7))
    assert apart.busy == 2
    visited.told(page(0, 2, accepted=7))
    visited.told(page(2, 2, accepted=40))
    assert visited.busy == 2


@pytest.fixture
def ini(tmp_path: Path) -> Any:
    def written(value: str) -> tuple[FpmStatus, ...]:
        path = tmp_path / "agent.ini"
        path.touch(0o640)
        path.write_text(f"[php]\nfpm_status = {value}\n")
        return read_agent(path, {}).php[0].fpm_status

    return written


def test_how_it_is_written(ini: Any) -> None:
    """DAEMON-16: a UNIX socket or an address, the page's path, the pool's size if one likes; several by commas."""
    assert ini("unix:/run/php/a.sock /status") == (FpmStatus("/run/php/a.sock", "/status"),)
    assert ini("unix:/a /s 40, localhost:9000 /status,[::1]:9001 /x 3") == (
        FpmStatus("/a", "/s", 40),
        FpmStatus(("127.0.0.1", 9000), "/status"),
        FpmStatus(("::1", 9001), "/x", 3),
    )
    assert ini("") == ()
    for wrong in ("/run/a.sock", "unix:a /s", "unix:/a status", "1.2.3.4 /s", "unix:/a /s many", "unix:/a /s 4 x", ","):
        with pytest.raises(ConfigError, match=r"\[php\] fpm_status = .*pm.status_path"):
            ini(wrong)


def test_limits_ask_within_a_window() -> None:
    """Wire 6: each window has an answer."""
    assert 2 * limits.FPM_ASK_S < limits.WINDOW_S
