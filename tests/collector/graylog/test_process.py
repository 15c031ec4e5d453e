"""A real collector that sends to Graylog over TCP: what arrives, and what a killed collector or receiver costs."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.agent.certificate import certified
from tests.collector.graylog.receiver import Receiver, after_bytes, receiving, settings
from tests.collector.graylog.records import end, posted
from tests.collector.rig import Rig, item, running
from tests.store.make import new_id


def test_what_arrives(tmp_path: Path) -> None:
    """GELF-01, GELF-02, GELF-06: off until it is set; what was there before is not sent; then every record of every
    project is, with the project in each message, and Postgres records too.
    """
    with receiving() as receiver, running(tmp_path) as rig:
        keys = {project: rig.key(project) for project in ("shop", "blog")}
        posted(rig, keys["shop"], [end()])
        assert rig.ask("GET", "/ready").json["graylog"]["enabled"] is False
        rig.stop()
        rig.extra = settings(receiver, facility="apm-test")
        rig.start()
        page = end(
            request={"method": "POST", "uri": "/cart?x=" + "y" * 600}, response={"status": 201},
            sql={"n": 3, "ms": 12.5}, memory={"peak_bytes": 3 * 2**20, "current_bytes": 1},
        )  # fmt: skip
        wanted = posted(rig, keys["shop"], [page]) + posted(rig, keys["blog"], [end()], "blog")
        seen = {"id": new_id(), "source": "pg_locks", "at": time.time(), "data": [], "correlation_id": page["id"]}
        assert rig.post(keys["shop"], item(seen, k="pg")).json["stored"] == 1
        wanted.append(f"shop/pg/{seen['id']}")
        receiver.wait(3)
        assert sorted(receiver.ids()) == sorted(wanted)
        by_id = {message["_bv_id"]: message for message in receiver.messages}
        message = by_id[wanted[0]]
        record = message.pop("full_message")
        assert page["id"] in record
        assert message == {
            "version": "1.1", "host": "web1", "short_message": "php_agent - shop", "level": 6,
            "timestamp": pytest.approx(page["at"], abs=0.001), "_bv_id": wanted[0], "_correlation_id": page["id"],
            "_project": "shop", "_kind": "end", "_server_hostname": "web1", "_facility": "apm-test",
            "_duration_ms": 100.0, "_url": ("/cart?x=" + "y" * 600)[:500], "_method": "POST",
            "_endpoint": "POST /cart", "_status_code": 201, "_sql_queries": 3, "_sql_duration_ms": 12.5,
            "_memory_peak_mb": 3.0,
        }  # fmt: skip
        assert by_id[wanted[1]]["_project"] == "blog"
        assert by_id[wanted[2]]["short_message"] == "postgres_agent - shop"
        assert by_id[wanted[2]]["_correlation_id"] == page["id"]
        told = rig.ask("GET", "/ready").json
        assert (told["graylog"]["host"], told["graylog"]["port"]) == ("127.0.0.1", receiver.port)
        assert told["graylog"]["circuit_breaker"]["name"] == "graylog"
        assert (told["graylog"]["sent"], told["replay"]["pending"]) == (3, 0)
        assert "bitville_collector_graylog_messages_total" in rig.ask("GET", "/metrics").body.decode()
        rig.stop()


def test_an_outage_and_restarts(tmp_path: Path) -> None:
    """GELF-04, GELF-05: what is received while Graylog is away, and while the collector is killed and stopped
    meanwhile, comes in order afterwards: none missing, and what comes twice has the same id.
    """
    receiver = Receiver()
    with running(tmp_path, extra=settings(receiver)) as rig:
        key = rig.key("shop")
        wanted = posted(rig, key, [end() for _ in range(300)])
        rig.kill()
        rig.start()
        wanted += posted(rig, key, [end() for _ in range(300)])
        rig.stop()
        receiver.open()
        try:
            rig.start()
            receiver.wait(200)
            rig.kill()
            rig.start()
            wanted += posted(rig, key, [end() for _ in range(50)])
            receiver.wait(len(wanted))
            rig.stop()
        finally:
            receiver.close()
        assert receiver.once() == wanted


def test_cut_in_the_middle_of_a_message(tmp_path: Path) -> None:
    """GELF-04, row 24: over cuts in the middle of messages every record comes at least once, whole and in order."""
    with receiving(cut=after_bytes(random.Random(24), 3, 40_000)) as receiver:
        with running(tmp_path, extra=settings(receiver)) as rig:
            wanted = posted(rig, rig.key("shop"), [end(context={"x": "y" * 700}) for _ in range(400)])
            receiver.wait(len(wanted))
            rig.stop()
        assert receiver.cuts == 3
        assert receiver.torn
        assert receiver.repeated() > 0
        assert receiver.once() == wanted


def test_a_receiver_that_is_not_there_holds_up_nobody(tmp_path: Path) -> None:
    """GELF-03, LIST-07: records are stored and answered all the same; the log and /ready say what to do; the breaker's
    state is on disk.
    """
    receiver = Receiver()
    with running(tmp_path, extra=settings(receiver)) as rig:
        posted(rig, rig.key("shop"), [end()])
        until = time.monotonic() + 30
        while not (told := rig.ask("GET", "/ready").json)["graylog"]["failures"]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert told["ready"] is True
        assert f"no connection to 127.0.0.1:{receiver.port}" in told["graylog"]["problem"]
        assert (told["replay"]["pending"], told["replay"]["last_replay"]) == (1, None)
        assert "is an input for GELF TCP running there?" in rig.log
        assert '"failure_count": 1' in (rig.data / "circuit-breaker-state" / "graylog.state").read_text()
        rig.stop()


def test_cut_under_tls(tmp_path: Path) -> None:
    """GELF-04: over cuts in the middle of messages, by TLS, every record comes at least once, whole and in order."""
    pem, context = certified(tmp_path / "tls")
    (tmp_path / "ca.pem").write_bytes(pem)
    with receiving(tls=context, cut=after_bytes(random.Random(5), 2, 40_000)) as receiver:
        extra = settings(receiver, protocol="tls", ca=str(tmp_path / "ca.pem"))
        with running(tmp_path / "rig", extra=extra) as rig:
            wanted = posted(rig, rig.key("shop"), [end(context={"x": "y" * 700}) for _ in range(200)])
            receiver.wait(len(wanted))
            rig.stop()
        assert receiver.cuts == 2
        assert receiver.once() == wanted


def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    """GELF-06: what is wrong in [graylog] is one line that says so, and the collector does not start."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for keys, why in (
        (
            {"ca": str(tmp_path / "ca.pem"), "protocol": "tls"},
            f"[graylog] ca cannot be used: {tmp_path / 'ca.pem'}: there is no certificate in it",
        ),
        ({"port": "0"}, "[graylog] port = '0': a port is wanted"),
        ({"host": "http://graylog/"}, "[graylog] host = 'http://graylog/': the name or address"),
        ({"protocol": "smoke"}, "[graylog] protocol = 'smoke': one of tcp"),
    ):
        rig = Rig(tmp_path / keys.get("protocol", next(iter(keys))), extra=settings(Receiver(), **keys))
        try:
            rig.spawn()
            assert rig.process is not None
            assert rig.process.wait(30) == 1
        finally:
            rig.end()
        assert why in rig.log, rig.log
