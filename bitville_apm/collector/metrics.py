"""What `/metrics` of the collector says, in numbers only: no project, host, key or URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bitville_apm.metrics import Measure


def measures(ready: Mapping[str, Any], ingest: Mapping[str, int], rates_refused: int) -> Iterator[Measure]:
    """From the body of `/ready`, the counts of records since the start by what became of them, and of 429s."""
    yield Measure("bitville_collector_ready", "1 while records can be stored", int(ready["ready"]))
    yield Measure("bitville_collector_uptime_seconds", "Since the collector started", ready["uptime"])
    yield Measure("bitville_collector_gc_runs", "Times that garbage was collected", ready["gc_runs"], counter=True)
    for name, value in sorted(ingest.items()):
        yield Measure(
            "bitville_collector_records", "Records taken or refused, by outcome", value, {"outcome": name}, counter=True
        )
    help_ = "Requests answered 429 because a key or an address asked too often"
    yield Measure("bitville_collector_rate_limited", help_, rates_refused, counter=True)
    yield Measure("bitville_collector_agents", "Agents heard of since the start", ready["agents_seen"])
    yield Measure("bitville_collector_api_keys", "Keys that are valid", ready["api_keys"])
    yield Measure("bitville_collector_disk_free_bytes", "Free where the data is", ready["disk"]["free_bytes"])
    yield Measure("bitville_collector_disk_total_bytes", "Size of that disk", ready["disk"]["total_bytes"])
    yield Measure("bitville_collector_datagrams", "Datagrams received", ready["udp"]["received"], counter=True)
    help_ = "Datagrams or records in them that were not taken"
    yield Measure("bitville_collector_datagram_errors", help_, ready["udp"]["errors"], counter=True)
    yield from _spikes(ready["spikes"])
    yield from _drifts(ready["drifts"])
    for way, counts in sorted(ready["alerts"]["ways"].items()):
        for name, value in counts.items():
            labels = {"way": way, "outcome": name}
            yield Measure("bitville_collector_alerts", "Alerts, by way and outcome", value, labels, counter=True)
    if ready["graylog"]["enabled"]:
        yield from _graylog(ready["graylog"], ready["replay"])
    help_ = "Alerts not sent because their project had too many in an hour"
    yield Measure("bitville_collector_alerts_suppressed", help_, ready["alerts"]["suppressed"], counter=True)
    for name, value in sorted(ready["database"].items()):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Measure(f"bitville_collector_store_{name}", f"Store: {name.replace('_', ' ')}", value)


def _spikes(told: Mapping[str, Any]) -> Iterator[Measure]:
    """Of what looks for spikes."""
    yield Measure("bitville_collector_spikes_open", "Spikes that last", told["open"])
    yield Measure("bitville_collector_spikes_watched", "Hosts of projects watched for spikes", told["watched"])
    yield Measure("bitville_collector_spikes_waiting_frames", "Frames not looked at yet", told["waiting_frames"])
    for name, help_ in (
        ("opened", "Spikes found"),
        ("reports", "Reports of spikes made and kept"),
        ("failed", "Reports of spikes that could not be made or kept, and were tried again"),
        ("left_out", "Frames that found no room to be looked at for spikes; read again from the store"),
        ("dropped", "Hosts no longer watched for spikes, because there are too many"),
    ):
        yield Measure(f"bitville_collector_spikes_{name}", help_, told[name], counter=True)


def _drifts(told: Mapping[str, Any]) -> Iterator[Measure]:
    """Of what looks for slow drifts every night."""
    help_ = "Beginning of the newest day whose slow drifts were looked for, unix seconds; 0 before the first night"
    yield Measure("bitville_collector_drifts_day", help_, told["day"] or 0)
    for name, help_ in (
        ("projects", "Projects whose days were compared"),
        ("values", "Endpoints, functions and statements that were compared"),
        ("found", "Slow drifts found"),
        ("left_out", "Slow drifts that were not kept, because their project has too many"),
        ("capped", "Days of which only the heaviest values were compared"),
        ("skipped", "Projects that have to wait for the next night, because there are too many"),
        ("failed", "Projects whose days could not be compared, and that were tried again"),
    ):
        yield Measure(f"bitville_collector_drifts_{name}", help_, told[name], counter=True)


def _graylog(graylog: Mapping[str, Any], replay: Mapping[str, Any]) -> Iterator[Measure]:
    name, help_ = "bitville_collector_graylog_messages", "Messages to Graylog, by what became of them"
    for outcome in ("sent", "repeated", "dropped"):
        yield Measure(name, help_, graylog[outcome], {"outcome": outcome}, counter=True)
    help_ = "Times that Graylog took nothing"
    yield Measure("bitville_collector_graylog_failures", help_, graylog["failures"], counter=True)
    yield Measure("bitville_collector_graylog_pending", "Records that wait for Graylog", replay["pending"])
    help_ = "1 while Graylog is not tried, for it failed five times"
    is_open = graylog["circuit_breaker"]["state"] == "open"
    yield Measure("bitville_collector_graylog_breaker_open", help_, int(is_open))
