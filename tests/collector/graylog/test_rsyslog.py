"""A real rsyslog takes what a real collector sends, and parses each message whole."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.agent.certificate import certified
from tests.collector.graylog.records import end, posted
from tests.collector.graylog.rsyslog import Rsyslog, rsyslog
from tests.collector.rig import running

ODD = 'Zoë said "\\u0000 \\n" ' + "ä" * 20_000
"""Quotes, what stands for a zero byte and a line end, and more than a message may have."""


def settings(receiver: Rsyslog, protocol: str = "tcp", ca: str = "") -> str:
    return f"[graylog]\nenabled = yes\nport = {receiver.port}\nprotocol = {protocol}\nca = {ca}\n"


def test_over_tcp(tmp_path: Path) -> None:
    """GELF-01, GELF-04: every message is whole and parsed, numbers are numbers, odd texts too; after a restart of
    rsyslog what comes meanwhile arrives.
    """
    with rsyslog(tmp_path / "rsyslog") as receiver, running(tmp_path / "rig", extra=settings(receiver)) as rig:
        key = rig.key("shop")
        odd = end(context={"said": ODD})
        wanted = posted(rig, key, [odd, *(end(ms=n + 0.5) for n in range(200))])
        found = receiver.wait(len(wanted))
        assert [message["_bv_id"] for message in found] == wanted
        assert json.dumps(odd).startswith(found[0]["full_message"])
        assert len(found[0]["full_message"]) == 32_000
        assert [message["_duration_ms"] for message in found[1:4]] == [0.5, 1.5, 2.5]
        assert {message["_project"] for message in found} == {"shop"}
        receiver.end(kill=True)
        wanted += posted(rig, key, [end() for _ in range(50)])
        receiver.start()
        found = receiver.wait(len(wanted))
        assert list(dict.fromkeys(message["_bv_id"] for message in found)) == wanted
        rig.stop()


def test_over_tls(tmp_path: Path) -> None:
    """GELF-01: by TLS every message arrives; one whose certificate is not believed gets nothing, and why is told."""
    certified(tmp_path / "own")
    certified(tmp_path / "other")
    own, other = tmp_path / "own" / "both.pem", tmp_path / "other" / "both.pem"
    with (
        rsyslog(tmp_path / "rsyslog", certificate=own, key=own) as receiver,
        running(tmp_path / "rig", extra=settings(receiver, "tls", str(other))) as rig,
    ):
        wanted = posted(rig, rig.key("shop"), [end(ms=float(n)) for n in range(50)])
        until = time.monotonic() + 30
        while "certificate" not in ((problem := rig.ask("GET", "/ready").json["graylog"]["problem"]) or ""):
            assert time.monotonic() < until, problem
            time.sleep(0.1)
        assert receiver.messages() == []
        rig.stop()
        rig.extra = settings(receiver, "tls", str(own))
        rig.start()
        found = receiver.wait(len(wanted))
        assert list(dict.fromkeys(message["_bv_id"] for message in found)) == wanted
        rig.stop()
