"""What frames say of CPU time and of long requests, beside what the kernel says: a real agent and real PHP workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.rig import Agent, Collector, running, wait_until
from tests.faults.test_php_client import pool, site
from tests.faults.tools import cgroups
from tests.faults.tools.counts import say
from tests.php.peer import Fpm, Site
from tests.tools import lacking

__all__ = ["site"]

WORK = """
class Work {
    static function burn($ms) { $until = hrtime(true) + $ms * 1e6; while (hrtime(true) < $until) md5('x'); }
    static function rest($ms) { usleep($ms * 1000); }
}
"""
PAGES = {
    "/cart": "Work::burn(8); Work::rest(30);",
    "/search": "Work::burn(120); Work::rest(100);",
    "/report": "for ($n = 0; $n < 8; $n++) { Work::burn(250); Work::rest(250); }",
    "/waiting": "Work::rest(1500);",
}
SECONDS = 40
LONG_S = 27


@contextlib.contextmanager
def served(site: Site, agent: Agent, children: int) -> Iterator[Fpm]:
    """A pool whose client talks to this agent."""
    site.configure(daemon_socket_path=agent.socket, disk_buffer_path=agent.spool)
    with pool(children=children) as server:
        yield server


def page(site: Site, code: str, name: str) -> dict[str, str]:
    """What asks FPM for a page that is there already."""
    path = site.root / f"{name}.php"
    path.write_text("<?php\n" + WORK + code)
    return {"SCRIPT_FILENAME": str(path)}


def workers(server: Fpm) -> list[int]:
    """The processes of a pool, its master among them."""
    master = server.process.pid
    return [master, *map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split())]


def column(frame: dict[str, Any], dimension: str, name: str) -> dict[str, float]:
    """One column of a frame, by value; zeros where the frame has none."""
    table = frame["cells"].get(dimension, {"values": [], "columns": {}})
    numbers = table["columns"].get(name) or [0] * len(table["values"])
    return dict(zip(table["values"], numbers, strict=True))


@pytest.mark.full
def test_endpoints_have_the_pools_cpu_seconds(tmp_path: Path, site: Site, collector: Collector) -> None:
    """Wire 6: under mixed load all endpoints together have the CPU seconds of the pool's cgroup, within 10 %."""
    with contextlib.ExitStack() as stack:
        agent = stack.enter_context(running(Agent(tmp_path / "a", collector.url)))
        server = stack.enter_context(served(site, agent, children=12))
        for uri, code in PAGES.items():
            page(site, code, uri.strip("/"))
        try:
            group = stack.enter_context(cgroups.group("cpuacct"))
            for pid in workers(server):
                group.add(pid)
        except OSError as error:
            lacking(f"a cgroup of its own: {error}")
        over = threading.Event()

        def visit(uri: str) -> None:
            asked = {"SCRIPT_FILENAME": str(site.root / f"{uri.strip('/')}.php")}
            while not over.wait(0.02):
                server.get(site, "", uri, **asked)

        threads = [threading.Thread(target=visit, args=(uri,)) for uri in [*PAGES, *PAGES]]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS)
        over.set()
        for thread in threads:
            thread.join(30)
        used = group.cpu_s()
        time.sleep(2.5)  # a look later: what workers did after their last page
        wait_until(lambda: agent.ledger()["pending"] == 0)
        assert agent.stop() == 0
    cells: dict[str, float] = {}
    for frame in collector.frames.values():
        for name, us in column(frame["body"], "endpoint", "cpu_us").items():
            cells[name] = cells.get(name, 0.0) + us / 1e6
    said = ", ".join(f"{name} {s:.2f} s" for name, s in sorted(cells.items()))
    say(f"the pool used {used:.2f} s, its endpoints {sum(cells.values()):.2f} s: {said}")
    assert used > 5, "hardly any load"
    assert abs(sum(cells.values()) - used) <= 0.1 * used, said


@pytest.mark.full
def test_a_long_request_is_in_every_window_it_lived_in(tmp_path: Path, site: Site, collector: Collector) -> None:
    """Wire 6: a request of 27 s is in each window as it goes by, while it runs; its functions follow in late frames.

    In the end each window's functions have exactly the CPU time of its endpoint.
    """
    code = f"$end = hrtime(true) + {LONG_S}e9; while (hrtime(true) < $end) {{ Work::burn(200); Work::rest(300); }}"
    name = "GET /export"
    with contextlib.ExitStack() as stack:
        agent = stack.enter_context(running(Agent(tmp_path / "a", collector.url)))
        server = stack.enter_context(served(site, agent, children=1))
        asked = page(site, code, "export")
        began = time.time()
        server.get(site, "", "/export", **asked)
        ended = time.time()
        while_it_ran = [frame["body"] for frame in list(collector.frames.values())]
        wait_until(lambda: agent.ledger()["pending"] == 0)
        assert agent.stop() == 0
    windows = range(int(began) // 10 * 10, int(ended) // 10 * 10 + 1, 10)
    gone_by = [at for at in windows if at + 13 < ended]
    assert len(gone_by) >= 1
    for at in gone_by:
        (seen,) = [frame for frame in while_it_ran if frame["at"] == at]
        assert not seen["late"]
        assert column(seen, "endpoint", "requests")[name] == 0
        assert column(seen, "endpoint", "cpu_us")[name] > 0
        assert column(seen, "endpoint", "waiting_s")[name] > 0
        assert not column(seen, "function", "cpu_us")
    frames = [frame["body"] for frame in collector.frames.values()]
    requests = {f["at"]: n for f in frames if (n := column(f, "endpoint", "requests").get(name))}
    assert requests == {windows[-1]: 1}, "counted once, in the window of its end"
    for at in windows:
        mine = [frame for frame in frames if frame["at"] == at]
        whole = sum(column(frame, "endpoint", "cpu_us").get(name, 0) for frame in mine)
        functions: dict[str, float] = {}
        for frame in mine:
            late = frame["late"]
            for function, us in column(frame, "function", "cpu_us").items():
                assert late or at == windows[-1], "functions of a window that went by come late"
                functions[function] = functions.get(function, 0) + us
        assert sum(functions.values()) == whole > 0
        assert functions["Work::burn"] > 0
