"""A real agent that watches a real server for real PHP, and what a collector then knows of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.agent import rig as agents
from tests.agent.postgres.server import Client, Server, serving, until
from tests.collector import rig as collectors
from tests.php.peer import Site, base_options
from tests.tools import require

PGSQL = ("pdo", "pdo_pgsql", "pgsql", "excimer")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[collectors.Rig]:
    rig = collectors.Rig(tmp_path / "collector")
    rig.start()
    yield rig
    rig.end()


def ask(collector: collectors.Rig, key: str, path: str, **parameters: Any) -> Any:
    answer = collector.ask("GET", f"/api/{path}?{urlencode(parameters)}", key=key)
    assert answer.status == 200, answer.body
    return answer.json


def source(agent: agents.Agent, name: str = "postgres main") -> dict[str, Any]:
    return agent.health()["stats"]["sources"][name]  # type: ignore[no-any-return]


def test_php_and_postgres_tell_of_one_request(collector: collectors.Rig, postgres: Server, tmp_path: Path) -> None:
    """PG-01, PG-05, PG-06, PG-08, LIST-02, LIST-05, PG-COMM-01, PG-COMM-02, PG-COMM-03, PG-COMM-04, PHP-12: a page's
    statement as PHP sent it and as Postgres ran it has one fingerprint and one id; its sessions, its log's lines and
    the lock it waited for stand beside the request; times are in the frame's cells; and a second server that is away
    costs nothing but a word in `/health`.
    """
    require("php")
    if len(base_options(PGSQL)) == len(base_options(("pdo", "excimer"))):
        require("php-pgsql")
    read_key = collector.key(scopes="read")
    more = f"[postgres main]\ndsn = {postgres.dsn(user='bitville')}\n[postgres away]\ndsn = host=/nowhere user=x\n"
    agent = agents.Agent(tmp_path / "agent", collector.url, key=collector.key(), more=more)
    with agents.running(agent), tempfile.TemporaryDirectory(prefix="bv") as root:
        until(lambda: source(agent)["looks"] and source(agent)["log"]["files"])
        holder = Client(postgres, "BEGIN", "UPDATE item SET v = 'held' WHERE id = 1", application="holder")
        site = Site(Path(root))
        site.configure(profiling_threshold_ms=0, daemon_socket_path=agent.socket)
        code = f"""
        $d = new BitvilleApm\\Pdo('pgsql:host={postgres.root};port={postgres.port};dbname=postgres;user=postgres');
        $s = $d->prepare('UPDATE item SET v = :v WHERE id = :id'); $s->execute(['v' => 'secret', 'id' => 1]);
        echo bitville_apm_correlation_id();
        """
        done: list[subprocess.CompletedProcess[bytes]] = []
        page = threading.Thread(target=lambda: done.append(site.run(code, extensions=PGSQL)))
        page.start()
        until(lambda: source(agent)["waiting"] == 1)
        looks = source(agent)["looks"]
        until(lambda: source(agent)["looks"] >= looks + 2)
        holder.connection.execute("COMMIT")
        page.join()
        holder.end()
        looks = source(agent)["looks"]
        until(lambda: source(agent)["looks"] >= looks + 2)
        away = source(agent, "postgres away")
        assert (away["status"], away["why"]) == ("degraded", "sessions: it cannot be reached")
        main = source(agent)
        assert (main["status"], main["missing"]) == ("ok", [])
        assert agent.ledger()["error"] == 0
        assert agent.stop() == 0
    (ran,) = done
    assert ran.stderr == b""
    id_ = ran.stdout.decode()

    whole = ask(collector, read_key, f"correlation/{id_}")
    (statement,) = (s for s in whole["trace"]["sql_queries"] if s["statement"].startswith("UPDATE"))
    others = [item["data"] for item in whole["trace"]["other_records"]]
    assert whole["summary"]["php_count"] == 1
    assert whole["summary"]["postgres_count"] == len(others)
    assert {item["server"] for item in others} == {"main"}
    sessions = [s for item in others if item["source"] == "pg_stat_activity" for s in item["data"]["sessions"]]
    assert {s["fingerprint"] for s in sessions} == {statement["fingerprint"]}
    assert sum(sum(s["waits_s"].values()) for s in sessions) > 1.5
    logged = [item["data"] for item in others if item["source"] == "pg_log"]
    assert {"slow", "lock_wait"} <= {told["event"] for told in logged}
    assert {told["fingerprint"] for told in logged} == {statement["fingerprint"]}
    assert [told["holders"] for told in logged if told.get("what") == "waiting"] == [[holder.pid]]
    assert "secret" not in repr(whole["trace"]["other_records"])

    tops = {dimension: _top(collector, read_key, dimension) for dimension in ("statement", "wait", "blocker")}
    seen = tops["statement"][statement["statement"]]
    assert (seen["executions"], seen["requests"]) == (1, 1)
    assert seen["waiting_s"] > 1.5
    blocker = f"postgres@postgres {holder.pid}: UPDATE item SET v = ? WHERE id = ?"
    assert tops["blocker"][blocker]["waiting_s"] == pytest.approx(seen["waiting_s"])
    assert tops["wait"]["Lock:transactionid"]["waiting_s"] == pytest.approx(seen["waiting_s"])

    found = [item["source"] for item in _records(collector, read_key)]
    assert set(found) == {"php_agent", "postgres_agent"}
    statistics = ask(collector, read_key, "statistics")
    assert statistics["total_postgres_records"] == found.count("postgres_agent")


def _top(collector: collectors.Rig, key: str, dimension: str) -> dict[str, dict[str, Any]]:
    now = time.time()
    answer = ask(collector, key, "top", dimension=dimension, **{"from": now - 300, "to": now + 60})
    return {item["value"]: item for item in answer["items"]}


def _records(collector: collectors.Rig, key: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    page = ask(collector, key, "search", limit=100)
    items += page["items"]
    while page["hasMore"]:
        page = ask(collector, key, "search", limit=100, after=page["cursor"])
        items += page["items"]
    return items


@pytest.mark.full
def test_a_server_that_goes_away_is_told_of_at_once(tmp_path: Path) -> None:
    """PG-07, PG-08: a server that hangs, then dies, makes its source `degraded` and nothing else: what it did before is
    sent while it is away, its seconds are null, and it is watched again once it is back.
    """
    collector = agents.Collector()
    try:
        with serving(18, "logging_collector = on\n") as server:
            agent = agents.Agent(tmp_path / "agent", collector.url, more=f"[postgres]\ndsn = {server.dsn()}\n")
            with agents.running(agent):
                until(lambda: source(agent, "postgres")["looks"] >= 2)
                server.sql("CREATE TABLE item (id int)", "INSERT INTO item VALUES (1)")
                holder = Client(server, "BEGIN", "UPDATE item SET id = 2")
                holder.join()
                waiting = Client(server, "UPDATE item SET id = 3")
                until(lambda: source(agent, "postgres")["waiting"] == 1)
                backends = [pid for (pid,) in server.sql("SELECT pid FROM pg_stat_activity "
                                                         "WHERE application_name = 'bitville-apm'")]  # fmt: skip
                for pid in backends:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    until(lambda: source(agent, "postgres")["lost_s"] > 1.0, 30)
                finally:
                    for pid in backends:
                        os.kill(pid, signal.SIGCONT)
                until(lambda: source(agent, "postgres")["status"] == "ok", 30)
                until(lambda: source(agent, "postgres")["waiting"] == 1)
                server.stop(signal.SIGQUIT)
                until(lambda: source(agent, "postgres")["status"] == "degraded")
                until(lambda: any(item["body"]["source"] == "pg_locks" and item["body"]["data"]["waiting"]
                                  for item in list(collector.items.values())))  # fmt: skip
                time.sleep(12)
                server.start()
                looks = source(agent, "postgres")["looks"]
                until(lambda: source(agent, "postgres")["looks"] > looks, 30)
                until(lambda: source(agent, "postgres")["status"] == "ok", 30)
                assert agent.health()["stats"]["sources"]["host"]["status"] == "ok"
                assert agent.ledger()["error"] == 0
                assert agent.stop() == 0
                waiting.connection.close()
                holder.connection.close()
        frames = sorted((item["body"] for item in collector.frames.values()), key=lambda frame: frame["at"])
        seconds = [second for frame in frames for second in frame["seconds"].get("db", [None] * 10)]
        seen = [n for n, second in enumerate(seconds) if second is not None]
        assert seconds[seen[0] : seen[-1]].count(None) >= 10
        assert 1.0 in seconds
        assert sum(frame["lost"].get("db_seconds", 0) for frame in frames) >= 10
    finally:
        collector.close()


@pytest.mark.full
@pytest.mark.parametrize("burners", [0, 20], ids=["idle", "20 burners a core"])
def test_seconds_are_right_within_a_tenth(tmp_path: Path, burners: int) -> None:
    """PG-01, PG-06: 25 s of 40 sessions behind two roots are 1,000 session-seconds in `wait`, `statement`, `blocker`
    and `seconds.db`, each charged to its root, also on a machine with 20 CPU burners a core.
    """
    collector = agents.Collector()
    burning: list[subprocess.Popen[bytes]] = []
    try:
        with serving(18, "logging_collector = on\n") as server:
            server.sql("CREATE TABLE item (id int)", "INSERT INTO item VALUES (1)")
            agent = agents.Agent(tmp_path / "agent", collector.url, more=f"[postgres]\ndsn = {server.dsn()}\n")
            with agents.running(agent):
                until(lambda: source(agent, "postgres")["looks"], 60)
                advisory, row = (
                    Client(server, "SELECT pg_advisory_lock(7)"),
                    Client(server, "BEGIN", "UPDATE item SET id = 2"),
                )
                advisory.join()
                row.join()
                clients = [Client(server, "SELECT pg_advisory_lock(7)") for _ in range(15)]
                clients += [Client(server, "UPDATE item SET id = 3") for _ in range(25)]
                began = time.monotonic()
                burn = [sys.executable, "-c", "while True: pass"]
                burning += [subprocess.Popen(burn) for _ in range(burners * (os.cpu_count() or 1))]
                time.sleep(25)
                lasted = time.monotonic() - began
                for process in burning:
                    process.kill()
                for client in (row, advisory):
                    client.connection.close()
                for client in clients:
                    client.end()
                until(lambda: source(agent, "postgres")["active"] == 0, 60)
                assert agent.stop(60) == 0
        sums: dict[tuple[str, str], float] = {}
        active = 0.0
        for frame in (item["body"] for item in collector.frames.values()):
            active += sum(second or 0.0 for second in frame["seconds"].get("db", []))
            for dimension in ("wait", "statement", "blocker"):
                table = frame["cells"].get(dimension, {"values": [], "columns": {}})
                for value, s in zip(table["values"], table["columns"].get("waiting_s", []), strict=True):
                    sums[dimension, value] = sums.get((dimension, value), 0.0) + s
        by = {dimension: sum(s for (d, _), s in sums.items() if d == dimension) for dimension in ("wait", "statement")}
        for total in by.values():
            assert total == pytest.approx(40 * lasted, rel=0.1)
        behind = {pid: sum(s for (d, v), s in sums.items() if d == "blocker" and f" {pid}: " in v)
                  for pid in (advisory.pid, row.pid)}  # fmt: skip
        assert behind[advisory.pid] == pytest.approx(15 * lasted, rel=0.1)
        assert behind[row.pid] == pytest.approx(25 * lasted, rel=0.1)
        if not burners:
            assert active == pytest.approx(40 * lasted, rel=0.1)
    finally:
        for process in burning:
            process.kill()
            process.wait()
        collector.close()
