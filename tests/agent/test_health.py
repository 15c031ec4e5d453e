"""The health page as monitoring sees it, over real HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.agent.rig import Agent, Collector, begin_line, end_line, running, wait_until


@pytest.fixture
def agent(tmp_path: Path, collector: Collector) -> Any:
    with running(Agent(tmp_path / "a", collector.url)) as agent:
        yield agent


def get(agent: Agent, path: str, host: str | None = None) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{agent.health_port}{path}")
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_its_shape_is_as_promised(agent: Agent, collector: Collector) -> None:
    """DAEMON-11: every field, indented, on `/health` and `/`; 404 text elsewhere; the ledger adds up."""
    id_ = "0c5be2a4-52b7-4c0e-9d3e-0f6d4f5a1b01"
    assert agent.send(begin_line(id_), end_line(id_)) == b"+"
    assert agent.send(b"rubbish") == b"-"
    wait_until(lambda: agent.ledger()["stored"] == 1)
    for path in ("/health", "/"):
        status, type_, text = get(agent, path)
        assert (status, type_) == (200, "application/json")
        assert text.startswith('{\n  "status": "ok",\n')
    body = json.loads(text)
    assert {"status", "timestamp", "uptime_seconds", "stats"} <= body.keys()
    stats = body["stats"]
    assert stats.keys() == {"worker", "buffer", "circuit_breaker", "ledger", "sources"}
    promised = {"request_count", "memory_usage_mb", "memory_limit_mb", "gc_runs", "max_requests"}
    assert stats["worker"].keys() == promised | {"restarts"}
    assert stats["worker"]["request_count"] == 2
    assert 10 < stats["worker"]["memory_usage_mb"] < 256
    assert stats["buffer"].keys() == {
        "memory_buffer_count",
        "memory_buffer_limit",
        "disk_overflow_count",
        "disk_buffer_path",
        "disk_file_count",
    }
    assert (
        stats["circuit_breaker"].items()
        >= {
            "name": "central_listener",
            "state": "closed",
            "failure_count": 0,
            "failure_threshold": 5,
            "retry_timeout": 60.0,
            "last_failure_time": None,
            "opened_at": None,
        }.items()
    )
    ledger = stats["ledger"]["default"]
    assert ledger["received"] == ledger["journalled"] + ledger["duplicate"] + ledger["invalid"] + ledger["unwritten"]
    assert (ledger["stored"], ledger["pending"], ledger["invalid"], ledger["error"]) == (1, 0, 1, 0)
    assert stats["sources"]["php"]["status"] == "ok"
    assert collector.url not in text, "numbers only, no URLs"
    for path in ("/healthz", "/a/b", "/health/x"):
        assert get(agent, path) == (404, "text/plain", "Not found")


def test_only_this_machine_by_name_is_answered(agent: Agent) -> None:
    """A page elsewhere whose name points to 127.0.0.1 learns nothing."""
    for host in ("localhost", "127.0.0.1", f"localhost:{agent.health_port}"):
        assert get(agent, "/health", host)[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9191", ""):
        for path in ("/health", "/", "/metrics"):
            assert get(agent, path, host)[0] == 404


def test_metrics_are_the_same_numbers(agent: Agent) -> None:
    """Prometheus text, read back by its own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    agent.send(end_line())
    wait_until(lambda: agent.ledger()["stored"] == 1)
    status, type_, text = get(agent, "/metrics")
    assert status == 200
    assert type_.startswith("text/plain")
    samples = {
        (s.name, tuple(s.labels.values())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }
    assert samples["bitville_agent_ledger_stored_total", ("default",)] == 1
    assert samples["bitville_agent_ledger_pending", ("default",)] == 0
    assert samples["bitville_agent_breaker_state", ("default",)] == 0
    assert samples["bitville_agent_source_lines", ("php",)] == 1


def test_a_refused_key_fails_and_a_sick_collector_degrades(agent: Agent, collector: Collector) -> None:
    """DAEMON-11: degraded is still 200, failing is 503."""
    collector.behaviour = lambda items: (500, {}, b"")
    agent.send(end_line())
    wait_until(lambda: get(agent, "/health")[0] == 200 and agent.health()["status"] == "degraded")
    collector.behaviour = lambda items: (401, {}, b'{"message":"Invalid API key"}')
    wait_until(lambda: get(agent, "/health")[0] == 503, seconds=30)
    assert agent.health()["status"] == "failing"
