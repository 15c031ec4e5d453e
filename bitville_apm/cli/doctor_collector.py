"""What `bitville doctor` looks at of a collector on this machine: what it says itself, its disk and its certificate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from bitville_apm import limits
from bitville_apm.cli import asking, keyring
from bitville_apm.cli.agent import span
from bitville_apm.cli.findings import Check, Finding, disk, ends
from bitville_apm.collector.config import CollectorConfig


def checks(settings: CollectorConfig) -> Iterator[tuple[str, Check]]:
    """All of them, by name."""
    yield "collector", lambda: _collector(settings)
    certificate = settings.collector.certificate
    if certificate is not None:
        yield "certificate", lambda: _certificate(certificate)


def _collector(settings: CollectorConfig) -> Iterator[Finding]:
    collector = asking.own(settings, {}, limits.CONTROL_S)
    try:
        status, _, body = collector.ask("/ready")
    except asking.Declined as error:
        do = "start it: systemctl start bitville-apm-collector; its log says why not"
        yield Finding("collector", "problem", str(error), do)
        return
    told = _read(body)
    if "database" not in told:
        what = f"{collector.url} answers {status}: {told.get('message', 'nothing that a collector says')}"
        yield Finding("collector", "problem", what, "its log says more; does something else listen there?")
        return
    yield Finding("collector", "ok", f"{told['version']} at {collector.url}, up {span(told['uptime'])}")
    yield from database(told)
    yield disk(
        "collector's disk", str(settings.collector.data), told["disk"]["free_bytes"], told["disk"]["total_bytes"]
    )
    yield from work(told)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def database(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether records can be stored, and what is kept."""
    store = told["database"]
    for what in store["problems"]:
        do = "docs/operate.md, How long things are kept; agents keep their records meanwhile"
        yield Finding("database", "warning" if store["ok"] else "problem", what, do)
    if store["ok"]:
        days = [day["day"] for day in store["days"]]
        kept = f"{len(days)} day{'s' if len(days) > 1 else ''} from {min(days)}" if days else "nothing yet"
        size = f"{store['bytes'] / limits.MIB:,.0f} MiB, {told['cleanup']['retention_days']} days are to be kept"
        yield Finding("database", "ok", f"writes; {kept}, {size}")
    elif not store["problems"]:
        yield Finding("database", "problem", "records cannot be stored", "the collector's log says why")


def work(told: Mapping[str, Any]) -> Iterator[Finding]:
    """What the collector does by itself."""
    for name, key in (("cleanup", "cleanup"), ("slow drifts", "drifts"), ("Graylog", "graylog")):
        problem = told.get(key, {}).get("problem")
        if problem:
            yield Finding(name, "warning", f"failed last time: {problem}", "the collector's log says more")
    if not told["cleanup"]["running"]:
        yield Finding("cleanup", "problem", "does not run: no day is ever dropped", "restart the collector")
    for way, counted in told["alerts"]["ways"].items():
        if counted["failed"]:
            what = f"{counted['failed']:,} by {way} could not be sent since the start"
            yield Finding("alerts", "warning", what, "bitville alerts test says why")
    if not told["agents_seen"] and told["uptime"] > limits.DOCTOR_SILENT_S:
        do = "bitville doctor on their hosts: a wrong url, no key, or a firewall"
        yield Finding("agents", "warning", "none was heard of since the collector's start", do)
    else:
        yield Finding("agents", "ok", f"{told['agents_seen']:,} heard of since the start")


def _certificate(path: Path) -> Iterator[Finding]:
    try:
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except ValueError as error:
        yield Finding("certificate", "problem", f"{path}: {error}", "bitville cert new makes one")
        return
    do = "bitville cert new makes one; then restart the collector"
    yield ends("certificate", str(path), until.timestamp(), keyring.now(), do)
