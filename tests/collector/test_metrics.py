"""What Prometheus reads of a real collector."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.collector.rig import running
from tests.web.sent import record


def test_metrics(tmp_path: Path) -> None:
    """LIST-07: records are counted by what became of them, as numbers that say nothing of whose they are."""
    with running(tmp_path) as rig:
        key = rig.key("secretproject")
        body = record(0)
        assert rig.post(key, body, body, {**record(1), "ms": "long"}).status == 200
        answer = rig.ask("GET", "/metrics")
        assert answer.status == 200
        samples = {
            (sample.name, sample.labels.get("outcome")): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }
    outcomes = {label: n for (name, label), n in samples.items() if name == "bitville_collector_records_total"}
    assert outcomes == {"stored": 1, "duplicate": 1, "invalid": 1}
    assert samples["bitville_collector_ready", None] == 1
    assert samples["bitville_collector_disk_free_bytes", None] > 0
    for word in (b"secretproject", b"/page", key.encode()):
        assert word not in answer.body
