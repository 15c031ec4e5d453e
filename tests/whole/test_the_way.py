"""The whole way: a client's socket, a real agent, a real collector, and back out of its API."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wire
from tests.agent import rig as agents
from tests.whole.way import Way, running


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    """The whole way, running."""
    with running(tmp_path) as whole:
        yield whole


def test_all_real_records_arrive_complete_and_once(way: Way) -> None:
    """COMM-02, LIST-05: all 74 records go through socket, agent and collector, come back complete; twice is once."""
    lines = wire.real_version1()
    for _twice in range(2):
        for line in lines:
            assert way.agent.send(line, seconds=30) == b"+"
        agents.wait_until(way.delivered, 60, "everything delivered")
        agents.wait_until(lambda: way.counted() >= 74, 30, "its frames delivered")
    found = {item["id"]: item for item in way.stored()}
    assert len(way.stored()) == len(found) == 74
    for line in lines:
        sent = json.loads(line)
        got = way.ask(f"requests/{sent['correlation_id']}")
        assert got["record"] == sent
        assert found[sent["correlation_id"]]["duration_ms"] == sent["elapsed_ms"]
        assert sum(s["count"] for s in got["statements"]) == len(sent["sql"]["queries"])
        assert (got["functions"] != []) == bool(sent["xhprof"])


def test_every_kind_of_line_of_a_client_arrives(way: Way) -> None:
    """COMM-02: begin, route and end of the golden files, and both spellings of version 1, as the API shows them."""
    begin, end = wire.lines("begin.ndjson")[0], wire.lines("end.ndjson")
    now = time.time()
    ends = [json.loads(line) | {"at": now - 1} for line in end]
    with way.agent.connect() as client:
        client.sendall(begin + b"\n" + wire.lines("route.ndjson")[0] + b"\n")
        client.sendall(json.dumps(ends[0]).encode() + b"\n")
        assert client.recv(1) == b"+"
    assert way.agent.send(*(json.dumps(e).encode() for e in ends[1:])) == b"++"
    assert way.agent.send(*wire.lines("version1-second-spelling.ndjson")) == b"++"
    agents.wait_until(way.delivered, what="everything delivered")
    shown = {item["id"]: item["endpoint"] for item in way.stored()}
    assert shown["0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"] == "GET /product/{id}"
    assert shown["7d444840-9dc0-11d1-b245-5ffdce74fad2"] == "POST /cart"
    assert len(shown) == 5
    assert way.ask("requests/job-2026-11-21%2317")["record"]["request"]["uri"] == "bin/worker mails"


def test_a_refused_line_costs_nobody_else(way: Way) -> None:
    """LIST-04: broken lines are answered `-` in their place (a begin has none), the good ones beside them arrive."""
    good = [agents.end_line() for _ in range(3)]
    bad = [b"{", b"[]", b'{"t":"end","v":2}', b'{"t":"begin","id":"x","at":NaN}', b"\xff" * 10]
    assert way.agent.send(good[0], bad[0], bad[1], good[1], *bad[2:], good[2]) == b"+--+--+"
    agents.wait_until(way.delivered, what="everything delivered")
    assert {item["id"] for item in way.stored()} == {json.loads(line)["id"] for line in good}
    assert way.agent.ledger()["invalid"] == len(bad)


def test_what_the_collector_refuses_is_set_aside(way: Way) -> None:
    """LIST-04: an item from the far future is quarantined with its reason; the breaker stays closed."""
    far = json.loads(agents.end_line()) | {"at": time.time() + 86_400}
    good = agents.end_line()
    assert way.agent.send(json.dumps(far).encode(), good) == b"++"
    agents.wait_until(lambda: way.delivered() and way.stored(), what="everything delivered")
    assert [item["id"] for item in way.stored()] == [json.loads(good)["id"]]
    assert way.agent.ledger()["quarantined"] == 1
    assert way.agent.health()["stats"]["circuit_breaker"]["state"] == "closed"


@pytest.mark.parametrize("whom", ["agent", "collector"])
def test_killed_in_traffic_everything_acked_is_there_once(way: Way, whom: str) -> None:
    """DAEMON-06, STOR-01: SIGKILL of either one mid-traffic: what was acked is stored once and counted once."""
    senders = [agents.Sender(way.agent, size=2000, pause=0.004) for _ in range(3)]
    for sender in senders:
        sender.start()
    chance = random.Random(7)
    for _kill in range(4):
        time.sleep(0.4 + chance.random())
        if whom == "agent":
            way.agent.kill()
            way.agent.start()
        else:
            way.collector.kill()
            way.collector.start()
    time.sleep(0.3)
    for sender in senders:
        sender.finish()
    acked = set[str]().union(*(sender.acked for sender in senders))
    sent = set[str]().union(*(sender.sent for sender in senders))
    assert len(acked) > 100
    agents.wait_until(way.delivered, 90, "everything delivered")
    ids = [item["id"] for item in way.stored() if not item["died"]]
    assert acked <= set(ids) <= sent
    assert len(ids) == len(set(ids))
    assert way.agent.stop() == 0
    assert way.counted() == len(way.stored())


def test_projects_are_decided_by_the_key(way: Way) -> None:
    """LIST-03, STOR-04: what a record claims as its project is ignored, and another project's key sees nothing."""
    line = json.dumps(json.loads(wire.real_version1()[0]) | {"project": "other"}).encode()
    assert way.agent.send(line, seconds=30) == b"+"
    agents.wait_until(way.delivered, what="everything delivered")
    assert [item["project"] for item in way.stored()] == ["shop"]
    other = way.collector.key(project="other", scopes="read")
    assert way.collector.ask("GET", "/api/search", key=other).json["items"] == []
    id_ = json.loads(line)["correlation_id"]
    assert way.collector.ask("GET", f"/api/requests/{id_}", key=other).status == 404


def test_a_revoked_key_holds_its_records(way: Way) -> None:
    """COMM-04, LIST-03: with its key revoked the agent keeps everything and says `failing`."""
    way.collector.revoke(way.agent.key)
    time.sleep(1.2)
    assert way.agent.send(agents.end_line()) == b"+"
    agents.wait_until(lambda: way.agent.health()["status"] == "failing", what="health failing")
    assert way.agent.ledger()["pending"] == 1
    assert way.stored() == []


def test_many_clients_at_once(way: Way) -> None:
    """DAEMON-05: 60 clients at once are all answered, and all are stored, in memory's bounds or not."""
    acks: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: acks.append(way.agent.send(agents.end_line(size=20_000)))) for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert acks == [b"+"] * 60
    agents.wait_until(way.delivered, 30, "everything delivered")
    assert len(way.stored()) == 60
